"""What is frozen is judged and not fitted: slopes as a library has them, thresholds and sets that stay."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.scrutiny.external import fit_slopes, frozen_findings, judge_frozen

BOOTSTRAP = Bootstrap(200, 0.95)


def drawn(slope, intercept, n=4000):
    """Log-probabilities whose true log-odds are slope * odds + intercept, and labels; two images per person."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-(slope * odds + intercept)))).astype(int)
    return log_softmax(np.stack([-odds / 2, odds / 2], 1)), Cohort(labels, [f"p{i // 2}" for i in range(n)])


def test_slopes_are_those_of_logistic_regression():
    logits, cohort = drawn(0.6, 0.5, 600)
    odds = logits[:, 1] - logits[:, 0]
    weights = np.random.default_rng(1).integers(0, 3, (3, 600)).astype(float)
    found = fit_slopes(odds, cohort.labels.astype(float), weights)
    for of_weights, (intercept, slope) in zip(weights, found, strict=True):
        model = LogisticRegression(C=1e8, tol=1e-10, max_iter=1000).fit(odds[:, None], cohort.labels, of_weights)
        np.testing.assert_allclose([intercept, slope], [model.intercept_[0], model.coef_[0, 0]], atol=1e-4)
    assert np.isnan(fit_slopes(odds, (odds > 0).astype(float), weights)).all(), "told apart without an error"
    assert np.isnan(fit_slopes(odds, np.ones(600), weights)).all()


def test_nothing_is_fitted():
    """A calibration, a threshold, a confidence and a quantile from elsewhere, wrong for these images: judged so."""
    logits, cohort = drawn(0.5, 1.0)
    rule = DecisionRule(Calibration("temperature", (1.0, 1.0), (0.0, 0.0)), {"accuracy": 0.2}, "others")
    promises = Promises(0.05, 0.9, 0.9, "marginal", 0.9, (0.5, 0.5))
    judged = judge_frozen(logits, logits, cohort, BOOTSTRAP, rule, promises=promises)
    calibration = judged["calibration"]
    assert calibration["slope"]["low"] < 0.5 < calibration["slope"]["high"] < 1
    assert calibration["intercept"]["value"] == pytest.approx(1, abs=0.1)
    p = np.exp(logits[:, 1])
    assert calibration["in_the_large"]["value"] == pytest.approx((p - cohort.labels).mean())
    assert judged["decisions"]["thresholds"]["accuracy"]["score"]["value"] == pytest.approx(
        ((p > 0.2) == cohort.labels).mean()
    )
    is_sure = np.maximum(p, 1 - p) >= 0.9
    is_right = (p > 0.5) == cohort.labels
    assert judged["decisions"]["abstention"]["coverage"]["value"] == pytest.approx(is_sure.mean())
    assert judged["decisions"]["abstention"]["risk"]["value"] == pytest.approx((~is_right)[is_sure].mean())
    covered = np.where(cohort.labels == 1, p, 1 - p) >= 0.5
    assert judged["decisions"]["conformal"]["group_coverage"]["value"] == pytest.approx(covered.mean())
    text = "\n".join(frozen_findings(judged, cohort))
    for words in ("calibration, frozen", "slope 0.5", "frozen at 0.200", "at most 5 % errors", "promise 90 %"):
        assert words in text
    alone = judge_frozen(logits, logits, cohort, BOOTSTRAP, DecisionRule.nothing(2, "none"))
    assert alone["decisions"] == {"thresholds": {}, "abstention": {}, "conformal": {}}
