import numpy as np
import pytest

from fpclass.stats.bounds import wilson_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.evidence.diagnostics import THRESHOLDS, decision_curve, diagnostic_accuracy
from fpclass.stats.intervals import Bootstrap

NONE, SOME = Bootstrap(0, 0.95), Bootstrap(300, 0.95)


def table(tp, fn, fp, tn):
    """Log-probabilities and a cohort with so many true positives, false negatives, false positives, true negatives."""
    labels = np.repeat([1, 1, 0, 0], [tp, fn, fp, tn])
    called = np.repeat([1, 0, 1, 0], [tp, fn, fp, tn])
    return np.log(np.where(np.eye(2)[called] > 0, 0.8, 0.2)), Cohort(labels)


def test_the_liver_scan_of_altman_and_bland():
    """BMJ 308 (1994) 1552 and 309 (1994) 102: 231 of 258 abnormal livers and 54 of 86 normal ones rightly told."""
    scan = table(231, 27, 32, 54)
    of_data = {name: round(values["value"], 2) for name, values in diagnostic_accuracy(*scan, 1, NONE).items()
               if isinstance(values, dict)}  # fmt: skip
    assert of_data == {
        "sensitivity": 0.90, "specificity": 0.63, "lr_positive": 2.41, "lr_negative": 0.17, "ppv": 0.88, "npv": 0.67,
    }  # fmt: skip
    at_25 = diagnostic_accuracy(*scan, 1, NONE, prevalence=0.25)
    assert round(at_25["ppv"]["value"], 2) == 0.45
    assert round(at_25["npv"]["value"], 2) == 0.95
    assert at_25["sensitivity"]["value"] == 231 / 258
    assert (at_25["is_stated"], at_25["prevalence"]) == (True, 0.25)


def test_the_condition_may_be_any_class_and_intervals_are_over_people():
    labels, called = np.array([0, 0, 1, 2, 2, 2, 1, 0]), np.array([0, 1, 1, 2, 2, 0, 1, 0])
    judged = diagnostic_accuracy(np.eye(3)[called], Cohort(labels, [0, 0, 1, 2, 2, 3, 4, 5]), 2, SOME)
    assert (judged["tp"], judged["fn"], judged["fp"], judged["tn"]) == (2, 1, 0, 5)
    assert judged["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert judged["lr_positive"]["value"] is None  # no false alarm: as large as you like
    effective = Cohort(labels, [0, 0, 1, 2, 2, 3, 4, 5]).effective_groups(labels != 2)
    assert [judged["specificity"][key] for key in ("low", "high")] == pytest.approx(
        wilson_bounds(effective, effective, 0.95)
    )
    alone = diagnostic_accuracy(*table(40, 10, 15, 35), 1, SOME)
    tenfold = table(400, 100, 150, 350)
    people = diagnostic_accuracy(tenfold[0], Cohort(tenfold[1].labels, np.arange(1000) // 10), 1, SOME)
    assert people["sensitivity"]["low"] == pytest.approx(alone["sensitivity"]["low"], abs=0.03)


def test_net_benefit_is_what_vickers_and_elkin_write():
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.3).astype(int)
    p = np.clip(0.3 + 0.25 * (labels - 0.3) + 0.15 * rng.normal(size=400), 0.01, 0.99)
    log_p = np.log(np.stack([1 - p, p], axis=1))
    curve = decision_curve(log_p, Cohort(labels), 1, SOME)
    for i, threshold in enumerate(THRESHOLDS):
        acts = p > threshold
        net = ((acts & (labels == 1)).sum() - (acts & (labels == 0)).sum() * threshold / (1 - threshold)) / 400
        assert curve["net_benefit"][i] == pytest.approx(net)
    assert curve["treat_all"][9] == pytest.approx(labels.mean() - (1 - labels.mean()) * 0.1 / 0.9)
    first, last = curve["useful"]
    assert first <= 0.3 <= last
    assert curve["low"][29] < curve["net_benefit"][29] < curve["high"][29]
    useless = decision_curve(np.log(np.full((400, 2), 0.5)), Cohort(labels), 1, SOME)
    assert useless["useful"] is None


def test_at_a_stated_prevalence_probabilities_are_shifted_to_it():
    log_p, cohort = table(40, 10, 10, 40)
    curve = decision_curve(log_p, cohort, 1, NONE, prevalence=0.1)
    # 0.8 at one half is 0.308 at a tenth, 0.2 is 0.027: between these thresholds the called ones are acted on.
    at = {round(t, 2): b for t, b in zip(curve["thresholds"], curve["net_benefit"], strict=True)}
    assert at[0.2] == pytest.approx(0.1 * 0.8 - 0.9 * 0.2 * 0.25)
    assert at[0.4] == 0
    assert curve["treat_all"][19] == pytest.approx(0.1 - 0.9 * 0.25)
