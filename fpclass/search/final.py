"""One network in place of many: the chosen config trained on every labelled image, beside the members of its folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from fpclass.common import files
from fpclass.common.console import Interruption
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, read_model
from fpclass.search.halving import judged_images
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import SeedLogits, resample_configs
from fpclass.stats.comparison.selection import choose
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.decisions.rule import fit_rule
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import Ensemble, average_members, cross_fitted_ensemble
from fpclass.stats.weighted_metrics import metric_value
from fpclass.study.conclude import bootstrap_of, judged_are
from fpclass.study.metric import metric_of, name_of
from fpclass.study.one_network import on_test_images, train_on_all, write_rule
from fpclass.study.out_of_fold import OutOfFold, collect
from fpclass.study.study import Study

FOLDER = "final"
ENSEMBLE, ONE = "ensemble", "one way chosen by the other folds"
OPEN = "what all images add to one network, and the average over folds to the ensemble, the folds cannot say"


def chosen_of(study: Study) -> str:
    """The best of the configs in the ensemble of a judged study, by the study's metric, calibrated, out of fold."""
    record = files.read_object(study.path("ensemble.json"), weights=dict, classes=list, class_names=list)
    metric = metric_of(study.configs[study.baseline], record["classes"], record["class_names"])
    weights: dict[str, float] = record["weights"]
    found = collect(study, names_in(weights))
    return best_of(weights, _calibrated(study, found), found.cohort.labels, metric)


def best_of(
    weights: Mapping[str, float],
    log_probabilities: Mapping[str, Float[np.ndarray, "n k"]],
    labels: Int[np.ndarray, " n"],
    metric: str,
) -> str:
    """The best, by a metric, of the configs that have a weight in an ensemble."""
    scores = {name: metric_value(log_probabilities[name], labels, metric) for name in names_in(weights)}
    return choose(scores, metric)


def _calibrated(study: Study, found: OutOfFold) -> dict[str, Float[np.ndarray, "n k"]]:
    """Log-probabilities of each config, seeds averaged, calibrated for each fold by the others."""
    settings, cohort = study.configs[study.baseline], found.cross_fitted
    method, average = settings.study.calibration, settings.predict.averaging
    return {
        name: cross_fitted_calibration(average_members(logits, average), cohort, method)[0]
        for name, logits in found.logits.items()
    }


def train_final(study: Study, name: str, prepared: Prepared, interruption: Interruption) -> Run | None:
    """Trains a config of a study on all labelled images, or goes on with it, into its folder `final`.

    Nothing is chosen: as many epochs as the best ones of the folds were, in the middle; of a probe the strength by an
    inner cross-validation, as in the folds. It is calibrated by what the folds' members say of images that they did not
    learn from, since there are none left for itself.

    Returns:
      None if it was interrupted.
    """
    run = train_on_all(study.folder / FOLDER, study.members(name), prepared, interruption)
    if run is None:
        return None
    images, log_probabilities = judged_images(study, name, range(study.num_splits))
    labels, where = images["label"].to_numpy(np.int64), "out of fold" if study.num_folds else "of validation"
    fitted_on = f"the members of {name}, {len(labels)} images {where}"
    settings = run.config.study
    write_rule(run, fit_rule(log_probabilities, labels, fitted_on, method=settings.calibration, cost=settings.cost))
    return run


def beside_the_ensemble(study: Study, run: Run, prepared: Prepared) -> str:
    """A sentence about which predicts better, the ensemble of the folds or the final network.

    By labelled test images, which neither learns from, where there are some; or else by what the folds' members
    predict, which tells what the other configs of the ensemble bring, and no more.
    """
    described = read_model(run)
    metric = metric_of(run.config, described["classes"], described["class_names"])
    called = name_of(metric, described["class_names"]).replace("_", " ")
    of_final, taken = _of_final(study, run, prepared), names_in(weights_of(study))
    if not of_final and len(taken) == 1:
        return f"the ensemble is of {taken[0]} alone: {OPEN}"
    judged, cohort, where, caveat = of_final or _by_members(study, metric)
    (alone,) = judged.keys() - {ENSEMBLE}
    resampled = resample_configs(judged, cohort, metric, bootstrap_of(run.config))
    difference = compare_all(resampled, ENSEMBLE, margin=run.config.study.margin)[alone].difference
    scores = {each: resampled[each].score.mean for each in judged}
    if caveat:  # the table has intervals of these
        scores = {each: dataclasses.replace(score, low=None, high=None) for each, score in scores.items()}
    shown = ", ".join(f"{each} {score}" for each, score in scores.items())
    return f"{where}, {called}: {shown}; the one network brings {difference:+}{caveat}"


def weights_of(study: Study) -> dict[str, float]:
    """The weight of each config that could have a part in the ensemble of a judged study."""
    return files.read_object(study.path("results.json"), ensemble=dict)["ensemble"]["weights"]


def names_in(weights: Mapping[str, float]) -> list[str]:
    """The configs that have a weight in an ensemble."""
    return [name for name, weight in weights.items() if weight]


Judged = tuple[dict[str, SeedLogits], Cohort, str, str]
"""Log-probabilities of the ensemble and of one network; of which images; where that is, and what it leaves open."""


def _of_final(study: Study, run: Run, prepared: Prepared) -> Judged | None:
    """The final network itself beside the ensemble; None where there are no labelled test images."""
    found = on_test_images(study, run, prepared)
    if found is None:
        return None
    ensemble, final, cohort = found
    judged = {ENSEMBLE: ensemble[None], FOLDER: final[None]}
    return judged, cohort, f"on {len(cohort)} labelled test images", ""


def _by_members(study: Study, metric: str) -> Judged:
    """Out-of-fold predictions of the best config beside the ensemble; weighted, and chosen, by the other folds.

    Both are calibrated: each fold by the others, so that a choice by the others has seen temperatures that this fold
    had a part in. Accuracy does not depend on them, log loss hardly.
    """
    settings = study.configs[study.baseline]
    found = collect(study, weights_of(study))
    cohort, calibrated = found.cross_fitted, _calibrated(study, found)
    ensemble = cross_fitted_ensemble(found.logits, cohort, average=settings.predict.averaging)
    method = settings.study.calibration
    judged = {
        ENSEMBLE: cross_fitted_calibration(ensemble.log_probabilities, cohort, method)[0][None],
        ONE: chosen_by_others(ensemble, calibrated, cohort, metric)[None],
    }
    return judged, found.cohort, judged_are(study), f"; {OPEN}"


def chosen_by_others(
    ensemble: Ensemble, log_probabilities: Mapping[str, Float[np.ndarray, "n k"]], cohort: Cohort, metric: str
) -> Float[np.ndarray, "n k"]:
    """Nested cross-validation of the choice: for each fold the predictions of the config that is best on the others.

    The config that is best on all images has been lucky on them too: beside an ensemble whose weights are from other
    images it would look too good.
    """
    out = np.empty_like(ensemble.log_probabilities)
    for fold, weights in enumerate(ensemble.weights_per_fold):
        inside = cohort.folds == fold
        of_others = {name: values[~inside] for name, values in log_probabilities.items()}
        out[inside] = log_probabilities[best_of(weights, of_others, cohort.labels[~inside], metric)][inside]
    return out
