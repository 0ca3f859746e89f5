"""How good a student is beside its ensemble and beside the same network that learnt labels: paired, by people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fpclass.config import Config
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import Resampled, SeedLogits, member_scores, resample_configs
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.intervals import Interval, evaluate_predictions
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import cross_fitted_ensemble, weighted_average
from fpclass.study.conclude import bootstrap_of, judge_predictions
from fpclass.study.evidence.people import pool_ensemble
from fpclass.study.metric import name_of
from fpclass.study.one_network import on_test_images
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study

ENSEMBLE, STUDENT, LABELS = "ensemble", "student", "labels"
"""The ensemble of the folds, the student, and the student's network that learnt labels: a member of the study."""
CALLED = {ENSEMBLE: "ensemble", STUDENT: "student", LABELS: "the same network by labels alone"}
"""What sentences call them."""
METRICS = ("accuracy", "log_loss")
"""That students are judged by beside the study's own."""


def judge_students(
    study: Study, name: str, students: SeedLogits, predictions: OutOfFold, metric: str, num_members: int
) -> dict[str, Any]:
    """The student's calibration, thresholds, promises and pooling, its scores, and its differences, for JSON.

    What is fitted is fitted to the students of the first seed, since one is what predicts; differences are means over
    all of them.

    Args:
      students: of each seed, every image by the student of its fold.
      num_members: of the ensemble.
    """
    settings = study.configs[study.baseline]
    first = judge_predictions(students[0], predictions.cross_fitted, settings)
    pooled = pool_ensemble(study, predictions, students[0], settings)
    thresholds = first["decisions"]["thresholds"]
    return {
        "calibration": first["calibration"]["final"],
        "thresholds": {objective: values["threshold"] for objective, values in thresholds.items()},
        "fitted_on": f"students of the folds, {len(predictions.cohort)} images out of fold",
        "promises": Promises.of_report(first["decisions"], settings.study.sets).to_json(),
        "pooling": pooled.pooling.to_json(),
        "scores": first["scores"],
        "student": name,
        "num_members": num_members,
        "beside": beside_the_ensemble(name, students, predictions, metric, settings),
    }


def beside_the_ensemble(
    name: str, students: SeedLogits, predictions: OutOfFold, metric: str, settings: Config
) -> dict[str, Any]:
    """Scores of ensemble, student and labels out of fold, all calibrated by other folds, and their differences."""
    cohort, average, method = predictions.cross_fitted, settings.predict.averaging, settings.study.calibration
    ensemble = cross_fitted_ensemble(predictions.logits, cohort, average=average)
    of_seeds = [
        weighted_average(
            {each: log_softmax(of[seed]) for each, of in predictions.logits.items()}, ensemble.weights, average
        )
        for seed in range(len(students))
    ]
    raw = {ENSEMBLE: ensemble.log_probabilities[None], STUDENT: students, LABELS: predictions.logits[name]}
    judged = {each: _calibrated(of_each, cohort, method) for each, of_each in raw.items()}
    return differences(judged, predictions.cohort, metric, settings, _calibrated(np.stack(of_seeds), cohort, method))


def _calibrated(logits: SeedLogits, cohort: Cohort, method: str) -> SeedLogits:
    return np.stack([cross_fitted_calibration(of_seed, cohort, method)[0] for of_seed in logits])


def differences(
    judged: Mapping[str, SeedLogits],
    cohort: Cohort,
    metric: str,
    settings: Config,
    of_seeds: SeedLogits | None = None,
) -> dict[str, dict[str, Any]]:
    """By the study's metric, accuracy and log loss: scores, and what the student is less each of the others.

    Args:
      judged: by name, of each seed; of the ensemble of one, which is the average of them.
      of_seeds: the ensemble of each seed alone. What these differ by is the noise of training in their average.
    """
    margins = dict.fromkeys(METRICS, 0.0) | {metric: settings.study.margin}  # which is in units of the study's
    found = {}
    for of, margin in margins.items():
        resampled = resample_configs(judged, cohort, of, bootstrap_of(settings))
        if of_seeds is not None:
            scores = member_scores(of_seeds, cohort, of)
            noisy = resampled[ENSEMBLE].members + scores - scores.mean(axis=1, keepdims=True)
            resampled[ENSEMBLE] = dataclasses.replace(resampled[ENSEMBLE], members=noisy)
        found[of] = _less_others(resampled, margin)
    return found


def _less_others(resampled: Mapping[str, Resampled], margin: float) -> dict[str, Any]:
    found: dict[str, Any] = {each: of_config.score.mean.to_json() for each, of_config in resampled.items()}
    for other in resampled.keys() - {STUDENT}:
        pair = {each: resampled[each] for each in (other, STUDENT)}
        compared = compare_all(pair, other, margin=margin)[STUDENT]
        found[f"less_{other}"] = compared.difference.to_json() | {"verdict": compared.verdict}
    return found


def judge_on_test(study: Study, run: Run, prepared: Prepared, metric: str) -> dict[str, Any] | None:
    """The student of all images on labelled test images, and its difference from the whole ensemble; None without."""
    found = on_test_images(study, run, prepared)
    if found is None:
        return None
    ensemble, student, cohort = found
    settings = study.configs[study.baseline]
    judged = {ENSEMBLE: ensemble[None], STUDENT: student[None]}
    scores = evaluate_predictions(student, cohort, bootstrap_of(settings))
    return scores | {"beside": differences(judged, cohort, metric, settings)}


def sentences(record: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """What there is to say of a student, a line each.

    The record is of `judge_students`, with `test` of `judge_on_test`.
    """
    found = [f"distilled from an ensemble of {record['num_members']} members into one network, {record['student']}"]
    for metric, of in record["beside"].items():
        lost, gained = (Interval.of(of[f"less_{other}"]) for other in (ENSEMBLE, LABELS))
        scores = (f"{called} {Interval.of(of[each])}" for each, called in CALLED.items())
        found.append(
            f"{name_of(metric, class_names).replace('_', ' ')} out of fold: {', '.join(scores)}; the student less the "
            f"ensemble {lost:+}: {of[f'less_{ENSEMBLE}']['verdict']}; less {CALLED[LABELS]} {gained:+}: "
            f"{of[f'less_{LABELS}']['verdict']}"
        )
    for metric, of in record["test"]["beside"].items() if record["test"] else ():
        lost = Interval.of(of[f"less_{ENSEMBLE}"])
        scores = (f"{CALLED[each]} {Interval.of(of[each])}" for each in (ENSEMBLE, STUDENT))
        found.append(
            f"{name_of(metric, class_names).replace('_', ' ')} on test images: {', '.join(scores)}; the student of all "
            f"images less the whole ensemble {lost:+}"
        )
    return found
