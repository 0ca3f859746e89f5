"""What a study concludes from out-of-fold predictions: by the unit, the margin and the scores that the config names."""

from __future__ import annotations

import pathlib

import numpy as np
from drawn_predictions import people_predictions

from configs import base
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import resample_configs
from fpclass.stats.decisions.thresholds import cross_fitted_threshold
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import cross_fitted_ensemble
from fpclass.study.conclude import bootstrap_of, judge, judge_ensemble
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study


def settings_with(**study):
    config = base.get_config()
    config.evaluate.num_resamples = 200
    config.study.update(study)
    return config


def drawn(num_people=60, per_person=6, **options):
    """Two configs on the same people, the second a little better; the images of a person err alike."""
    logits, cohort = people_predictions(num_people, per_person, **options)
    cohort.class_names = ("woman", "man")
    noise = np.random.default_rng(1).normal(size=logits.shape)
    of_config = {"plain": (logits + noise)[None], "better": logits[None]}
    return OutOfFold([str(i) for i in range(len(cohort))], cohort, of_config, cohort)


def rows_of(predictions, **settings):
    config = settings_with(**settings)
    study = Study(pathlib.Path(), {"plain": config, "better": config}, 5, 1, "plain")
    resampled = resample_configs(predictions.logits, predictions.cohort, "accuracy", bootstrap_of(config))
    return judge(resampled, study, {})


def test_the_margin_of_the_config_decides_what_does_not_matter():
    predictions = drawn()
    verdicts = {margin: rows_of(predictions, margin=margin)[1].comparison.verdict for margin in (1e-9, 0.9)}
    assert verdicts[0.9] == "no difference that matters (within ±0.9)" or "better" in verdicts[0.9]
    assert verdicts[1e-9] != verdicts[0.9]


def test_intervals_resample_people_and_not_their_images():
    """Six images that err alike are not six people: their interval is wider than that of as many single images."""
    predictions = drawn()
    single = Cohort(predictions.cohort.labels, None, predictions.cohort.folds, predictions.cohort.class_names)
    of_images = OutOfFold(predictions.filenames, single, predictions.logits, single)
    by_people, by_images = (rows_of(given)[0].score.mean for given in (predictions, of_images))
    assert by_people.value == by_images.value
    _, reports = judge_ensemble(predictions, settings_with())
    of_ensemble = [reports["scores"]["accuracy"], judge_ensemble(of_images, settings_with())[1]["scores"]["accuracy"]]
    widths = [interval["high"] - interval["low"] for interval in of_ensemble]
    assert widths[0] > 1.3 * widths[1]
    for report in (reports["scores"], reports["decisions"]):
        assert (report["num_images"], report["num_groups"]) == (360, 60)
    assert "60 people, 200 resamples" in reports["scores"]["interval"]


def test_thresholds_are_fitted_on_the_scores_that_they_are_applied_to():
    """On calibrated ones: those that are six times too sure have their best threshold elsewhere."""
    predictions, settings = drawn(sharpness=6.0, is_skewed=True), settings_with(calibration="vector")
    ensemble, reports = judge_ensemble(predictions, settings)
    plain = cross_fitted_ensemble(predictions.logits, predictions.cohort, average="probabilities").log_probabilities
    np.testing.assert_array_equal(ensemble.log_probabilities, plain)
    calibrated, _, _ = cross_fitted_calibration(plain, predictions.cohort, "vector")
    for objective, found in reports["decisions"]["thresholds"].items():
        of_calibrated, of_plain = (
            cross_fitted_threshold(scores, predictions.cohort, objective)[2] for scores in (calibrated, plain)
        )
        assert found["threshold"] == of_calibrated != of_plain
    assert reports["calibration"]["final"]["method"] == "vector"
