"""The submission of a study: members averaged, configs weighted as ensemble.json says, decided as the config says."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass import files
from fpclass.config import Config
from fpclass.data.splits import PREDICT
from fpclass.errors import ConfigError, DataError
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import check_same_data, prepare
from fpclass.run.submission import write_submission
from fpclass.stats.calibration import Calibration
from fpclass.stats.decisions import cost_decisions
from fpclass.stats.ensembling import LogProbabilities, combine_folds
from fpclass.stats.metrics import log_softmax
from fpclass.study.out_of_fold import collect_test
from fpclass.study.study import Study


def submit_ensemble(study: Study) -> pathlib.Path:
    """Writes submission.csv, whose path it returns, and ensemble_predictions.csv of a finished study.

    Raises:
      RunError: the study is not finished.
      DataError: nothing to predict; the data have changed; or as `make_submission`.
    """
    ensemble = files.read_json(study.path("ensemble.json"))
    config = study.configs[study.baseline]
    first = study.members(next(iter(ensemble["weights"])))[0].run
    prepared = prepare(first.config)
    check_same_data(first, prepared)
    table, splits = prepared.table, prepared.splits
    rows = splits.rows(PREDICT)
    if not len(rows):
        raise DataError(f"{table.source}: nothing to predict: every row has a label; leave it empty in such rows")
    filenames, logits = collect_test(study, ensemble["weights"])
    if filenames != table.rows["filename"].iloc[rows].tolist():
        raise DataError(f"{study.folder}: its members predicted other rows than there are; run the study again")
    combined = combine(logits, study.num_splits, ensemble)
    predictions = Predictions.make(table, splits, rows, combined, "ensemble")
    files.write_csv(study.path("ensemble_predictions.csv"), predictions.frame)
    decided = Predictions.make(table, splits, rows, decide(combined, config, ensemble["thresholds"]), "ensemble")
    return write_submission(study.folder, config, table, decided)


def combine(
    logits: dict[str, Float[np.ndarray, "m n k"]], num_folds: int, ensemble: dict[str, Any]
) -> LogProbabilities:
    """`combine_folds` by what ensemble.json holds."""
    calibration = Calibration.from_json(ensemble["calibration"])
    return combine_folds(logits, num_folds, ensemble["weights"], calibration, ensemble["average"])


def decide(
    log_probabilities: Float[np.ndarray, "n k"], config: Config, thresholds: dict[str, float]
) -> Float[np.ndarray, "n k"]:
    """Scores whose largest is the decision that `submit.threshold_for` asks for.

    Args:
      log_probabilities: calibrated, [N, K].
      config: of the study's baseline; `study.cost` is the cost matrix.
      thresholds: probability of the second class above which it is chosen, by objective.

    Raises:
      ConfigError: a threshold that the study has not fitted, or no cost matrix.
    """
    objective = config.submit.threshold_for
    if objective == "argmax":
        return log_probabilities
    if objective == "cost" and config.study.cost:
        decisions = cost_decisions(np.exp(log_softmax(log_probabilities)), config.study.cost)
    elif objective in thresholds:
        decisions = (np.exp(log_softmax(log_probabilities))[:, 1] > thresholds[objective]).astype(int)
    else:
        known = ", ".join(("argmax", *thresholds))
        raise ConfigError(f"submit.threshold_for is {objective!r}, but the study has {known}; cost needs study.cost")
    return np.eye(log_probabilities.shape[1])[decisions]
