"""The submission: every row to predict once, in the order and the coding of the source."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pandas as pd

from fpclass.common import files
from fpclass.common.console import program, say
from fpclass.config import Config
from fpclass.data.splits import PREDICT, TRAIN
from fpclass.data.table import Table
from fpclass.errors import DataError
from fpclass.run.best import BestModel
from fpclass.run.decisions.people import pool_rows, pooling_for_rows, read_pooling, with_people_thresholds
from fpclass.run.decisions.rule import read_rule
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared
from fpclass.run.refit import refit
from fpclass.stats.decisions.rule import ARGMAX


def nothing_to_predict(table: Table) -> DataError:
    """The error that every image has a label, and how other ones are predicted."""
    if table.listed_in:
        return DataError(f"{table.source}: nothing to predict: every row has a label; leave it empty in such rows")
    new = f"files are predicted by `{program()} predict FILES --workdir=RUN`"
    return DataError(f"{table.source}: nothing to predict: every image has a label; {new}")


def make_submission(
    table: Table, predictions: Predictions, *, filename_column: str, label_column: str, fill_unreadable: bool
) -> pd.DataFrame:
    """Builds and checks the two columns of the submission; labels are integers where the source codes classes as such.

    With `fill_unreadable`, rows whose image could not be read get the most frequent class of the labelled rows; they
    are an error otherwise.

    Raises:
      DataError: nothing to predict, unreadable images that nobody asked to fill, or predictions that do not fit.
    """
    wanted = table.rows.loc[table.to_predict_mask, "filename"]
    if wanted.empty:
        raise nothing_to_predict(table)
    if predictions.frame["filename"].duplicated().any():
        raise DataError(f"predictions hold a file twice: one model per submission; run `{program()} submit` again")
    if not np.isfinite(predictions.logits).all():
        raise DataError("predictions are not finite numbers: the model has diverged; train again into a new --workdir")
    are_integers = all(re.fullmatch(r"0|-?[1-9][0-9]*", value) for value in table.classes)  # 01 stays 01
    classes = [int(value) for value in table.classes] if are_integers else list(table.classes)
    filenames = predictions.frame["filename"]
    predicted = {name: classes[k] for name, k in zip(filenames, predictions.logits.argmax(axis=1), strict=True)}
    missing = [name for name in wanted if name not in predicted]
    if missing and not fill_unreadable:
        reasons = table.rows.set_index("filename").loc[missing[:3], "quarantine"]
        named = ", ".join(f"{name} ({reason or 'no prediction'})" for name, reason in reasons.items())
        raise DataError(
            f"{len(missing)} of {len(wanted)} images to predict could not be read: {named}; mend them, or give "
            "them the majority class with --config.submit.fill_unreadable=True"
        )
    majority = classes[np.bincount(table.labels[table.labelled_mask], minlength=table.num_classes).argmax()]
    labels = [predicted.get(name, majority) for name in wanted]
    submission = pd.DataFrame({filename_column: wanted.to_numpy(), label_column: labels})
    check_submission(submission, wanted.tolist(), set(classes))
    return submission


def check_submission(submission: pd.DataFrame, wanted: list[str], labels: set[object]) -> None:
    """Raises DataError unless the rows are exactly those wanted, in order, each with a known label."""
    names = submission.iloc[:, 0].tolist()
    if submission.shape[1] != 2 or names != wanted:
        raise DataError(f"submission has {len(names)} rows that are not the {len(wanted)} wanted ones in their order")
    foreign = set(submission.iloc[:, 1]) - labels
    if foreign:
        raise DataError(f"submission holds labels {sorted(map(str, foreign))} that are not among the classes")


def write_submission(folder: pathlib.Path, config: Config, table: Table, predictions: Predictions) -> pathlib.Path:
    """Writes submission.csv into a folder, and beside it that the data are synthetic, if they are; returns its path.

    Raises:
      DataError: as `make_submission`.
    """
    submission = make_submission(
        table,
        predictions,
        filename_column=config.data.filename_column,
        label_column="SEX" if config.data.source == "synthetic" else config.data.label_column,
        fill_unreadable=config.submit.fill_unreadable,
    )
    path = folder / "submission.csv"
    files.write_csv(path, submission)
    if table.is_synthetic:
        about = f"submission.csv is about {table.source}: not real people.\n"
        files.write_text(folder / "submission.SYNTHETIC.txt", about)
    return path


def submit(best: BestModel, prepared: Prepared) -> pathlib.Path:
    """Predicts the rows without a label with the best weights of a run; writes submission.csv and returns its path.

    With `submit.refit` the network is trained once more before, on all labelled images: `run.refit`.

    Beside it test_predictions.csv, with the calibrated probability of every class. The class is chosen as
    `submit.threshold_for` says, by the thresholds that `evaluate` fitted on held-out images; with `predict.pool` it is
    one class for all images of a person.

    Raises:
      DataError: as `make_submission`, or rows have no person whose images could be pooled.
      ConfigError: a threshold or a pooling that was not fitted.
    """
    config, table = best.run.config, prepared.table
    by = refit(best, prepared) if config.submit.refit else best
    predictions = best.predict_rows(prepared, (PREDICT,), "test_predictions.csv", by)
    rule = read_rule(best, table.num_classes)
    pooling = pooling_for_rows(config, table, lambda: read_pooling(best, table.num_classes))
    calibrated = predictions.with_logits(rule.calibration.apply(predictions.logits))
    pooled = pool_rows(calibrated, pooling, table.source)
    best.run.write_csv("test_predictions.csv", predictions.frame.assign(**pooled.probability_columns))
    if config.submit.threshold_for != ARGMAX or pooling.method != "none":
        rule = with_people_thresholds(rule, pooling)
        decided = rule.decide(pooled.logits, config.submit.threshold_for, config.study.cost)
        predictions = predictions.with_logits(np.eye(table.num_classes)[decided])
    path = write_submission(best.run.folder, config, table, predictions)
    if not config.submit.refit and (words := describe_training(prepared)):
        say(words)
    return path


def describe_training(prepared: Prepared) -> str:
    """A line about the labels that a run has not learnt from, and what learns from them; "" where there are none."""
    table, train = prepared.table, prepared.splits.rows(TRAIN)
    num_learnt, num_labelled = (~table.copy_mask[train]).sum(), (table.labelled_mask & ~table.copy_mask).sum()
    if num_learnt == num_labelled:
        return ""
    return (
        f"submission: of a network that learnt from {num_learnt:,} of {num_labelled:,} labelled images, since the "
        f"others chose and judged it; `{program()} submit --config.submit.refit=True` trains once more, on all; the "
        "ensemble of a study learns from all too"
    )
