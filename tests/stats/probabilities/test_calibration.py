import json
import math

import numpy as np
import pytest
from drawn_predictions import calibrated_predictions, draw_labels, people_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities import calibration as calibrate
from fpclass.stats.probabilities.calibration import Calibration


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_recovers_the_planted_one(num_classes, temperature):
    logits, labels = calibrated_predictions(20_000, num_classes)
    assert calibrate.fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.04)


def test_temperature_is_the_best_of_a_fine_grid():
    logits, cohort = people_predictions(60, 2, 3, sharpness=2.5)
    labels = cohort.labels
    grid = np.exp(np.linspace(*map(math.log, calibrate.TEMPERATURE_RANGE), 1001))
    losses = [log_loss(labels, np.exp(log_softmax(logits / t))) for t in grid]
    penalties = calibrate.TEMPERATURE_RIDGE * (1 / grid - 1) ** 2 / 2 / len(labels)
    best = grid[np.argmin(losses + penalties)]
    assert calibrate.fit_temperature(logits, labels) == pytest.approx(best, rel=7e-3)
    assert calibrate.fit_temperature(logits, labels, ridge=0) == pytest.approx(grid[np.argmin(losses)], rel=7e-3)


@settings(deadline=None, max_examples=8)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_a_constant_added_to_the_logits_of_an_image_changes_nothing(num_classes, seed, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(30, num_classes)), rng.integers(0, num_classes, 30)
    shifted = logits + shift * rng.normal(size=(30, 1))
    for method in calibrate.METHODS:
        first, second = (calibrate.fit_calibration(values, labels, method) for values in (logits, shifted))
        np.testing.assert_allclose(first.apply(logits), second.apply(shifted), atol=2e-3)


def test_predictions_that_are_all_right_are_not_made_certain():
    """100 images without an error say that errors are rare, not that there are none."""
    labels = np.arange(100) % 2
    logits = 2 * np.eye(2)[labels]
    calibration = calibrate.fit_calibration(logits, labels, "temperature")
    assert calibration.temperature == pytest.approx(0.51, abs=0.01)
    assert not calibration.is_at_bound
    assert 0.97 < np.exp(calibration.apply(logits)).max() < 0.99
    assert calibrate.fit_temperature(logits, labels, ridge=0) < 0.06


@pytest.mark.parametrize("is_right", [True, False])
def test_separable_predictions_stay_within_bounds(is_right):
    labels = np.arange(20) % 2
    logits = np.eye(2)[labels if is_right else 1 - labels]
    calibration = calibrate.fit_calibration(logits, labels, "temperature")
    assert calibration.is_at_bound != is_right
    if not is_right:
        assert calibration.temperature == pytest.approx(calibrate.TEMPERATURE_RANGE[1], rel=1e-3)
    scale, bias = calibrate.fit_vector_scaling(logits, labels)
    assert np.abs(np.concatenate([scale, bias])).max() < 10
    assert scale.min() >= 0


def test_temperature_of_predictions_that_say_nothing_is_one():
    assert calibrate.fit_temperature(np.zeros((6, 3)), np.arange(6) % 3) == 1


def test_vector_scaling_recovers_the_planted_values():
    rng = np.random.default_rng(1)
    raw = log_softmax(rng.normal(scale=2, size=(40_000, 3)))
    scale, bias = np.array([0.5, 1.0, 1.6]), np.array([0.6, -0.4, -0.2])
    labels = draw_labels(log_softmax(raw * scale + bias), rng)
    fitted_scale, fitted_bias = calibrate.fit_vector_scaling(raw, labels)
    np.testing.assert_allclose(fitted_scale, scale, atol=0.06)
    # A constant on all biases changes nothing; the ridge makes them sum to zero.
    np.testing.assert_allclose(fitted_bias, bias, atol=0.06)


def test_vector_scaling_is_at_a_minimum_of_its_own_loss():
    logits, cohort = people_predictions(50, 2, 4, sharpness=2.5)
    labels = cohort.labels
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
    logits, cohort = people_predictions(40, 3, 3, sharpness=2.5)
    labels = cohort.labels
    calibrated, by_fold, final = calibrate.cross_fitted_calibration(logits, cohort, method)
    for fold in range(5):
        inside = cohort.folds == fold
        expected = calibrate.fit_calibration(logits[~inside], labels[~inside], method)
        assert by_fold[fold] == expected
        np.testing.assert_array_equal(calibrated[inside], expected.apply(logits[inside]))
        # Other labels in the fold itself change nothing in it.
        other = Cohort(np.where(inside, (labels + 1) % 3, labels), cohort.groups, cohort.folds)
        again = calibrate.cross_fitted_calibration(logits, other, method)[0]
        np.testing.assert_array_equal(again[inside], calibrated[inside])
    assert final == calibrate.fit_calibration(logits, labels, method)


def test_temperature_changes_no_decision_and_none_changes_nothing():
    logits, cohort = people_predictions(40, 3, 3, sharpness=2.5)
    calibrated = calibrate.cross_fitted_calibration(logits, cohort, "temperature")[0]
    np.testing.assert_array_equal(calibrated.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(np.exp(calibrated).sum(axis=1), 1)
    plain = calibrate.cross_fitted_calibration(logits, cohort, "none")[0]
    np.testing.assert_allclose(plain, log_softmax(logits), atol=1e-12)


def test_a_calibration_survives_json():
    logits, cohort = people_predictions(20, 2, 3, sharpness=2.5)
    for method in calibrate.METHODS:
        calibration = calibrate.fit_calibration(logits, cohort.labels, method)
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
    logits, cohort = people_predictions(20, 2)
    with pytest.raises(DataError, match="at least two folds"):
        calibrate.cross_fitted_calibration(logits, Cohort(cohort.labels), "temperature")
