"""What a report is about: where the files of a folder have its config, its scores and its people."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from fpclass.config import base_config, flatten
from fpclass.errors import printable
from fpclass.report.facts import Cited, Facts, Sentence, sentence, why

Keys = tuple[str, ...]
"""A file, and the keys of a value in it."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A run or a study, as its report reads it.

    Attributes:
      what: what it is called in sentences: "training" or "study".
      config: where the config is; of a study that of its baseline.
      scores: where the metrics are that are reported, as `evaluate_predictions` gives them.
      judged: what the images are called that they are of.
      units: where `person` and `diagnostics` are.
      per: the key of diagnostics by image and by person.
    """

    facts: Facts
    what: str
    config: Keys
    scores: Keys
    judged: str
    units: Keys
    per: tuple[str, str] = ("per_image", "per_person")

    @classmethod
    def of_run(cls, folder: pathlib.Path) -> Subject:
        """A run folder."""
        facts = Facts(folder)
        config = ("config.json", "config") if facts.get("config.json", "config") is not None else ("config.json",)
        metrics = ("metrics.json", "validation")
        return cls(facts, "training", config, metrics, "validation images", metrics)

    @property
    def is_study(self) -> bool:
        """Whether it is one of many trainings."""
        return self.what == "study"

    @property
    def has_people(self) -> bool:
        """Whether the data say whose images they are."""
        return bool(self.facts.get("audit.json", "summary", "num_people"))

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, as figures have them; errors as `Facts.at`."""
        return [printable(str(name)) for name in self._described("class_names")]

    @property
    def classes(self) -> list[str]:
        """The classes as the source codes them; errors as `Facts.at`."""
        return list(map(str, self._described("classes")))

    def _described(self, key: str) -> list[Any]:
        file = next((f for f in ("model.json", "ensemble.json") if self.facts.is_there(f)), "audit.json")
        return self.facts.at(file, key)

    def setting(self, key: str, show: Callable[[Any], str] | None = None) -> Cited:
        """A value of the config by its dotted key; errors as `Facts.at`."""
        path = (*self.config, *key.split("."))
        return self.facts.cite(*path, show=show) if show else self.facts.cite(*path)

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Keys of the config that are not as by default, with (default, value); errors as `Facts.at`."""
        values, defaults = flatten(self.facts.at(*self.config)), flatten(base_config())
        return {
            key: (defaults.get(key), value)
            for key, value in values.items()
            if as_json(value) != as_json(defaults.get(key))
        }

    def score(self, *keys: str, sign: str = "") -> Cited:
        """A score with its interval; errors as `Facts.interval`."""
        return self.facts.interval(*self.scores, *keys, sign=sign)


def as_json(value: Any) -> Any:
    """A value as JSON brings it back: tuples as lists."""
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


Maker = Callable[[Subject], Sentence | None]
"""Makes a sentence of a folder; None where there is nothing to say."""


def said(subject: Subject, makers: Sequence[Maker]) -> list[Sentence]:
    """The sentences that some functions make of a folder; the reason in its place where one cannot."""
    sentences: list[Sentence] = []
    for make in makers:
        try:
            made = make(subject)
        except Exception as error:  # a folder may hold anything, and the other sentences are worth having
            made = (f"[Missing here: {why(error, subject.facts.folder)}.]",)
        if made:
            sentences.append(made)
    return sentences


def counted(number: Cited, one: str, many: str) -> Sentence:
    """A number of things, with the word that suits it."""
    return (number, f" {one if number.text == '1' else many}")


def of_units(subject: Subject, images: Cited, units: Cited, word: str) -> Sentence:
    """So many images of so many people, or so many of them independent, where not all are."""
    if subject.has_people:
        return sentence("{n} {word} of {u} people", n=images, word=word, u=units)
    if images.text == units.text:
        return (images, f" {word}")
    return sentence("{n} {word} ({u} of them independent)", n=images, word=word, u=units)
