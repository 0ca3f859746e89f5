import json
import math

import numpy as np
import pytest
from drawn_predictions import calibrated_predictions, draw_labels, people_predictions
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities import reliability
from fpclass.stats.probabilities.calibration import Calibration, cross_fitted_calibration


def test_bins_hold_equally_many_and_equal_confidences_share_one():
    rng = np.random.default_rng(0)
    confidences = rng.random(300)
    bins = reliability.confidence_bins(confidences)
    np.testing.assert_array_equal(np.bincount(bins), [30] * 10)
    assert all(confidences[bins == b].max() < confidences[bins == b + 1].min() for b in range(9))
    assert [reliability.confidence_bins(rng.random(n)).max() + 1 for n in (5, 59, 60, 10_000)] == [1, 1, 2, 15]
    tied = np.round(confidences, 1)
    bins = reliability.confidence_bins(tied)
    assert all(np.unique(bins[tied == value]).size == 1 for value in tied)
    assert reliability.confidence_bins(np.full(300, 0.7)).max() == 0


def test_bins_agree_with_scikit_learn():
    # Class 1 alone is ever predicted, so that the probability of class 1 is the confidence.
    rng = np.random.default_rng(3)
    p = rng.uniform(0.5, 1, 400)
    labels = (rng.random(400) < p**2).astype(int)
    logits = np.log(np.stack([1 - p, p], axis=1))
    bins = reliability.reliability_bins(logits, Cohort(labels), Bootstrap(0, 0.95), num_bins=8)
    accuracy, confidence = calibration_curve(labels, p, n_bins=8, strategy="quantile")
    assert [b["accuracy"]["value"] for b in bins] == pytest.approx(accuracy)
    assert [b["confidence"] for b in bins] == pytest.approx(confidence)
    assert [(b["num_images"], b["num_groups"]) for b in bins] == [(50, 50)] * 8
    error = reliability.expected_calibration_error(logits, Cohort(labels), Bootstrap(0, 0.95), num_bins=8)
    assert error["value"] == pytest.approx(np.abs(accuracy - confidence).mean())
    assert (error["low"], error["high"], error["num_bins"]) == (None, None, 8)


def test_intervals_resample_people_not_images():
    # Eight copies of each image of a person: no more is known than from one.
    logits, cohort = people_predictions(60, 1, sharpness=2.5, seed=2)
    bootstrap, rows = Bootstrap(500, 0.9), np.arange(60).repeat(8)
    once = reliability.reliability_bins(logits, cohort, bootstrap, num_bins=2)
    eight = reliability.reliability_bins(logits[rows], cohort.take(rows), bootstrap, num_bins=2)
    as_images = reliability.reliability_bins(logits[rows], Cohort(cohort.labels[rows]), bootstrap, num_bins=2)
    for one, many, wrong in zip(once, eight, as_images, strict=True):
        assert many["accuracy"] == pytest.approx(one["accuracy"])
        assert (many["num_images"], many["num_groups"]) == (240, 30)
        width, narrow = (b["accuracy"]["high"] - b["accuracy"]["low"] for b in (many, wrong))
        assert narrow < 0.6 * width


def test_chance_level_is_the_mean_error_of_calibrated_models():
    logits, _ = calibrated_predictions(300, 3)
    rng = np.random.default_rng(5)
    cohorts = [Cohort(draw_labels(log_softmax(logits), rng)) for _ in range(60)]
    results = [reliability.expected_calibration_error(logits, cohort, Bootstrap(0, 0.95)) for cohort in cohorts]
    values = np.array([result["value"] for result in results])
    assert values.mean() == pytest.approx(
        results[0]["expected_if_calibrated"], abs=3.5 * values.std() / math.sqrt(len(values))
    )
    assert results[0]["expected_if_calibrated"] > 0.03


@pytest.mark.parametrize(("sharpness", "is_calibrated"), [(1.0, True), (2.5, False)])
def test_interval_of_the_error_covers_the_truth(sharpness, is_calibrated):
    # The percentile interval covers the zero of a calibrated model in none of these.
    rng = np.random.default_rng(6)
    num_covered, num_trials = 0, 60
    for _ in range(num_trials):
        honest = np.repeat(rng.normal(scale=1.5, size=(120, 2)), 2, axis=0)
        labels = draw_labels(log_softmax(honest), rng)
        logits, cohort = honest * sharpness, Cohort(labels, np.repeat(np.arange(120), 2))
        result = reliability.expected_calibration_error(logits, cohort, Bootstrap(200, 0.95))
        p = np.exp(log_softmax(logits).max(axis=1))
        true_p = np.exp(log_softmax(honest).max(axis=1))
        bins = reliability.confidence_bins(p)
        truth = np.abs(np.bincount(bins, p - true_p)).sum() / len(p)
        num_covered += result["low"] <= truth + 1e-12 and truth <= result["high"]
        assert result["low"] <= result["value"] <= result["high"]
    assert (truth < 1e-12) == is_calibrated
    assert num_covered >= 51  # of 60; 57 are nominal, and 50 or fewer have a chance of 1 in 500 then


@pytest.mark.parametrize(("num_classes", "method"), [(2, "temperature"), (3, "vector"), (3, "none")])
def test_report_holds_everything_and_fits_into_json(num_classes, method):
    logits, cohort = people_predictions(80, 2, num_classes, sharpness=4)
    report = reliability.calibration_report(logits, cohort, Bootstrap(200, 0.95), method)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    calibrated, by_fold, final = cross_fitted_calibration(logits, cohort, method)
    for when, values in (("before", logits), ("after", calibrated)):
        expected = log_loss(cohort.labels, np.exp(log_softmax(values)))
        assert report[when]["log_loss"]["value"] == pytest.approx(expected)
        assert sum(report[when]["confidence_counts"]) == sum(b["num_images"] for b in report[when]["bins"]) == 160
    assert Calibration.from_json(report["final"]) == final
    assert {int(k): Calibration.from_json(v) for k, v in report["folds"].items()} == by_fold
    assert (report["num_groups"], report["num_images"], report["is_at_bound"]) == (80, 160, False)
    gain = report["gain"]["log_loss"]
    assert gain["value"] == pytest.approx(report["before"]["log_loss"]["value"] - report["after"]["log_loss"]["value"])
    if method == "none":
        assert gain == pytest.approx({"value": 0, "low": 0, "high": 0}, abs=1e-12)
    else:
        assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_intervals_of_losses_stay_above_zero():
    """One of twenty people wrong and very sure of it: on the plain scale the loss's interval began below zero."""
    labels = np.arange(20) % 2
    logits = 8.0 * np.eye(2)[np.where(np.arange(20) == 3, 1 - labels, labels)]
    scores = reliability.before_and_after(logits, logits / 4, Cohort(labels), Bootstrap(200, 0.95))
    for when in ("before", "after"):
        loss = scores[when]["log_loss"]
        assert 0 < loss["low"] < loss["value"] < loss["high"]
        assert loss["low"] * loss["high"] == pytest.approx(loss["value"] ** 2)
    gain = scores["gain"]["log_loss"]
    assert gain["low"] + gain["high"] == pytest.approx(2 * gain["value"])


def test_report_says_when_no_temperature_was_found():
    labels = np.arange(40) % 2
    cohort = Cohort(labels, folds=np.arange(40) // 20)
    report = reliability.calibration_report(np.eye(2)[1 - labels], cohort, Bootstrap(0, 0.95))
    assert report["is_at_bound"]
    assert report["after"]["ece"]["low"] is None


def test_a_lean_to_one_class_that_the_predicted_one_hides_shows_in_the_probability_of_the_class():
    """Too much class 1 among the likely ones, as much too little class 0: the errors of the top label cancel."""
    logits, labels = calibrated_predictions(6000, 2)
    leaning = logits + np.array([0.0, 0.7])
    cohort = Cohort(labels, class_names=("woman", "man"), folds=np.arange(6000) % 2)
    report = reliability.calibration_report(leaning, cohort, Bootstrap(0, 0.95), "none")
    top, of_class = report["after"], report["after"]["of_class"]
    assert of_class["name"] == "man"
    assert of_class["ece"]["value"] > 3 * top["ece"]["value"]
    p = np.exp(log_softmax(leaning))[:, 1]
    bins = reliability.confidence_bins(p)
    for b, entry in enumerate(of_class["bins"]):
        assert entry["confidence"] == pytest.approx(p[bins == b].mean())
        assert entry["accuracy"]["value"] == pytest.approx(labels[bins == b].mean())
    three = reliability.calibration_report(*people_predictions(60, 2, 3), Bootstrap(0, 0.95))
    assert "of_class" not in three["after"]
