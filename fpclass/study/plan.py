"""What a study compares, before it begins: its configs, found and loaded, and the folds that its data allow."""

from __future__ import annotations

import glob
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common.console import progress, say
from fpclass.common.parallel import is_first_process
from fpclass.config import Config, flatten, is_user_path, shipped
from fpclass.data.sources import load_table
from fpclass.data.splits import TEST, VALIDATION
from fpclass.errors import ConfigError, WeightsError
from fpclass.experiment.propose import name_of
from fpclass.study.study import IMAGE_RANDOM, Study
from fpclass.train.task import check_network, require_weights

DEFAULT_FOLDS = 5
"""Where the data set gives no validation images of its own."""


def default_folder(root: str, *, is_quick: bool = False) -> pathlib.Path:
    """The folder of a study where none is given: runs/study-NAME of the folder of images; runs/study without one."""
    name = ["study", *([name_of(root)] if root else []), *(["quick"] if is_quick else [])]
    return pathlib.Path("runs", "-".join(name))


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


def default_folds(config: Config, most: int = DEFAULT_FOLDS) -> int:
    """0 where the data set gives its own validation images, which then validate; else `most`.

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
    if len(counts) < 2 or counts.min() >= most:
        return most
    num_folds = max(int(counts.min()), 2)
    if is_first_process():
        rarest = table.class_names[int(counts.to_numpy().argmin())]
        say(f"{num_folds} folds in place of {most}: class {rarest!r} has no more to divide")
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
