"""A study: many configs, each trained on every fold with every seed, in one folder that any interruption leaves usable.

A member of a study is a run folder like any other, `members/CONFIG/fold-0-seed-0`: the other commands work on it, and
`train` with the same fold and seed gives the same weights. A member whose predictions.csv is there is done. Without
folds, on a split that the data set brings or on one hold-out, members differ by their seeds: `members/CONFIG/seed-0`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common import files
from fpclass.common.console import say
from fpclass.config import Config, folder_format, read_format
from fpclass.data.files import some_of
from fpclass.errors import RunError
from fpclass.run.folder import Run, lock_folder, make_folder, not_one

IMAGE_RANDOM = "@image-random"
"""Ends the name of a config's twin whose folds divide images instead of people: the leak, shown."""
OF_PEOPLE = "@people-"
"""Stands between the name of a config and the share, in thousandths, of the people that a twin of it trains on."""


TRACES = {"predictions.csv", "checkpoints", "unfinished"}
"""Names of what a training leaves: its result, its weights, the checkpoint of a round of members."""


def has_begun(folder: pathlib.Path) -> bool:
    """Whether anything of a training lies in a folder, at any depth."""
    return any(path.name in TRACES for path in folder.rglob("*"))


@dataclasses.dataclass(frozen=True)
class StudyMember:
    """One training of a study.

    Attributes:
      fold: the fold that validates; 0 where there is one split only.
      seed: of initial weights, order, augmentation and dropout.
    """

    fold: int
    seed: int
    run: Run
    _tables: dict[str, tuple[tuple[int, int], pd.DataFrame]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """How tables call it."""
        return self.run.folder.name

    @property
    def is_done(self) -> bool:
        """Whether it is trained; its predictions are what is written last."""
        return self.run.path("predictions.csv").is_file()

    def read_logits(self, filename: str) -> pd.DataFrame:
        """A table of its predictions, not to be changed: while the file stays as it is, it is read once.

        Raises:
          RunError: missing or damaged.
        """
        path = self.run.path(filename)
        facts = path.stat() if path.is_file() else None
        version = (facts.st_mtime_ns, facts.st_size) if facts else (0, 0)
        known, frame = self._tables.get(filename, (None, None))
        if frame is None or known != version:
            frame = self.run.read_csv(filename, ("filename", "split"), ("label", "logit_"))
            self._tables[filename] = version, frame
        return frame


@dataclasses.dataclass(frozen=True)
class Study:
    """Configs to compare, by name in the order of the table; with `compare_splits` each of them has a twin.

    So has one with a learning curve, for each share of the people.

    Attributes:
      num_folds: 0: one split, that of the data set, or else one hold-out.
      is_quick: whether its trainings were cut short for a first look, by `quick.quick_look`.
    """

    folder: pathlib.Path
    configs: dict[str, Config]
    num_folds: int
    num_seeds: int
    baseline: str
    is_quick: bool = False
    _members: dict[str, list[StudyMember]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def names(self) -> list[str]:
        """Names of the configs that are compared with each other."""
        return [name for name in self.configs if not name.endswith(IMAGE_RANDOM) and OF_PEOPLE not in name]

    @property
    def compares_splits(self) -> bool:
        """Whether each config is also trained on image-random folds."""
        return any(name.endswith(IMAGE_RANDOM) for name in self.configs)

    @property
    def num_splits(self) -> int:
        """How many ways of dividing the images there are: the folds, or 1."""
        return max(self.num_folds, 1)

    @property
    def predictions_file(self) -> str:
        """Name of the table of what members predict of labelled images that they were not trained on."""
        return "out_of_fold.csv" if self.num_folds else "validation_predictions.csv"

    def path(self, name: str) -> pathlib.Path:
        """The path of a file of this study."""
        return self.folder / name

    def members(self, name: str) -> list[StudyMember]:
        """The members of a config: all folds of the first seed, then of the next."""
        if name not in self._members:  # a config is copied for each of them
            seeds = range(first := self.configs[name].seed, first + self.num_seeds)
            self._members[name] = [self._member(name, fold, seed) for seed in seeds for fold in range(self.num_splits)]
        return self._members[name]

    def _member(self, name: str, fold: int, seed: int) -> StudyMember:
        config: Config = ConfigDict(self.configs[name].to_dict())
        config.split.num_folds, config.split.fold, config.seed = self.num_folds, fold, seed
        member = f"fold-{fold}-seed-{seed}" if self.num_folds else f"seed-{seed}"
        return StudyMember(fold, seed, Run(self.folder / "members" / name / member, config.lock()))

    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Holds the folder for one process at a time.

        Raises:
          RunError: another process holds it.
        """
        return lock_folder(self.folder)

    def to_json(self) -> dict[str, Any]:
        """What study.json holds."""
        return folder_format() | {
            "folds": self.num_folds,
            "seeds": self.num_seeds,
            "baseline": self.baseline,
            "quick": self.is_quick,
            "configs": {name: config.to_dict() for name, config in self.configs.items()},
        }

    @classmethod
    def open(cls, folder: pathlib.Path) -> Study:
        """Opens the folder of an earlier study.

        Raises:
          RunError: it is not one.
        """
        path = folder / "study.json"
        if not path.is_file():
            raise RunError(not_one(folder, "study", path.name, "a study"))
        values = files.read_object(path, configs=dict, folds=int, seeds=int, baseline=str)
        written = read_format(values, str(path))
        by_name = {
            name: experiment.config_of_format(config if isinstance(config, dict) else {}, f"{path}: {name}", *written)
            for name, config in values["configs"].items()
        }
        if values["folds"] < 0 or values["folds"] == 1 or values["seeds"] < 1 or values["baseline"] not in by_name:
            raise RunError(
                f"{path}: folds {values['folds']}, seeds {values['seeds']} and baseline {values['baseline']!r} make no "
                "study; it was changed or damaged"
            )
        is_quick = values.get("quick") is True
        return cls(folder, by_name, values["folds"], values["seeds"], values["baseline"], is_quick)

    def changed(self, overrides: Sequence[str], num_seeds: int | None = None) -> Study:
        """The same study with what may still be chosen after training, and perhaps more seeds."""
        by_name = {name: experiment.override(config, overrides, is_study=True) for name, config in self.configs.items()}
        return dataclasses.replace(self, configs=by_name, num_seeds=num_seeds or self.num_seeds)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the folder, or goes on in the one that holds this study or a part of it, and holds it meanwhile.

        Raises:
          RunError: it holds another study or something else, another process holds it, or it cannot be written to.
        """
        path = self.path("study.json")
        make_folder(self.folder, path.name, "study")
        with self.lock():
            files.sweep(self.folder)
            if path.is_file():
                self._make_room(Study.open(self.folder))
            files.write_json(path, self.to_json())
            yield

    def _make_room(self, there: Study) -> None:
        """Refuses what would change trained members; removes what is left of untrained ones that have changed.

        A study may grow by configs and seeds, and a config that failed may be corrected or left out.
        """
        is_begun = {name: any(member.is_done for member in there.members(name)) for name in there.configs}
        changed, stale = [], []
        if any(is_begun.values()):
            if there.num_folds != self.num_folds:
                changed.append(f"--folds: {there.num_folds} there, {self.num_folds} now")
            if there.num_seeds > self.num_seeds:
                changed.append(f"--seeds: {there.num_seeds} there, {self.num_seeds} now")
        for name, config in there.configs.items():
            if name not in self.configs:
                reasons = [f"config only there: {name}"]
            else:
                reasons = [
                    f"{name} {key}: {old!r} there, {new!r} now"
                    for key, (old, new) in experiment.training_differences(config, self.configs[name]).items()
                ]
            changed += reasons if is_begun[name] else []
            stale += [(name, reasons[0])] if reasons and not is_begun[name] else []
        if changed:
            shown = some_of(changed, 3, "; ")
            raise RunError(f"{self.folder} belongs to another study ({shown}); choose another --workdir")
        for name, reason in stale:
            left = self.path("members") / name
            if has_begun(left):
                say(f"removed: {left}, trained in part by other settings ({reason})")
            shutil.rmtree(left, ignore_errors=True)
        if not any(is_begun.values()):  # the data may have been what had to be corrected
            self.path("environment.json").unlink(missing_ok=True)
