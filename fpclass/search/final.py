"""One network in place of many: the chosen config trained on every labelled image, beside the members of its folds."""

from __future__ import annotations

import numpy as np

from fpclass.common import files
from fpclass.common.console import Interruption
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, read_model
from fpclass.search.halving import judged_images, score_on
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import SeedLogits, resample_configs
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.decisions.rule import fit_rule
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import average_members, cross_fitted_ensemble
from fpclass.study.conclude import bootstrap_of, judged_are
from fpclass.study.metric import metric_of, name_of
from fpclass.study.one_network import on_test_images, train_on_all, write_rule
from fpclass.study.out_of_fold import collect
from fpclass.study.study import Study

FOLDER = "final"
ENSEMBLE = "ensemble"


def chosen_of(study: Study) -> str:
    """The best of the configs in the ensemble of a study that is judged, by the study's metric out of fold."""
    weights: dict[str, float] = files.read_object(study.path("ensemble.json"), weights=dict)["weights"]
    taken = [name for name, weight in weights.items() if weight]
    return max(taken, key=lambda name: score_on(study, name, range(study.num_splits)))


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


def beside_the_ensemble(study: Study, name: str, run: Run, prepared: Prepared) -> str:
    """A sentence about which predicts better, the ensemble of the folds or the final network of a config.

    By labelled test images, which neither learns from, where there are some; or else by what the folds' members
    predict, which tells what the other configs of the ensemble bring, and no more.
    """
    described = read_model(run)
    metric = metric_of(run.config, described["classes"], described["class_names"])
    called = name_of(metric, described["class_names"]).replace("_", " ")
    judged, cohort, where, caveat = _of_final(study, run, prepared) or _by_members(study, name)
    alone = next(each for each in judged if each != ENSEMBLE)
    resampled = resample_configs(judged, cohort, metric, bootstrap_of(run.config))
    difference = compare_all(resampled, ENSEMBLE, margin=run.config.study.margin)[alone].difference
    shown = ", ".join(f"{each} {resampled[each].score.mean}" for each in judged)
    return f"{where}, {called}: {shown}; {difference:+} by the one{caveat}"


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


def _by_members(study: Study, name: str) -> Judged:
    """The members of one config beside the ensemble, both calibrated, and the one weighted, by other images."""
    settings = study.configs[study.baseline]
    trained = files.read_object(study.path("results.json"), ensemble=dict)["ensemble"]["weights"]
    found, average = collect(study, trained), settings.predict.averaging
    both = {
        ENSEMBLE: cross_fitted_ensemble(found.logits, found.cross_fitted, average=average).log_probabilities,
        name: average_members(found.logits[name], average),
    }
    method = settings.study.calibration
    judged = {each: cross_fitted_calibration(of, found.cross_fitted, method)[0][None] for each, of in both.items()}
    caveat = "; what all images add to the one, and the average over folds to the other, it does not say"
    return judged, found.cohort, judged_are(study), caveat
