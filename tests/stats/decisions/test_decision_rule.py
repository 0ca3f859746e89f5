"""The rule that makes probabilities and decisions of logits: fitted, refused for lack of images, kept in JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fpclass.errors import ConfigError, DataError
from fpclass.stats.decisions.rule import MIN_IMAGES, DecisionRule, fit_rule


def drawn(num_images: int, num_classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits three times too sure of themselves, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    return 3 * (np.eye(num_classes)[labels] + rng.normal(size=(num_images, num_classes))), labels


def test_it_comes_back_from_json_and_decides_the_same():
    logits, labels = drawn(400)
    rule = fit_rule(logits, labels, "some images", method="temperature", cost=((0, 1), (5, 0)))
    again = DecisionRule.from_json(json.loads(json.dumps(rule.to_json())), "test")
    assert again == rule
    assert rule.calibration.temperature == pytest.approx(3, rel=0.3)
    assert rule.words == f"temperature {rule.calibration.temperature:.2f}, fitted on some images"
    calibrated = rule.calibration.apply(logits)
    for objective in ("argmax", "accuracy", "f1", "cost"):
        np.testing.assert_array_equal(rule.decide(calibrated, objective), again.decide(calibrated, objective))
    assert rule.decide(calibrated, "cost").mean() > rule.decide(calibrated, "argmax").mean(), "misses of 1 cost more"


def test_a_handful_of_images_fits_nothing():
    rule = fit_rule(*drawn(MIN_IMAGES - 1), "the inner split", method="temperature")
    assert (rule.short, rule.thresholds) == ("none", {})
    assert "too small" in rule.words
    with pytest.raises(ConfigError, match="what was fitted is argmax; the inner split is too small"):
        rule.decide(np.zeros((1, 2)), "f1")


def test_predictions_that_are_all_right_get_a_temperature_that_does_not_make_them_certain():
    labels = np.arange(40) % 2
    rule = fit_rule(np.eye(2)[labels], labels, "the inner split", method="temperature")
    assert rule.short == f"temperature {rule.calibration.temperature:.2f}, fitted on the inner split"
    assert 0.87 < np.exp(rule.calibration.apply(np.eye(2)[labels])).max() < 0.95


def test_a_temperature_at_its_bound_says_so():
    labels = np.arange(40) % 2
    rule = fit_rule(np.eye(2)[1 - labels], labels, "the inner split", method="temperature")
    assert rule.words.startswith("temperature 20.00 (the bound of its range: the best one lies beyond), fitted on")


def test_of_three_classes_there_are_no_thresholds():
    rule = fit_rule(*drawn(90, 3), "some images", method="vector")
    assert rule.thresholds == {}
    assert rule.short == "vector, fitted on some images"
    with pytest.raises(ConfigError, match="f1"):
        rule.decide(np.zeros((1, 3)), "f1")


@pytest.mark.parametrize("values", [[], None, {}, {"calibration": 3, "thresholds": {}}, {"thresholds": []}, "x", 1.5])
def test_something_else_than_a_rule_is_one_line(values):
    with pytest.raises(DataError, match="file: has no calibration and thresholds") as caught:
        DecisionRule.from_json(values, "file")
    assert len(str(caught.value).splitlines()) == 1
