"""Which differences are real: the table of a study, or single runs on the same validation images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fpclass.api.trained import TrainedRun, TrainedStudy, load
from fpclass.config import Config, flatten
from fpclass.data.splits import VALIDATION
from fpclass.errors import ConfigError, DataError
from fpclass.run.folder import Run
from fpclass.run.prepare import read_model
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import resample_configs
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.probabilities.ensembling import average_members
from fpclass.stats.scrutiny.clustered import clustered_tests
from fpclass.study.metric import metric_of
from fpclass.study.report import StudyRow, to_frame
from fpclass.study.scrutiny.clustered import p_columns

Trained = TrainedRun | TrainedStudy | str | os.PathLike[str]
OF_ONE = ("name", "seed")
"""Keys by which several trainings of one experiment may differ."""


def compare(trained: Trained | Sequence[Trained], baseline: str | None = None) -> pd.DataFrame:
    """Compares what was trained, pair by pair on the same images, with a verdict in words.

    Args:
      trained: a study, whose table it is; or runs, the first of which is the baseline. Runs that differ in their seed
        alone are trainings of one experiment: two or more of each are what a verdict takes. Folders will do.
      baseline: name of the run that the others are compared with, that of its folder; of a study it is chosen before.

    Returns:
      The columns of study.csv, a row for each experiment: mean score with its interval, difference from the baseline
      with its own, p value (adjusted for the length of the table), verdict. Of single runs the interval of the
      difference is about these very networks, and so are p_mcnemar_clustered and p_auc_clustered.

    Raises:
      DataError: runs that were judged on other images.
      ConfigError: no such baseline, or nothing to compare.
      RunError: a folder is not finished, or damaged.
    """
    given = [trained] if isinstance(trained, TrainedRun | TrainedStudy | str | os.PathLike) else list(trained)
    opened = [one if isinstance(one, TrainedRun | TrainedStudy) else load(one) for one in given]
    if len(opened) == 1 and isinstance(opened[0], TrainedStudy):
        if baseline:
            raise ConfigError(f"baseline={baseline!r}: a study has its own, {opened[0].config.name}; leave it out")
        return opened[0].table
    return compare_runs(opened, baseline).frame


@dataclasses.dataclass(frozen=True)
class Compared:
    """Runs on the same validation images, beside each other.

    Attributes:
      experiments: the runs of each, by its name.
      baseline: name of the one that the others are compared with.
      filenames: of the images [N].
      cohort: labels and units of the images.
      people: whose each image is, "" where nobody says [N].
      log_probabilities: of each experiment, averaged over its seeds [N, K].
      frame: as `compare` returns it.
    """

    experiments: dict[str, list[TrainedRun]]
    baseline: str
    filenames: np.ndarray
    cohort: Cohort
    people: np.ndarray
    log_probabilities: dict[str, np.ndarray]
    frame: pd.DataFrame


def compare_runs(opened: Sequence[object], baseline: str | None = None) -> Compared:
    """Compares two runs or more; arguments and errors as `compare`."""
    runs = [one for one in opened if isinstance(one, TrainedRun)]
    if len(runs) < max(2, len(opened)):
        raise ConfigError("compare takes one study, or two runs or more")
    experiments = _experiments(runs)
    baseline = baseline or next(iter(experiments))
    if baseline not in experiments:
        raise ConfigError(f"baseline={baseline!r}: no such run; there are {', '.join(experiments)}")
    first = experiments[baseline][0]
    tables = {name: [_judged(run) for run in runs] for name, runs in experiments.items()}
    reference = tables[baseline][0]
    for name, of_seeds in tables.items():
        for run, table in zip(experiments[name], of_seeds, strict=True):
            _check_same_images(first, reference, run, table)
    described = read_model(Run(first.folder, first.config))
    cohort = Cohort(reference["label"].to_numpy(), reference["unit"].to_numpy(), class_names=described["class_names"])
    logits = {name: np.stack([_logits(table) for table in of_seeds]) for name, of_seeds in tables.items()}
    averaged = {name: average_members(of_seeds, first.config.predict.averaging) for name, of_seeds in logits.items()}
    frame = _table(logits, averaged, cohort, baseline, first.config, described)
    names, people = (reference[column].to_numpy(str) for column in ("filename", "group"))
    return Compared(experiments, baseline, names, cohort, people, averaged, frame)


def _experiments(runs: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Runs by experiment, named by their config where there are several seeds, else by their folder."""
    alike: dict[Any, list[TrainedRun]] = {}
    for run in runs:
        values = tuple(pair for pair in flatten(run.config).items() if pair[0] not in OF_ONE)
        alike.setdefault(values, []).append(run)
    named = {}
    for of_one in alike.values():
        if len({run.config.seed for run in of_one}) < len(of_one):
            raise ConfigError(f"{of_one[0].folder}: given twice, or trained twice by the same seed; leave one out")
        name = of_one[0].config.name if len(of_one) > 1 else _folder_name(of_one[0], runs)
        named[name if name not in named else str(of_one[0].folder)] = of_one
    return named


def _folder_name(run: TrainedRun, runs: Sequence[TrainedRun]) -> str:
    """The name of a run's folder; with those above it as far as other runs have the same."""
    parts, others = run.folder.parts, [other.folder.parts for other in runs if other is not run]
    for length in range(1, len(parts)):
        if not any(other[-length:] == parts[-length:] for other in others):
            return str(pathlib.PurePath(*parts[-length:]))
    return str(run.folder)


def _table(
    logits: dict[str, np.ndarray],
    averaged: dict[str, np.ndarray],
    cohort: Cohort,
    baseline: str,
    settings: Config,
    described: dict[str, Any],
) -> pd.DataFrame:
    """The table that `compare` returns, of logits [S, N, K] by experiment, and of their averages over seeds."""
    metric = metric_of(settings, described["classes"], described["class_names"])
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    resampled = resample_configs(logits, cohort, metric, bootstrap)
    compared = compare_all(resampled, baseline, margin=settings.study.margin)
    rows = [
        StudyRow(name, of.score, of.members, compared.get(name), is_baseline=name == baseline)
        for name, of in resampled.items()
    ]
    tests = [
        p_columns(None if name == baseline else clustered_tests(values, averaged[baseline], cohort))
        for name, values in averaged.items()
    ]
    frame = to_frame(rows, metric, described["trained_on"])
    return pd.concat([frame, pd.DataFrame(tests, dtype=np.float64)], axis=1)


def _check_same_images(first: TrainedRun, reference: pd.DataFrame, run: TrainedRun, table: pd.DataFrame) -> None:
    """Refuses runs that were judged on other images, or by other classes.

    Raises:
      DataError: they were; the message says how many images both have.
    """
    if table[["filename", "label"]].equals(reference[["filename", "label"]]):
        return
    num_both = len(set(reference["filename"]) & set(table["filename"]))
    how = (
        f"{len(reference)} and {len(table)}, {num_both} of them in both"
        if num_both < max(len(reference), len(table))
        else "the same files with other labels"
    )
    raise DataError(
        f"{run.folder} and {first.folder} were judged on other images, or by other classes ({how}); train them on the "
        "same data with the same split.seed, or as a study: fpclass.study"
    )


def _judged(run: TrainedRun) -> pd.DataFrame:
    """Logits of a run's validation images, sorted by name, and whom they belong to."""
    predictions = run.predictions
    splits = Run(run.folder, run.config).read_csv("splits.csv", ("filename", "unit"))
    judged = predictions[predictions["split"] == VALIDATION].merge(splits[["filename", "unit"]], on="filename")
    return judged.sort_values("filename", ignore_index=True)


def _logits(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if str(name).startswith("logit_")]].to_numpy(np.float64)
