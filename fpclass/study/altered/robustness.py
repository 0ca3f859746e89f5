"""Robustness: a trained model on corrupted copies of images that it never saw, six corruptions at five strengths."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass.common import files
from fpclass.common.console import Interruption, duration, is_watched, make_bar, say
from fpclass.data.altered.corruptions import CORRUPTIONS, NUM_STRENGTHS, corrupt
from fpclass.report.style import save_figure
from fpclass.report.text_tables import align_columns
from fpclass.run.prepare import note_of
from fpclass.stats.intervals import Bootstrap, describe_intervals
from fpclass.stats.scrutiny.altered import CopyScores, PairedScores
from fpclass.study.altered.figures import robustness_figure
from fpclass.study.altered.unseen import Unseen

FILE, FIGURE, COMPARED = "robustness.json", "figures/robustness.png", "figures/robustness_compared.png"
NUM_COPIES = NUM_STRENGTHS * len(CORRUPTIONS)
LONG_SECONDS = 20.0
"""What takes longer is announced."""
Curves = dict[str, list[CopyScores]]
"""By corruption the scores from strength 1 on; after a stop of as many as there are."""


@dataclasses.dataclass(frozen=True)
class Robustness:
    """How a model fares on corrupted copies.

    Attributes:
      name: of the model, for figures.
      unseen: the model and the images.
      plain: scores of the images as they are.
      chance: accuracy of always saying the most frequent class.
      curves: by corruption.
      is_finished: whether all copies were asked about.
    """

    name: str
    unseen: Unseen
    plain: CopyScores
    chance: float
    curves: Curves
    is_finished: bool

    @property
    def interval(self) -> str:
        """What the intervals are."""
        return describe_intervals(self.unseen.cohort, _bootstrap(self.unseen)) or "no intervals"

    @property
    def figure_of(self) -> tuple[str, CopyScores, Curves, float]:
        """What a figure shows of it."""
        return self.name, self.plain, self.curves, self.chance


def measure(unseen: Unseen, name: str, interruption: Interruption, seed: int = 0) -> Robustness:
    """Asks a model about corrupted copies of its images, until all have had their turn or somebody asks to stop."""
    copies = [(kind, strength) for strength in range(1, NUM_STRENGTHS + 1) for kind in CORRUPTIONS]
    paired = PairedScores(unseen.predict(), unseen.cohort, _bootstrap(unseen))
    curves: Curves = {}
    began = time.perf_counter()
    bar = make_bar(copies, desc="corrupted copies", unit="copy", leave=False, disable=not is_watched())
    for number, (kind, strength) in enumerate(bar):
        if interruption.signal_number:
            break
        alter = functools.partial(_corrupted, kind=kind, strength=strength, seed=seed)
        curves.setdefault(kind, []).append(paired.of(unseen.predict(alter), NUM_COPIES))
        if number == 1:  # the first one compiles
            remaining = (time.perf_counter() - began) / 2 * (len(copies) - 2)
            if remaining > LONG_SECONDS:
                say(f"{len(copies)} copies of {len(unseen)} images: about {duration(remaining)} more")
    bar.close()
    is_finished = sum(map(len, curves.values())) == len(copies)
    return Robustness(name, unseen, paired.plain, paired.chance, curves, is_finished)


def _corrupted(image: Any, filename: str, *, kind: str, strength: int, seed: int) -> Any:
    return corrupt(image, kind, strength, filename, seed)


def conclude_robustness(measured: Robustness) -> str:
    """Writes robustness.json and figures/robustness.png into the folder of a model; returns what they say."""
    unseen, folder = measured.unseen, measured.unseen.folder
    note = note_of(unseen.is_synthetic)
    sentences, table = sentences_of(measured), table_of(measured)
    save_figure(robustness_figure([measured.figure_of], measured.interval, note=note), folder / FIGURE)
    about = (
        f"Corruptions of the decoded image after ImageNet-C (Hendrycks and Dietterich 2019). Intervals: "
        f"{measured.interval}; they are about this network as it stands. Differences are paired. What is called lower, "
        f"and what sentences say of copies, goes by intervals that hold for all {NUM_COPIES} copies at once "
        "(Bonferroni), wider than those of the table."
    )
    record = {
        "name": measured.name,
        "num_images": len(unseen),
        "num_groups": unseen.cohort.num_groups,
        "interval": measured.interval,
        "is_finished": measured.is_finished,
        "chance": measured.chance,
        "plain": measured.plain.to_json(),
        "corruptions": {
            kind: {
                "unit": CORRUPTIONS[kind].unit,
                "strengths": [
                    {"strength": value, **scores.to_json()}
                    for value, scores in zip(CORRUPTIONS[kind].strengths, of_kind, strict=False)
                ],
            }
            for kind, of_kind in measured.curves.items()
        },
        "report": {
            "title": "What disturbs it",
            "sentences": sentences,
            "table": table,
            "figures": [FIGURE],
            "note": " ".join(filter(None, (note and f"{note}.", about))),
        },
    }
    files.write_json(folder / FILE, record)
    written = f"written     {folder / FILE}, {FIGURE}"
    return "\n".join(["", *align_columns(table), "", *sentences, "", f"[intervals] {measured.interval}", written])


def compare_models(measured: Sequence[Robustness]) -> str:
    """Draws the curves of several models side by side, into the folder of the first; returns where."""
    path = measured[0].unseen.folder / COMPARED
    note = note_of(any(one.unseen.is_synthetic for one in measured))
    save_figure(robustness_figure([one.figure_of for one in measured], measured[0].interval, note=note), path)
    return f"written     {path}: all of them side by side"


def table_of(measured: Robustness) -> list[list[str]]:
    """A row per corruption and strength, with the header."""
    header = ["copy", "accuracy", "difference", "ROC AUC", "log-loss"]
    rows = [header, ["as they are", *_cells(measured.plain)]]
    for kind, of_kind in measured.curves.items():
        corruption = CORRUPTIONS[kind]
        for value, scores in zip(corruption.strengths, of_kind, strict=False):
            rows.append([f"{corruption.words} {value:g}", *_cells(scores)])
    return rows


def _cells(scores: CopyScores) -> list[str]:
    difference = scores.differences.get("accuracy")
    shown = f"{difference:+}" + (" lower" if scores.is_lower else "") if difference else ""
    return [str(scores.scores["accuracy"]), shown, str(scores.scores["roc_auc"]), str(scores.scores["log_loss"])]


def sentences_of(measured: Robustness) -> list[str]:
    """How good the model is on the images as they are, what hurts first, and what does not."""
    people = f"{len(measured.unseen)} images of {measured.unseen.cohort.num_groups} people"
    if measured.unseen.cohort.groups_are != "people":
        people = f"{len(measured.unseen)} images"
    first = f"Accuracy is {measured.plain.scores['accuracy']} on {people} as they are"
    sentences = [f"{first}, and {measured.chance:.3f} for always saying the most frequent class."]
    if not measured.is_finished:
        sentences.append(f"Stopped after {sum(map(len, measured.curves.values()))} of the copies.")
    begins = {kind: _begins_at(of_kind) for kind, of_kind in measured.curves.items()}
    hurt = {kind: at for kind, at in begins.items() if at is not None}
    if hurt:
        earliest = min(hurt.values())
        kind = min(
            (kind for kind, at in hurt.items() if at == earliest),
            key=lambda kind: measured.curves[kind][earliest].loss.value or 0.0,
        )
        sentences.append(_hurts(measured.curves, kind, earliest))
    elif measured.curves:
        sentences.append("No corruption lowers the accuracy so much that these images show it.")
    harmless = [kind for kind, at in begins.items() if at is None]
    if harmless and hurt:
        sentences.append(_harmless(measured.curves, harmless))
    elif len(hurt) == len(CORRUPTIONS):
        latest = max(hurt, key=lambda kind: (hurt[kind], measured.curves[kind][-1].loss.value or 0.0))
        corruption, at = CORRUPTIONS[latest], hurt[latest]
        sentences.append(
            f"All corruptions lower it in the end; {corruption.words} last, at strength {at + 1} "
            f"({_with_unit(latest, at)}): {measured.curves[latest][at].loss:+}."
        )
    return sentences


def _begins_at(of_kind: Sequence[CopyScores]) -> int | None:
    """The first strength, from 0, at which the accuracy is lower; None where it never is."""
    return next((at for at, scores in enumerate(of_kind) if scores.is_lower), None)


def _hurts(curves: Mapping[str, Sequence[CopyScores]], kind: str, at: int) -> str:
    corruption, of_kind = CORRUPTIONS[kind], curves[kind]
    sentence = (
        f"What hurts first is {corruption.words}: at strength {at + 1} ({_with_unit(kind, at)}) the accuracy changes "
        f"by {of_kind[at].loss:+}"
    )
    last = len(of_kind) - 1
    if last > at:
        sentence += f", at strength {last + 1} ({_with_unit(kind, last)}) by {of_kind[last].loss:+}"
    return sentence + "."


def _harmless(curves: Mapping[str, Sequence[CopyScores]], kinds: Sequence[str]) -> str:
    """Those of which no strength is shown to lower the accuracy, each at its last."""
    shown = [
        f"{CORRUPTIONS[kind].words} up to {_with_unit(kind, len(curves[kind]) - 1)} ({curves[kind][-1].loss:+})"
        for kind in kinds
    ]
    return f"Not shown to lower it: {'; '.join(shown)}."


def _with_unit(kind: str, at: int) -> str:
    """`quality 15`, `8 % of black to white`, as the unit says."""
    corruption = CORRUPTIONS[kind]
    return corruption.phrase.format(f"{corruption.strengths[at]:g}")


def _bootstrap(unseen: Unseen) -> Bootstrap:
    settings = unseen.settings.evaluate
    return Bootstrap(settings.num_resamples, settings.confidence)
