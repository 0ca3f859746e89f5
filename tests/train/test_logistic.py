"""Regressions that are fitted together: each is what scikit-learn finds alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from fpclass.train.probes import logistic
from fpclass.train.probes.logistic import fit_all, make_rows


def drawn(num_rows, num_features, num_classes):
    """Features of which some are far more than others, labels, and weights of three parts that leave rows out."""
    rng = np.random.default_rng(num_features)
    labels = rng.integers(num_classes, size=num_rows)
    x = rng.normal(size=(num_rows, num_features)) * rng.uniform(0.2, 5, num_features)
    x += rng.normal(size=(num_classes, num_features))[labels]
    weights = rng.uniform(0.5, 2, num_rows) * (np.arange(num_rows) % 3 != np.arange(3)[:, None])
    return x, labels, weights


def alone(x, labels, weights, strength):
    """Logits of all rows by scikit-learn, fitted to those of a weight."""
    fitted = LogisticRegression(C=strength, tol=1e-9, max_iter=100_000)
    fitted.fit(x[weights > 0], labels[weights > 0], weights[weights > 0])
    logits = fitted.decision_function(x)
    return logits.T if logits.ndim == 2 else logits[None]


def probabilities(logits):
    return expit(logits) if len(logits) == 1 else softmax(logits, axis=0)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("num_features", [20, 300])
def test_each_is_what_scikit_learn_finds_alone(num_features, num_classes):
    x, labels, weights = drawn(150, num_features, num_classes)
    strengths = (1e-4, 1e-2, 1.0)
    fits = fit_all(make_rows(x), labels, weights, weights == 0, strengths)
    for i, strength in enumerate(strengths):
        for part in range(3):
            judged = weights[part] == 0
            expected, found = alone(x, labels, weights[part], strength)[:, judged], fits.logits[i][:, judged]
            np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-3)
    assert fits.num_steps < (150 if num_features == 20 else 60)


def test_they_go_on_from_others_in_fewer_steps():
    x, labels, weights = drawn(150, 20, 2)
    rows = make_rows(x)
    from_zero = fit_all(rows, labels, weights, weights == 0, (0.1, 0.2))
    again = fit_all(rows, labels, weights, weights == 0, (0.2,), from_zero.weights)
    np.testing.assert_allclose(again.logits[0], from_zero.logits[1], atol=1e-3)
    assert again.num_steps <= 1 < from_zero.num_steps


def test_where_room_is_short_they_are_fitted_one_after_the_other(monkeypatch):
    x, labels, weights = drawn(150, 20, 3)
    together = fit_all(make_rows(x), labels, weights, weights == 0, (0.01, 0.1))
    monkeypatch.setattr(logistic, "ROOM", 1)
    in_turn = fit_all(make_rows(x), labels, weights, weights == 0, (0.01, 0.1))
    assert in_turn.logits.shape == together.logits.shape == (2, 3, 150)
    np.testing.assert_allclose(in_turn.logits, together.logits, atol=2e-3)
    np.testing.assert_allclose(in_turn.weights, together.weights, atol=2e-3)


def test_features_of_any_size_and_rows_of_any_number_are_the_same_regression():
    x, labels, weights = drawn(129, 20, 2)
    small = fit_all(make_rows(x), labels, weights, weights == 0, (0.1,)).logits
    large = fit_all(make_rows(x * 1e4), labels, weights, weights == 0, (0.1 / 1e8,)).logits
    np.testing.assert_allclose(large, small, atol=1e-3)
    assert small.shape == (1, 1, 129)


def test_a_class_that_a_part_has_not_seen_is_not_expected_there():
    x, labels, _ = drawn(150, 20, 3)
    weights = np.stack([labels != 2, np.ones(150)]).astype(float)
    fits = fit_all(make_rows(x), labels, weights, np.stack([labels == 2, labels != 2]), (0.1,))
    assert probabilities(fits.logits[0])[2, labels == 2].max() < 1e-3
    assert fits.num_steps < logistic.MAX_STEPS


def test_classes_that_are_told_apart_without_an_error_and_rows_that_are_all_alike_end():
    labels = np.arange(40) % 2
    weights, judged = np.ones((1, 40)), np.ones((1, 40), bool)
    apart = fit_all(make_rows(10.0 * labels[:, None]), labels, weights, judged, (1e4,)).logits[0, 0]
    assert ((apart > 0) == (labels > 0)).all()
    alike = fit_all(make_rows(np.zeros((40, 3))), np.arange(40) // 10 > 2, weights, judged, (1.0,)).logits
    np.testing.assert_allclose(alike, np.log(10 / 30), atol=1e-3)


def test_rows_that_are_far_from_all_others_end_where_rounding_leaves_no_way_down():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(400, 50)), rng.integers(2, size=400)
    x[:3] *= 1e5
    fits = fit_all(make_rows(x), labels, np.ones((1, 400)), np.ones((1, 400), bool), (0.1, 10.0, 100.0))
    assert np.isfinite(fits.logits).all()
    losses = np.logaddexp(0, np.where(labels, -1, 1) * fits.logits[:, 0]).mean(1)
    assert losses.max() < np.log(2) + 1e-3, "no worse than to know nothing"
