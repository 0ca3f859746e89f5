import json

import numpy as np
import pytest
from drawn_predictions import people_predictions
from sklearn import metrics as sk

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions import risk_control, thresholds
from fpclass.stats.decisions.report import decision_report
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import log_softmax


@pytest.mark.parametrize("num_classes", [2, 4])
def test_report_holds_everything_and_fits_into_json(num_classes):
    logits, cohort = people_predictions(60, 2, num_classes, is_skewed=True)
    labels = cohort.labels
    cost = 3 * (1 - np.eye(num_classes))
    cost[-1, 0] = 9
    report = decision_report(logits, cohort, Bootstrap(100, 0.9), cost=cost.tolist(), max_risk=0.1, miss_rate=0.2)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report["thresholds"]) == (["accuracy", "f1", "balanced_accuracy", "cost"] if num_classes == 2 else [])
    for objective, entry in report["thresholds"].items():
        decided, by_fold, final = thresholds.cross_fitted_threshold(logits, cohort, objective, cost)
        assert (entry["threshold"], list(entry["folds"].values())) == (final, list(by_fold.values()))
        if objective != "cost":
            assert entry["score"]["value"] == pytest.approx(getattr(sk, f"{objective}_score")(labels, decided))
        assert entry["gain"]["value"] == pytest.approx(entry["score"]["value"] - entry["score_at_half"]["value"])
        assert entry["gain"]["low"] <= entry["gain"]["value"] <= entry["gain"]["high"]
    # Paired: the gain is far better known than the two scores.
    if num_classes == 2:
        widths = [report["thresholds"]["f1"][key] for key in ("gain", "score")]
        narrow, wide = (entry["high"] - entry["low"] for entry in widths)
        assert narrow < wide
    cheapest = thresholds.cost_decisions(np.exp(log_softmax(logits)), cost)
    assert report["costs"]["cost"]["value"] == pytest.approx(cost[labels, cheapest].mean())
    assert report["costs"]["saved"]["value"] == pytest.approx(
        cost[labels, logits.argmax(axis=1)].mean() - cost[labels, cheapest].mean()
    )


def test_report_on_abstention_and_sets():
    logits, cohort = people_predictions(60, 3, 3, is_skewed=True)
    labels = cohort.labels
    report = decision_report(logits, cohort, Bootstrap(200, 0.9), max_risk=0.3, risk_confidence=0.8, miss_rate=0.2)
    is_wrong = logits.argmax(axis=1) != labels
    abstention, conformal = report["abstention"], report["conformal"]
    is_decided, _, final = risk_control.cross_fitted_abstention(logits, cohort, 0.3, 0.8)
    assert {key: abstention[key] for key in final.to_json()} == final.to_json()
    assert (abstention["max_risk"], abstention["confidence"]) == (0.3, 0.8)
    assert abstention["coverage"]["value"] == pytest.approx(is_decided.mean())
    assert abstention["risk"]["value"] == pytest.approx(is_wrong[is_decided].mean())
    curve = abstention["curve"]
    assert curve["coverage"][-1] == 1
    assert curve["risk"][-1] == pytest.approx(is_wrong.mean())
    assert (curve["low"][-1], curve["high"][-1]) == pytest.approx(
        (abstention["error_rate"]["low"], abstention["error_rate"]["high"])
    )
    for low, value, high in zip(curve["low"], curve["risk"], curve["high"], strict=True):
        assert low is None or (low <= value + 1e-9 and value < high)
    sets = thresholds.cross_fitted_sets(logits, cohort, 0.2)[0]
    assert conformal["image_coverage"]["value"] == pytest.approx(sets[np.arange(180), labels].mean())
    assert conformal["mean_set_size"]["value"] == pytest.approx(sets.sum(axis=1).mean())
    shares = conformal["shares"]
    assert sum(share["value"] for share in shares.values()) == pytest.approx(1)
    assert shares["single"]["value"] == pytest.approx((sets.sum(axis=1) == 1).mean())
    assert report["costs"] is None


def test_coverage_by_person_gives_each_the_same_weight():
    logits, cohort = people_predictions(50, 4, is_skewed=True)
    # The first person has 53 images, the others one each.
    groups = np.maximum(np.arange(200) - 52, 0)
    cohort = Cohort(cohort.labels, groups, np.where(groups == 0, 0, cohort.folds))
    conformal = decision_report(logits, cohort, Bootstrap(50, 0.9), miss_rate=0.3)["conformal"]
    sets = thresholds.cross_fitted_sets(logits, cohort, 0.3)[0]
    is_covered = sets[np.arange(200), cohort.labels]
    by_person = np.mean([is_covered[groups == group].mean() for group in np.unique(groups)])
    assert conformal["group_coverage"]["value"] == pytest.approx(by_person)
    assert conformal["image_coverage"]["value"] == pytest.approx(is_covered.mean())
    assert by_person != pytest.approx(is_covered.mean(), abs=1e-4)


def test_report_without_resamples_has_values_and_no_bounds():
    logits, cohort = people_predictions(20, 2, is_skewed=True)
    report = decision_report(logits, cohort, Bootstrap(0, 0.95))
    assert report["thresholds"]["f1"]["score"]["low"] is None
    assert report["thresholds"]["f1"]["score"]["value"] is not None
    assert set(report["abstention"]["curve"]["low"]) == {None}


def test_one_fold_is_refused():
    logits, cohort = people_predictions(20, 2, is_skewed=True)
    with pytest.raises(DataError, match="at least two folds"):
        decision_report(logits, cohort.with_folds(0 * cohort.folds), Bootstrap(0, 0.95))


def test_coverage_of_a_class_is_that_of_its_people():
    logits, cohort = people_predictions(50, 4, is_skewed=True)
    cohort = Cohort(cohort.labels, np.maximum(np.arange(200) - 52, 0) // 2, cohort.folds, ("woman", "man"))
    cohort = cohort.with_folds(cohort.groups % 5)
    report = decision_report(logits, cohort, Bootstrap(50, 0.9), miss_rate=0.3)
    for kind, key in zip(thresholds.SETS, ("conformal", "conformal_by_class"), strict=True):
        sets = thresholds.cross_fitted_sets(logits, cohort, 0.3, kind)[0]
        is_covered = sets[np.arange(200), cohort.labels]
        for k, entry in enumerate(report[key]["per_class"]):
            people = np.unique(cohort.groups[cohort.labels == k])
            expected = [is_covered[(cohort.groups == g) & (cohort.labels == k)].mean() for g in people]
            assert entry["group_coverage"]["value"] == pytest.approx(np.mean(expected))
            assert (entry["class"], entry["num_groups"]) == (cohort.class_names[k], len(people))
            assert entry["group_coverage"]["low"] <= entry["group_coverage"]["value"]


def test_a_class_without_an_image_has_no_coverage():
    logits, cohort = people_predictions(30, 2, 3)
    labels = np.where(cohort.labels == 2, 0, cohort.labels)
    report = decision_report(logits, Cohort(labels, cohort.groups, cohort.folds), Bootstrap(50, 0.9))
    entry = report["conformal_by_class"]["per_class"][2]
    assert entry == {"class": "2", "num_groups": 0, "group_coverage": {"value": None, "low": None, "high": None}}


def all_right_but(num_images, wrong=()):
    """Images of nobody, the first the surest; two classes in turn, five folds."""
    labels = np.arange(num_images) % 2
    margins = np.linspace(6, 2, num_images)
    margins[list(wrong)] *= -1
    logits = np.stack([-margins, margins], axis=1) * np.where(labels == 1, 0.5, -0.5)[:, None]
    return logits, Cohort(labels, None, np.arange(num_images) // 2 % 5)


def test_a_part_of_an_error_is_no_spike_of_the_band():
    """Between the last right image and the first wrong one the curve has a risk of next to nothing."""
    logits, cohort = all_right_but(78, wrong=[76])
    abstention = decision_report(logits, cohort, Bootstrap(500, 0.95))["abstention"]
    risk, low, high = (np.array(abstention["curve"][key][1:], float) for key in ("risk", "low", "high"))
    is_part = (risk > 0) & (risk < 1 / 78)
    assert is_part.any()
    assert high[risk > 0].max() < 0.1
    assert np.all((low <= risk + 1e-12) & (risk <= high + 1e-12))


def test_a_threshold_that_changes_no_decision_may_change_others():
    logits, cohort = all_right_but(80)
    thresholds_of = decision_report(logits, cohort, Bootstrap(200, 0.95))["thresholds"]
    for fitted in thresholds_of.values():
        gain = fitted["gain"]
        assert (gain["value"], gain["low"]) == (0, -gain["high"])
        assert 0.05 < gain["high"] < 0.1
