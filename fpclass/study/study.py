"""A study: many configs, each trained on every fold with every seed, in one folder that any interruption leaves usable.

A member of a study is a run folder like any other, `members/CONFIG/fold-0-seed-0`: the other commands work on it, and
`train` with the same fold and seed gives the same weights. A member whose predictions.csv is there is done. Without
folds, on a split that the data set brings or on one hold-out, members differ by their seeds: `members/CONFIG/seed-0`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment, files
from fpclass.config import Config, flatten, folder_format, is_user_path, read_format, shipped
from fpclass.console import progress, say
from fpclass.data.sources import load_table
from fpclass.data.splits import TEST, VALIDATION
from fpclass.errors import ConfigError, RunError, WeightsError
from fpclass.parallel import is_first_process
from fpclass.run.folder import Run, lock_folder, make_folder
from fpclass.train.task import check_network, require_weights

DEFAULT_FOLDS = 5
"""Where the data set gives no validation images of its own."""
IMAGE_RANDOM = "@image-random"
"""Ends the name of a config's twin whose folds divide images instead of people: the leak, shown."""
OF_PEOPLE = "@people-"
"""Stands between the name of a config and the share, in thousandths, of the people that a twin of it trains on."""


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
            raise RunError(f"{folder}: not a study folder (it has no study.json); give the --workdir of a study")
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
            stale += [name] if reasons and not is_begun[name] else []
        if changed:
            shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
            raise RunError(f"{self.folder} belongs to another study ({shown}); choose another --workdir")
        for name in stale:
            shutil.rmtree(self.path("members") / name, ignore_errors=True)
        if not any(is_begun.values()):  # the data may have been what had to be corrected
            self.path("environment.json").unlink(missing_ok=True)


def plan_study(
    folder: pathlib.Path,
    patterns: Sequence[str],
    overrides: Sequence[str],
    *,
    num_folds: int | None,
    num_seeds: int,
    baseline: str | None,
    compare_splits: bool,
) -> Study:
    """Loads the configs that a study compares.

    Of those that a pattern matches, the ones whose pretrained weights cannot be had are skipped, with a line each.

    Args:
      patterns: config files, or patterns of them such as configs/footprints/*.py.
      overrides: as `load_config` takes them, for all configs alike.
      num_folds: at least 2, or 0 for one split; None: `default_folds`.
      baseline: None: the config called "baseline", or the first.
      compare_splits: train each config on image-random folds too.

    Raises:
      ConfigError: no such config, two of one name, or as `assemble`.
      DataError: as `assemble`.
    """
    by_name: dict[str, Config] = {}
    named = find_configs([pattern for pattern in patterns if not glob.has_magic(pattern)])
    skipped: list[str] = []
    is_looked_at = False
    found = find_configs(patterns)
    for file, config in zip(found, experiment.load_configs(found, overrides), strict=True):
        check_network(config)
        if config.name in by_name:
            raise ConfigError(
                f"{file}: another config is called {config.name!r} too; change config.name in one of them"
            )
        if not config.name or set(config.name) & set('/\\:*?"<>|@') or config.name.startswith("."):
            raise ConfigError(f"{file}: config.name is {config.name!r}: it must be fit for the name of a folder")
        if config.model.weights and config.data.root and not (is_looked_at or (folder / "study.json").is_file()):
            load_table(config.data, progress)  # what is wrong with the data is said before weights are fetched
            is_looked_at = True
        if file not in named and _lacks_weights(config, folder):
            skipped.append(config.name)
            continue
        by_name[config.name] = config
    if not by_name:
        raise ConfigError(f"--configs: {', '.join(skipped)} start from pretrained weights that cannot be had")
    if baseline is None:
        baseline = "baseline" if "baseline" in by_name else next(iter(by_name))
    if baseline not in by_name:
        raise ConfigError(f"--baseline={baseline}: no config of that name; there are {', '.join(by_name)}")
    return assemble(
        folder, by_name, num_folds=num_folds, num_seeds=num_seeds, baseline=baseline, compare_splits=compare_splits
    )


def _lacks_weights(config: Config, folder: pathlib.Path) -> bool:
    """Whether a config cannot be trained for want of its weights, which is said; not if it is in this study already."""
    try:
        require_weights(config)
    except WeightsError as error:
        if (folder / "study.json").is_file() and config.name in Study.open(folder).configs:
            return False
        if is_first_process():
            say(f"skipped {config.name}, which starts from pretrained weights: {error}")
        return True
    return False


def assemble(
    folder: pathlib.Path,
    by_name: dict[str, Config],
    *,
    num_folds: int | None,
    num_seeds: int,
    baseline: str,
    compare_splits: bool,
) -> Study:
    """Makes a study of configs by name; the baseline comes first. Arguments as `plan_study`.

    Raises:
      ConfigError: configs that do not divide the people alike, or one split to compare with another.
      DataError: num_folds is None and the images of the baseline cannot be listed.
    """
    if num_folds is None:
        num_folds = default_folds(by_name[baseline])
    _check_comparable(by_name, baseline, ("split.validation_fraction",) * (num_folds == 0))
    if compare_splits and not num_folds:
        raise ConfigError(
            "--compare-splits compares folds of people with folds of images, and this study has one split: give "
            "--folds=5, and where the data set brings its own validation images only its training folder"
        )
    by_name = {baseline: by_name.pop(baseline)} | by_name
    if compare_splits:
        for name, config in list(by_name.items()):
            leaking: Config = ConfigDict(config.to_dict())
            leaking.split.grouped = False
            by_name[name + IMAGE_RANDOM] = leaking.lock()
    return Study(folder, by_name, num_folds, num_seeds, baseline)


def default_folds(config: Config) -> int:
    """0 where the data set gives its own validation images, which then validate; else `DEFAULT_FOLDS`.

    Fewer, which is said, where a class has fewer people, or images that are nobody's.

    Raises:
      DataError: the images cannot be listed.
    """
    table = load_table(config.data, progress)
    if (table.rows["split"] == VALIDATION).any():
        return 0
    rows = table.rows[table.labelled_mask & (table.rows["split"] != TEST)]
    units = rows["group"].where(rows["group"] != "", rows["filename"])
    counts = units.groupby(rows["label"]).nunique()
    if len(counts) < 2 or counts.min() >= DEFAULT_FOLDS:
        return DEFAULT_FOLDS
    num_folds = max(int(counts.min()), 2)
    if is_first_process():
        rarest = table.class_names[int(counts.to_numpy().argmin())]
        say(f"{num_folds} folds in place of {DEFAULT_FOLDS}: class {rarest!r} has no more to divide")
    return num_folds


def describe_plan(study: Study) -> str:
    """A line about how much there is to train."""
    folds = f"{study.num_folds} folds" if study.num_folds else "one split"
    seeds = f"{study.num_seeds} seed{'s' * (study.num_seeds > 1)}"
    num_members = len(study.configs) * study.num_splits * study.num_seeds
    return f"study: {len(study.configs)} configs x {folds} x {seeds} = {num_members} trainings, into {study.folder}"


def find_configs(patterns: Sequence[str]) -> list[str]:
    """Config files by name or pattern, each once, sorted within a pattern; the package's own are found from anywhere.

    Raises:
      ConfigError: a pattern that matches nothing.
    """
    paths: dict[str, None] = {}
    for pattern in patterns:
        places = [pattern] * is_user_path(pattern) + [shipped(pattern)]
        matches = next((names for names in map(sorted, map(glob.glob, places)) if names), [])
        matches = [file for file in matches if file.endswith(".py") and not pathlib.Path(file).name.startswith("__")]
        if not matches and not glob.has_magic(pattern):
            matches = [pattern]  # `load_config` says what is wrong with it
        if not matches:
            raise ConfigError(
                f"--configs={pattern}: no config file matches; quote patterns, as in 'configs/footprints/*.py'"
            )
        paths |= dict.fromkeys(matches)
    return list(paths)


def _check_comparable(by_name: dict[str, Config], baseline: str, more_keys: Sequence[str]) -> None:
    """Paired comparisons need the same images in the same folds, reported by the same rules, and nobody who peeks."""
    keys = ["data.classes", "split.seed", "split.grouped", "predict.averaging", *more_keys]
    settings = {name: flatten(config) for name, config in by_name.items()}
    reference = settings[baseline]
    keys += [key for key in reference if key.startswith(("study.", "evaluate."))]
    for name, values in settings.items():
        for key in keys:
            if values[key] != reference[key]:
                raise ConfigError(
                    f"{name}: {key} is {values[key]!r}, that of {baseline} is {reference[key]!r}: a study compares "
                    f"on the same folds and by the same rules; give one value for all with --config.{key}=…"
                )
        if values["split.selection"] == "validation" and experiment.needs_selection(by_name[name]):
            raise ConfigError(
                f"{name}: split.selection is 'validation', which chooses on the people that report and would be "
                "compared with configs that do not; set it to 'inner'"
            )
    if not reference["split.grouped"]:
        raise ConfigError("split.grouped is False, which leaks people; use --compare-splits to see by how much")
    if not reference["evaluate.num_resamples"]:
        raise ConfigError("evaluate.num_resamples is 0: a study needs resamples of people; 2000 is the default")
