import itertools

import numpy as np
import pytest
from drawn_predictions import people_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fpclass.errors import ConfigError
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions import risk_control, thresholds
from fpclass.stats.metrics import log_softmax

COST = [[0.0, 1.0], [5.0, 0.0]]


def brute_force_score(labels, decided, objective):
    if objective == "cost":
        return -np.mean(np.array(COST)[labels, decided])
    score = {"accuracy": sk.accuracy_score, "balanced_accuracy": sk.balanced_accuracy_score, "f1": sk.f1_score}
    return score[objective](labels, decided)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["accuracy", "f1", "balanced_accuracy", "cost"]))
def test_threshold_scores_as_well_as_any(seed, has_ties, objective):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(25, 2)), np.append([0, 1], rng.integers(0, 2, 23))
    logits = np.round(logits) if has_ties else logits
    p = np.exp(log_softmax(logits))[:, 1]
    threshold = thresholds.fit_threshold(logits, labels, objective, np.array(COST))
    reached = brute_force_score(labels, (p > threshold).astype(int), objective)
    every = [brute_force_score(labels, (p > t).astype(int), objective) for t in [0, 0.5, 1, *p]]
    assert reached == pytest.approx(max(every))
    if max(every) == pytest.approx(every[1]):
        assert threshold == 0.5


@pytest.mark.parametrize("objective", ["accuracy", "f1", "balanced_accuracy"])
def test_threshold_is_one_half_where_nothing_can_be_learnt(objective):
    assert thresholds.fit_threshold(np.zeros((3, 2)), np.zeros(3, int), objective) == 0.5


def test_threshold_separates_neighbouring_numbers():
    # Log-odds so close that hardly a number lies between two probabilities; the middle may round either way.
    odds = 1 + np.arange(200) * np.finfo(float).eps
    logits = np.stack([np.zeros(200), odds], axis=1)
    scores = np.exp(log_softmax(logits))[:, 1]
    levels, rows = np.unique(scores, return_index=True)
    assert len(levels) > 20
    for lower, upper in itertools.pairwise(rows):
        threshold = thresholds.fit_threshold(logits[[lower, upper]], np.array([0, 1]), "accuracy")
        assert scores[lower] <= threshold < scores[upper]


def test_each_fold_is_decided_by_the_others():
    logits, cohort = people_predictions(40, 2, is_skewed=True)
    labels = cohort.labels
    p = np.exp(log_softmax(logits))[:, 1]
    decided, by_fold, final = thresholds.cross_fitted_threshold(logits, cohort, "f1")
    is_decided, promised, _ = risk_control.cross_fitted_abstention(logits, cohort, 0.4, 0.8)
    sets, quantiles, _ = thresholds.cross_fitted_sets(logits, cohort, 0.2)
    scores = 1 - np.exp(log_softmax(logits))
    for fold in range(5):
        inside = cohort.folds == fold
        assert by_fold[fold] == thresholds.fit_threshold(logits[~inside], labels[~inside], "f1")
        np.testing.assert_array_equal(decided[inside], p[inside] > by_fold[fold])
        confidences, is_wrong = thresholds.confidences_of(logits), logits.argmax(axis=1) != labels
        others = (values[~inside] for values in (confidences, is_wrong, cohort.groups))
        assert promised[fold] == risk_control.control_risk(*others, 0.4, 0.8)
        np.testing.assert_array_equal(is_decided[inside], confidences[inside] >= promised[fold].smallest_confidence)
        true_scores = scores[np.arange(80), labels][~inside]
        assert set(quantiles[fold]) == {thresholds.conformal_quantile(true_scores, cohort.groups[~inside], 0.2)}
        np.testing.assert_array_equal(sets[inside], scores[inside] <= quantiles[fold])
        # Other labels in the fold itself change nothing in it.
        other = Cohort(np.where(inside, 1 - labels, labels), cohort.groups, cohort.folds)
        for function, extra in (
            (thresholds.cross_fitted_threshold, ["f1"]),
            (risk_control.cross_fitted_abstention, [0.4, 0.8]),
            (thresholds.cross_fitted_sets, [0.2]),
            (thresholds.cross_fitted_sets, [0.2, "class"]),
        ):
            first, second = (function(logits, either, *extra)[0][inside] for either in (cohort, other))
            np.testing.assert_array_equal(first, second)
    assert final == thresholds.fit_threshold(logits, labels, "f1")


def test_cost_decisions_are_the_cheapest():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    cost = rng.uniform(1, 5, (4, 4)) * (1 - np.eye(4))
    decided = thresholds.cost_decisions(p, cost)
    for i in range(200):
        expected = [sum(p[i, true] * cost[true, k] for true in range(4)) for k in range(4)]
        assert decided[i] == np.argmin(expected)
    np.testing.assert_array_equal(thresholds.cost_decisions(p, 1 - np.eye(4)), p.argmax(axis=1))
    # A false 0 costs five times a false 1: class 1 from one sixth on.
    p = np.array([[0.85, 0.15], [0.82, 0.18]])
    np.testing.assert_array_equal(thresholds.cost_decisions(p, COST), [0, 1])


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ([[0, 1, 1], [1, 0, 1]], "is not 2 rows"),
        ([[0, 1], [1]], "is not 2 rows"),
        ("ab", "is not 2 rows"),
        ([[0, -1], [1, 0]], "zero or more"),
        ([[0, np.inf], [1, 0]], "zero or more"),
        ([[2, 1], [1, 0]], "diagonal must be the smallest"),
    ],
)
def test_senseless_costs_are_one_clear_line(cost, message):
    with pytest.raises(ConfigError, match=message) as caught:
        thresholds.cost_decisions(np.full((3, 2), 0.5), cost)
    assert "\n" not in str(caught.value)


def test_risk_and_its_area_by_hand():
    # Confidences .9 .8 .7 .6, of which the second and the fourth are wrong.
    p = np.array([0.9, 0.8, 0.7, 0.6])
    logits, labels = np.log(np.stack([p, 1 - p], axis=1)), np.array([0, 1, 0, 1])
    result = thresholds.risk_coverage(logits, labels)(np.ones((1, 4)))
    assert result["aurc"][0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert result["risk"][0, [24, 49, 74, 99]] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    tied = np.log(np.tile([0.9, 0.1], (4, 1)))
    result = thresholds.risk_coverage(tied, labels)(np.ones((1, 4)))
    np.testing.assert_allclose(result["risk"], 0.5)
    assert result["aurc"][0] == pytest.approx(0.5)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_weight_of_two_is_two_images(seed, has_ties):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    logits = np.round(logits) if has_ties else logits
    weights = np.append(rng.integers(0, 3, 19), 1)
    weighted = thresholds.risk_coverage(logits, labels)(weights[None].astype(float))
    rows = np.repeat(np.arange(20), weights)
    repeated = thresholds.risk_coverage(logits[rows], labels[rows])(np.ones((1, len(rows))))
    np.testing.assert_allclose(weighted["risk"], repeated["risk"], atol=1e-9)
    np.testing.assert_allclose(weighted["aurc"], repeated["aurc"], atol=1e-9)
    assert weighted["risk"][0, -1] == pytest.approx((logits.argmax(axis=1) != labels)[rows].mean())


@pytest.mark.parametrize(("num_images", "miss_rate"), [(9, 0.1), (19, 0.1), (99, 0.1), (50, 0.25), (8, 0.1)])
def test_quantile_of_independent_images_is_that_of_the_definition(num_images, miss_rate):
    scores = np.random.default_rng(0).random(num_images)
    rank = int(np.ceil(round((num_images + 1) * (1 - miss_rate), 9)))
    expected = np.sort(scores)[rank - 1] if rank <= num_images else 1.0
    assert thresholds.conformal_quantile(scores, [""] * num_images, miss_rate) == expected


def test_quantile_counts_people_not_images():
    # Four people; the many images of the first weigh as much as the one of each other.
    scores = np.array([0.1] * 50 + [0.5, 0.6, 0.7])
    groups = ["many"] * 50 + ["a", "b", "c"]
    for miss_rate, expected in ((0.8, 0.1), (0.6, 0.5), (0.4, 0.6), (0.2, 0.7), (0.1, 1.0)):
        assert thresholds.conformal_quantile(scores, groups, miss_rate) == expected
    assert thresholds.conformal_quantile(scores, [""] * 53, 0.4) == 0.1


def coverage_by_simulation(num_people, as_people, num_trials=1500):
    """How often the quantile holds the score of a random image of a new person; easy people have more images."""
    rng = np.random.default_rng(0)
    covered = np.zeros(num_trials)
    for trial in range(num_trials):
        ease = rng.random(num_people + 1)
        codes = np.repeat(np.arange(num_people), 1 + np.floor(8 * ease[:-1]).astype(int))
        difficulty = 1 - ease
        scores = np.clip(0.8 * difficulty[codes] + 0.2 * rng.random(len(codes)), 0, 1)
        groups = codes if as_people else [""] * len(codes)
        new_score = 0.8 * difficulty[-1] + 0.2 * rng.random()
        covered[trial] = new_score <= thresholds.conformal_quantile(scores, groups, 0.1)
    return covered.mean()


def test_sets_cover_new_people_and_those_of_the_naive_quantile_do_not():
    error = np.sqrt(0.1 * 0.9 / 1500)
    assert 0.9 - 3 * error <= coverage_by_simulation(29, as_people=True) <= 0.9 + 1 / 30 + 3 * error
    assert coverage_by_simulation(29, as_people=False) < 0.9 - 5 * error


def minority(rng, num_people, per_person=3):
    """Logits that have learnt that class 1 is rare, a cohort with 10 % people of it in five folds."""
    labels = np.repeat(np.arange(num_people) % 10 == 0, per_person).astype(int)
    groups = np.repeat(np.arange(num_people), per_person)
    odds = 2 * (2 * labels - 1) * 0.9 + np.log(0.1 / 0.9)
    odds = odds + 2 * rng.normal(size=num_people)[groups] * 0.7 + 2 * rng.normal(size=len(groups)) * 0.7
    return np.stack([np.zeros_like(odds), odds], axis=1), Cohort(labels, groups, groups // 10 % 5)


def test_sets_by_class_hold_for_a_minority_that_marginal_ones_give_up():
    rng = np.random.default_rng(0)
    covered = {kind: [] for kind in thresholds.SETS}
    for _ in range(40):
        logits, cohort = minority(rng, 300)
        new, people = minority(rng, 300)
        for kind in thresholds.SETS:
            scores = thresholds.set_scores(logits)
            quantiles = thresholds.set_quantiles(scores, cohort.labels, cohort.groups, 0.1, kind)
            inside = (thresholds.set_scores(new) <= quantiles)[np.arange(len(people)), people.labels]
            covered[kind].append([inside[people.labels == k].mean() for k in (0, 1)])
    marginal, by_class = (np.mean(covered[kind], axis=0) for kind in thresholds.SETS)
    assert marginal[0] > 0.94
    assert marginal[1] < 0.6
    assert by_class.min() > 0.88
    assert by_class.max() < 0.95


def test_a_class_that_is_missing_or_has_too_few_people_is_always_in_a_set_by_class():
    logits, cohort = people_predictions(40, 2, 3, is_skewed=True)
    labels = np.where(cohort.labels == 2, 0, cohort.labels)
    labels[:2] = 1
    quantiles = thresholds.set_quantiles(thresholds.set_scores(logits), labels, cohort.groups, 0.02, "class")
    assert quantiles[2] == 1
    assert quantiles[1] == 1, "49 people are needed to promise 98 %"
    few = thresholds.set_quantiles(thresholds.set_scores(logits), labels, cohort.groups, 0.5, "class")
    assert few[2] == 1
    assert max(few[:2]) < 1
