"""Predictions of image files: what `fpclass predict` prints. A study's ensemble shares all but the logits."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fpclass.config import Config
from fpclass.console import progress
from fpclass.data.decode import Images, decode_table
from fpclass.data.files import image_files
from fpclass.data.resize import Decoding
from fpclass.data.sources import FileReader
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError, printable
from fpclass.run.best import BestModel
from fpclass.run.decisions.people import read_pooling, with_people_thresholds
from fpclass.run.decisions.rule import read_rule
from fpclass.run.decisions.whose import Whose, whose_files
from fpclass.run.folder import Run
from fpclass.run.prepare import read_classes
from fpclass.stats.cohort import group_codes
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.probabilities.ensembling import LogProbabilities
from fpclass.train.inputs.streaming import memory_for_images


def predict_files(run: Run, inputs: Sequence[pathlib.Path], whose: Whose | None = None) -> tuple[pd.DataFrame, str]:
    """Predicts image files, or the images of folders at any depth, with the best checkpoint.

    Returns:
      As `predictions_frame`, and in words what the probabilities are.

    Raises:
      DataError: no such file, or a folder without images.
      RunError: the run has no checkpoint, or its files are damaged.
    """
    classes, class_names = read_classes(run)
    paths = find_inputs(inputs)
    best = BestModel(run, len(classes))
    rule, pooling = read_rule(best, len(classes)), read_pooling(best, len(classes))
    people = whose_files(paths, inputs, pooling, whose or Whose(), run.config)
    images, errors = decode_files(paths, classes, class_names, run.config.data)
    logits = best.predict(images, np.arange(len(paths))).astype(np.float64)
    frame = predictions_frame(
        paths, errors, rule.calibration.apply(logits), rule, run.config, (classes, class_names), (pooling, people)
    )
    return frame, describe_probabilities(rule, pooling)


def decode_files(
    paths: Sequence[pathlib.Path], classes: Sequence[str], class_names: Sequence[str], data: Config
) -> tuple[Images, Sequence[str]]:
    """The images of files as a config's section `data` has them decoded, and of each why it cannot be, or ""."""
    names = [str(path) for path in paths]
    rows = make_rows(names, names, [""] * len(names), tuple(classes))
    read = FileReader(tuple(names), data.max_file_mb)
    table = Table(rows, tuple(classes), tuple(class_names), read=read, source="files")
    images, facts = decode_table(
        table,
        Decoding.of(data),
        cache_dir=None,
        memory_bytes=memory_for_images(data.memory_gb),
        progress=progress,
    )
    return images, facts["error"].tolist()


def predictions_frame(
    paths: Sequence[pathlib.Path],
    errors: Sequence[str],
    log_probabilities: LogProbabilities,
    rule: DecisionRule,
    config: Config,
    named: tuple[Sequence[str], Sequence[str]],
    pooled: tuple[Pooling, np.ndarray | None] = (Pooling("none"), None),
) -> pd.DataFrame:
    """The table of predicted files.

    Args:
      errors: of each file, why it could not be decoded, or "".
      log_probabilities: of each file [N, K], calibrated by the rule.
      config: `submit.threshold_for` and `study.cost` say how a class is chosen.
      named: the classes as the source codes them, and their names.
      pooled: how images are pooled, and the person of each file [N], from `whose_files`.

    Returns:
      One row per image: filename, predicted (the source's coding), name, probability_<class> …, calibration (how the
      probabilities were calibrated, and by which images), decision (how the class was chosen), error ("" if
      predicted, otherwise why not, and then all others are empty). Pooled ones also have person and pooling.

    Raises:
      ConfigError: a threshold that was not fitted.
    """
    classes, class_names = named
    is_fine = np.array(errors) == ""
    objective = config.submit.threshold_for
    pooling, people = pooled
    if people is not None:
        readable = np.flatnonzero(is_fine)  # a file that cannot be read says nothing about its person
        log_probabilities = log_probabilities.copy()
        log_probabilities[readable] = pooling.apply(log_probabilities[readable], group_codes(people[readable]))
        rule = with_people_thresholds(rule, pooling)
    predicted = rule.decide(log_probabilities, objective, config.study.cost)
    frame = pd.DataFrame({"filename": [printable(str(path)) for path in paths]})
    if people is not None:
        frame["person"] = people
    frame["predicted"] = np.where(is_fine, np.array(classes, object)[predicted], "")
    frame["name"] = np.where(is_fine, np.array(class_names, object)[predicted], "")
    probabilities = np.where(is_fine[:, None], np.exp(log_probabilities), np.nan)
    for k, value in enumerate(classes):
        frame[f"probability_{value}"] = probabilities[:, k].round(6)
    frame["calibration"] = np.where(is_fine, rule.short, "")
    if people is not None:
        frame["pooling"] = np.where(is_fine, pooling.short, "")
    frame["decision"] = np.where(is_fine, rule.describe_decision(objective, classes[-1]), "")
    frame["error"] = list(errors)
    return frame


def describe_probabilities(rule: DecisionRule, pooling: Pooling) -> str:
    """In words what the probabilities are."""
    return f"probabilities: {rule.words}" + ("" if pooling.method == "none" else f"; {pooling.words}")


def find_inputs(inputs: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The image files in a list of files and folders, each once.

    Raises:
      DataError: a path that does not exist, or a folder without images.
    """
    paths: dict[pathlib.Path, None] = {}
    for path in inputs:
        images = image_files(path) if path.is_dir() else [path]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir() and not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: no image file, and no folder")
        if not images:
            raise DataError(f"{path}: no image files in this folder")
        paths |= dict.fromkeys(images)
    return list(paths)
