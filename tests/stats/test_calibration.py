import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from fpclass.errors import DataError
from fpclass.stats import calibration as calibrate
from fpclass.stats.calibration import Calibration
from fpclass.stats.metrics import log_softmax


def draw(log_probabilities, rng):
    """Labels as if the probabilities were right."""
    return (np.exp(log_probabilities).cumsum(axis=1) < rng.random((len(log_probabilities), 1))).sum(axis=1)


def calibrated_predictions(num_images, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(num_images, num_classes))
    return logits, draw(log_softmax(logits), rng)


def people_predictions(num_people, per_person, num_classes=2, sharpness=2.5, seed=0):
    """Logits that are too sure of themselves, with errors that the images of a person share."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(num_people), per_person)
    labels = rng.integers(0, num_classes, num_people)[codes]
    logits = rng.normal(size=(len(codes), num_classes)) + rng.normal(size=(num_people, num_classes))[codes]
    logits[np.arange(len(codes)), labels] += 1.5
    return logits * sharpness, labels, codes % 5, [f"person {code}" for code in codes]


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_recovers_the_planted_one(num_classes, temperature):
    logits, labels = calibrated_predictions(20_000, num_classes)
    assert calibrate.fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.04)


def test_temperature_is_the_best_of_a_fine_grid():
    logits, labels, _, _ = people_predictions(60, 2, num_classes=3)
    grid = np.exp(np.linspace(*map(math.log, calibrate.TEMPERATURE_RANGE), 1001))
    losses = [log_loss(labels, np.exp(log_softmax(logits / t))) for t in grid]
    assert calibrate.fit_temperature(logits, labels) == pytest.approx(grid[np.argmin(losses)], rel=7e-3)


@settings(deadline=None, max_examples=8)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_a_constant_added_to_the_logits_of_an_image_changes_nothing(num_classes, seed, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(30, num_classes)), rng.integers(0, num_classes, 30)
    shifted = logits + shift * rng.normal(size=(30, 1))
    for method in calibrate.METHODS:
        first, second = (calibrate.fit_calibration(values, labels, method) for values in (logits, shifted))
        np.testing.assert_allclose(first.apply(logits), second.apply(shifted), atol=2e-3)


@pytest.mark.parametrize("is_right", [True, False])
def test_separable_predictions_stay_within_bounds(is_right):
    labels = np.arange(20) % 2
    logits = np.eye(2)[labels if is_right else 1 - labels]
    temperature = calibrate.fit_temperature(logits, labels)
    assert temperature == pytest.approx(calibrate.TEMPERATURE_RANGE[0 if is_right else 1], rel=1e-3)
    scale, bias = calibrate.fit_vector_scaling(logits, labels)
    assert np.abs(np.concatenate([scale, bias])).max() < 10
    assert scale.min() >= 0


def test_temperature_of_predictions_that_say_nothing_is_one():
    assert calibrate.fit_temperature(np.zeros((6, 3)), np.arange(6) % 3) == 1


def test_vector_scaling_recovers_the_planted_values():
    rng = np.random.default_rng(1)
    raw = log_softmax(rng.normal(scale=2, size=(40_000, 3)))
    scale, bias = np.array([0.5, 1.0, 1.6]), np.array([0.6, -0.4, -0.2])
    labels = draw(log_softmax(raw * scale + bias), rng)
    fitted_scale, fitted_bias = calibrate.fit_vector_scaling(raw, labels)
    np.testing.assert_allclose(fitted_scale, scale, atol=0.06)
    # A constant on all biases changes nothing; the ridge makes them sum to zero.
    np.testing.assert_allclose(fitted_bias, bias, atol=0.06)


def test_vector_scaling_is_at_a_minimum_of_its_own_loss():
    logits, labels, _, _ = people_predictions(50, 2, num_classes=4)
    log_p = log_softmax(logits)

    def loss(parameters):
        scale, bias = np.split(parameters, 2)
        total = log_loss(labels, np.exp(log_softmax(scale * log_p + bias)), normalize=False)
        return total + 0.5 * (((scale - 1) ** 2).sum() + (bias**2).sum())

    found = np.concatenate(calibrate.fit_vector_scaling(logits, labels, ridge=1.0))
    reference = minimize(loss, np.repeat([1.0, 0.0], 4), method="BFGS")
    np.testing.assert_allclose(found, reference.x, atol=1e-3)
    stiff = np.concatenate(calibrate.fit_vector_scaling(logits, labels, ridge=1e9))
    np.testing.assert_allclose(stiff, np.repeat([1.0, 0.0], 4), atol=1e-6)


@pytest.mark.parametrize("method", calibrate.METHODS)
def test_each_fold_is_calibrated_by_the_others(method):
    logits, labels, folds, _ = people_predictions(40, 3, num_classes=3)
    calibrated, by_fold, final = calibrate.cross_fitted_calibration(logits, labels, folds, method)
    for fold in range(5):
        inside = folds == fold
        expected = calibrate.fit_calibration(logits[~inside], labels[~inside], method)
        assert by_fold[fold] == expected
        np.testing.assert_array_equal(calibrated[inside], expected.apply(logits[inside]))
        # Other labels in the fold itself change nothing in it.
        other = np.where(inside, (labels + 1) % 3, labels)
        again = calibrate.cross_fitted_calibration(logits, other, folds, method)[0]
        np.testing.assert_array_equal(again[inside], calibrated[inside])
    assert final == calibrate.fit_calibration(logits, labels, method)


def test_temperature_changes_no_decision_and_none_changes_nothing():
    logits, labels, folds, _ = people_predictions(40, 3, num_classes=3)
    calibrated = calibrate.cross_fitted_calibration(logits, labels, folds, "temperature")[0]
    np.testing.assert_array_equal(calibrated.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(np.exp(calibrated).sum(axis=1), 1)
    plain = calibrate.cross_fitted_calibration(logits, labels, folds, "none")[0]
    np.testing.assert_allclose(plain, log_softmax(logits), atol=1e-12)


def test_a_calibration_survives_json():
    logits, labels, _, _ = people_predictions(20, 2, num_classes=3)
    for method in calibrate.METHODS:
        calibration = calibrate.fit_calibration(logits, labels, method)
        assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    assert Calibration("temperature", (0.5, 0.5), (0.0, 0.0)).temperature == 2
    assert Calibration("vector", (0.5, 0.5), (0.0, 0.0)).temperature is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "magic", "scale": [1, 1], "bias": [0, 0]},
        {"method": "vector", "scale": [1, 1], "bias": [0]},
        {"method": "vector", "scale": [1, math.nan], "bias": [0, 0]},
        {"method": "vector", "scale": "wide", "bias": [0, 0]},
        {"method": "vector", "scale": 3, "bias": [0, 0]},
        [],
    ],
)
def test_a_broken_calibration_is_one_clear_line(values):
    with pytest.raises(DataError, match=r"calibration: .*fit it again") as caught:
        Calibration.from_json(values)
    assert "\n" not in str(caught.value)


def test_refuses_other_classes_and_missing_folds():
    with pytest.raises(DataError, match="fitted for 2 classes"):
        Calibration("none", (1.0, 1.0), (0.0, 0.0)).apply(np.zeros((4, 3)))
    logits, labels, folds, _ = people_predictions(20, 2)
    for bad in (np.zeros(40, int), folds[1:]):
        with pytest.raises(DataError, match="at least two folds"):
            calibrate.cross_fitted_calibration(logits, labels, bad, "temperature")


def test_bins_hold_equally_many_and_equal_confidences_share_one():
    rng = np.random.default_rng(0)
    confidences = rng.random(300)
    bins = calibrate.confidence_bins(confidences)
    np.testing.assert_array_equal(np.bincount(bins), [30] * 10)
    assert all(confidences[bins == b].max() < confidences[bins == b + 1].min() for b in range(9))
    assert [calibrate.confidence_bins(rng.random(n)).max() + 1 for n in (5, 59, 60, 10_000)] == [1, 1, 2, 15]
    tied = np.round(confidences, 1)
    bins = calibrate.confidence_bins(tied)
    assert all(np.unique(bins[tied == value]).size == 1 for value in tied)
    assert calibrate.confidence_bins(np.full(300, 0.7)).max() == 0


def test_bins_agree_with_scikit_learn():
    # Class 1 alone is ever predicted, so that the probability of class 1 is the confidence.
    rng = np.random.default_rng(3)
    p = rng.uniform(0.5, 1, 400)
    labels = (rng.random(400) < p**2).astype(int)
    logits = np.log(np.stack([1 - p, p], axis=1))
    bins = calibrate.reliability_bins(logits, labels, [""] * 400, num_bootstrap=0, confidence=0.95, num_bins=8)
    accuracy, confidence = calibration_curve(labels, p, n_bins=8, strategy="quantile")
    assert [b["accuracy"]["value"] for b in bins] == pytest.approx(accuracy)
    assert [b["confidence"] for b in bins] == pytest.approx(confidence)
    assert [(b["num_images"], b["num_people"]) for b in bins] == [(50, 50)] * 8
    options = {"num_bootstrap": 0, "confidence": 0.95, "num_bins": 8}
    error = calibrate.expected_calibration_error(logits, labels, [""] * 400, **options)
    assert error["value"] == pytest.approx(np.abs(accuracy - confidence).mean())
    assert (error["low"], error["high"], error["num_bins"]) == (None, None, 8)


def test_intervals_resample_people_not_images():
    # Eight copies of each image of a person: no more is known than from one.
    logits, labels, _, units = people_predictions(60, 1, seed=2)
    options = {"num_bootstrap": 500, "confidence": 0.9, "num_bins": 2}
    once = calibrate.reliability_bins(logits, labels, units, **options)
    copies = [np.repeat(values, 8, axis=0) for values in (logits, labels, np.array(units))]
    eight = calibrate.reliability_bins(*copies, **options)
    as_images = calibrate.reliability_bins(*copies[:2], [""] * 480, **options)
    for one, many, wrong in zip(once, eight, as_images, strict=True):
        assert many["accuracy"] == pytest.approx(one["accuracy"])
        assert (many["num_images"], many["num_people"]) == (240, 30)
        width, narrow = (b["accuracy"]["high"] - b["accuracy"]["low"] for b in (many, wrong))
        assert narrow < 0.6 * width


def test_chance_level_is_the_mean_error_of_calibrated_models():
    logits, _ = calibrated_predictions(300, 3)
    rng = np.random.default_rng(5)
    options = {"num_bootstrap": 0, "confidence": 0.95}
    log_p = log_softmax(logits)
    results = [calibrate.expected_calibration_error(logits, draw(log_p, rng), [""] * 300, **options) for _ in range(60)]
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
        labels = draw(log_softmax(honest), rng)
        logits, units = honest * sharpness, np.repeat(np.arange(120), 2)
        result = calibrate.expected_calibration_error(logits, labels, units, num_bootstrap=200, confidence=0.95)
        p = np.exp(log_softmax(logits).max(axis=1))
        true_p = np.exp(log_softmax(honest).max(axis=1))
        bins = calibrate.confidence_bins(p)
        truth = np.abs(np.bincount(bins, p - true_p)).sum() / len(p)
        num_covered += result["low"] <= truth + 1e-12 and truth <= result["high"]
        assert result["low"] <= result["value"] <= result["high"]
    assert (truth < 1e-12) == is_calibrated
    assert num_covered >= 51  # of 60; 57 are nominal, and 50 or fewer have a chance of 1 in 500 then


@pytest.mark.parametrize(("num_classes", "method"), [(2, "temperature"), (3, "vector"), (3, "none")])
def test_report_holds_everything_and_fits_into_json(num_classes, method):
    logits, labels, folds, units = people_predictions(80, 2, num_classes, sharpness=4)
    options = {"num_bootstrap": 200, "confidence": 0.95}
    report = calibrate.calibration_report(logits, labels, folds, units, method=method, **options)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    calibrated, by_fold, final = calibrate.cross_fitted_calibration(logits, labels, folds, method)
    for when, values in (("before", logits), ("after", calibrated)):
        expected = log_loss(labels, np.exp(log_softmax(values)))
        assert report[when]["log_loss"]["value"] == pytest.approx(expected)
        assert sum(report[when]["confidence_counts"]) == sum(b["num_images"] for b in report[when]["bins"]) == 160
    assert Calibration.from_json(report["final"]) == final
    assert {int(k): Calibration.from_json(v) for k, v in report["folds"].items()} == by_fold
    assert (report["num_people"], report["num_images"], report["is_at_bound"]) == (80, 160, False)
    gain = report["gain"]["log_loss"]
    assert gain["value"] == pytest.approx(report["before"]["log_loss"]["value"] - report["after"]["log_loss"]["value"])
    if method == "none":
        assert gain == pytest.approx({"value": 0, "low": 0, "high": 0}, abs=1e-12)
    else:
        assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_report_says_when_no_temperature_was_found():
    labels = np.arange(40) % 2
    options = {"num_bootstrap": 0, "confidence": 0.95}
    report = calibrate.calibration_report(np.eye(2)[labels], labels, np.arange(40) // 20, [""] * 40, **options)
    assert report["is_at_bound"]
    assert report["after"]["ece"]["low"] is None
