"""The submission's arithmetic: fold by fold what was judged, and decisions by the rule that was fitted."""

from __future__ import annotations

import numpy as np
import pytest

from fpclass.errors import ConfigError
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.decisions.thresholds import cross_fitted_threshold
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import Calibration, fit_calibration
from fpclass.study.trained.ensemble import ChosenEnsemble


def ensemble_of(weights, calibration, thresholds=None):
    rule = DecisionRule.from_json({"calibration": calibration.to_json(), "thresholds": thresholds or {}}, "test")
    return ChosenEnsemble(weights, "probabilities", rule, ("0", "1"), ("0", "1"), False)


def decide(log_probabilities, objective, thresholds, cost=()):
    rule = DecisionRule(Calibration("none", (1.0, 1.0), (0.0, 0.0)), thresholds)
    return rule.decide(log_probabilities, objective, cost)


def test_seeds_are_averaged_configs_weighted_each_fold_calibrated_then_folds_averaged():
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(6, 4, 3)) for name in ("a", "b")}  # 3 folds of 2 seeds
    calibration = fit_calibration(rng.normal(size=(50, 3)), np.arange(50) % 3, "vector")
    combined = np.exp(ensemble_of({"a": 0.25, "b": 0.75}, calibration).combine(logits, 3))
    probabilities = {name: np.exp([log_softmax(member) for member in members]) for name, members in logits.items()}
    expected = np.zeros((4, 3))
    for fold in range(3):  # members are all folds of the first seed, then of the second
        seeds = {name: (of_members[fold] + of_members[fold + 3]) / 2 for name, of_members in probabilities.items()}
        weighted = 0.25 * seeds["a"] + 0.75 * seeds["b"]
        expected += np.exp(calibration.apply(np.log(weighted))) / 3
    np.testing.assert_allclose(combined, expected, rtol=1e-10)
    np.testing.assert_allclose(combined.sum(axis=1), 1)


def test_calibration_comes_before_the_average_over_folds():
    """A temperature on the average of folds would be another one: the average is softer than what was calibrated."""
    logits = {"a": np.array([[[6.0, 0.0]], [[0.0, 2.0]]])}
    sharp = Calibration("temperature", np.array([0.5, 0.5]), np.zeros(2))
    expected = (1 / (1 + np.exp(-3)) + 1 / (1 + np.exp(1))) / 2
    assert np.exp(ensemble_of({"a": 1.0}, sharp).combine(logits, 2))[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
def test_a_threshold_decides_as_it_was_fitted_also_on_ties(threshold):
    probabilities = np.array([0.0, 0.2, 0.5, 0.7, 0.9, 1.0])
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(np.stack([1 - probabilities, probabilities], axis=1)).clip(-1e3)
    decided = decide(log_probabilities, "f1", {"f1": threshold})
    second = np.exp(log_softmax(log_probabilities))[:, 1]
    np.testing.assert_array_equal(decided, second > threshold)


def test_decisions_are_those_of_the_cross_fit():
    rng = np.random.default_rng(1)
    logits, labels, folds = rng.normal(size=(60, 2)), rng.integers(0, 2, 60), np.arange(60) % 3
    decided, by_fold, _ = cross_fitted_threshold(logits, Cohort(labels, folds=folds), "balanced_accuracy")
    for fold, threshold in by_fold.items():
        here = folds == fold
        mine = decide(logits[here], "balanced_accuracy", {"balanced_accuracy": threshold})
        np.testing.assert_array_equal(mine, decided[here])


def test_costs_decide_for_what_is_cheapest_to_be_wrong_about():
    log_probabilities = np.log([[0.7, 0.3], [0.95, 0.05]])
    decided = decide(log_probabilities, "cost", {}, ((0, 1), (5, 0)))
    assert decided.tolist() == [1, 0], "missing class 1 costs five times as much"
    assert decide(log_probabilities, "argmax", {}).tolist() == [0, 0]


def test_what_was_not_fitted_is_named():
    with pytest.raises(ConfigError, match=r"submit\.threshold_for is 'f1', but what was fitted is argmax, accuracy"):
        decide(np.zeros((1, 2)), "f1", {"accuracy": 0.5})
