"""McNemar and DeLong for images in groups: the plain tests where groups are images, at their level where not."""

from __future__ import annotations

import numpy as np
import pytest

from fpclass.stats.cohort import Cohort
from fpclass.stats.scrutiny.clustered import (
    MCNEMAR_FORMS,
    clustered_tests,
    delong,
    delong_clustered,
    mcnemar,
    mcnemar_clustered,
)
from fpclass.stats.weighted_metrics import make_weighted_roc_auc


def drawn(rng, num_people, per_person, spread=1.0):
    """Labels, people, and log-odds of two equally good classifiers whose errors people share, each its own."""
    people = np.repeat(np.arange(num_people), per_person)
    labels = (np.arange(num_people) % 2)[people]
    scores = [
        (2 * labels - 1) * 1.0 + spread * rng.normal(size=num_people)[people] + rng.normal(size=len(people))
        for _ in range(2)
    ]
    return labels, people, scores


def test_one_image_per_group_gives_the_plain_tests():
    rng = np.random.default_rng(0)
    labels, people, scores = drawn(rng, 120, 1)
    right = [(of > 0) == (labels == 1) for of in scores]
    plain = mcnemar(*right)
    gained, lost = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    assert plain.statistic == pytest.approx((gained - lost) ** 2 / (gained + lost))
    for form in MCNEMAR_FORMS:
        factor = 119 / 120 if form == "obuchowski" else 1
        assert mcnemar_clustered(*right, people, form).statistic == pytest.approx(factor * plain.statistic)
    by_image = delong(*scores, labels == 1)
    assert delong_clustered(*scores, labels == 1, people * 7 + 3) == by_image


def test_delong_is_the_published_variance():
    """By the covariance of the placements, as the 1988 paper has it, and the area as the other function has it."""
    rng = np.random.default_rng(1)
    labels, _, scores = drawn(rng, 60, 1)
    is_positive = labels == 1
    parts = []
    for of in scores:
        wins = (of[is_positive][:, None] > of[~is_positive]) + 0.5 * (of[is_positive][:, None] == of[~is_positive])
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    of_positives = np.cov([positive for positive, _ in parts]) / is_positive.sum()
    of_negatives = np.cov([negative for _, negative in parts]) / (~is_positive).sum()
    covariance = of_positives + of_negatives
    test = delong(*scores, is_positive)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Images of a class alone in their groups: the cross term between classes is 0.
    assert test.standard_error == pytest.approx(np.sqrt(variance))
    areas = [make_weighted_roc_auc(np.stack([-of, of], 1), labels)(np.ones((1, 60)))[0] for of in scores]
    assert test.difference == pytest.approx(areas[0] - areas[1])


def test_a_group_with_both_classes_counts_their_covariance():
    """Doubling every image within its group changes nothing; the plain test would halve the variance."""
    rng = np.random.default_rng(2)
    labels, _, scores = drawn(rng, 80, 1)
    groups = np.arange(80) // 2  # of both classes each
    once = delong_clustered(*scores, labels == 1, groups)
    twice = delong_clustered(*(np.tile(of, 2) for of in scores), np.tile(labels, 2) == 1, np.tile(groups, 2))
    assert twice.standard_error == pytest.approx(once.standard_error)
    plain = [delong(*scores, labels == 1), delong(*(np.tile(of, 2) for of in scores), np.tile(labels, 2) == 1)]
    assert plain[1].standard_error < 0.75 * plain[0].standard_error
    right = [(of > 0) == (labels == 1) for of in scores]
    for form in MCNEMAR_FORMS:
        both = mcnemar_clustered(*(np.tile(of, 2) for of in right), np.tile(groups, 2), form)
        assert both.p_value == pytest.approx(mcnemar_clustered(*right, groups, form).p_value)


def test_what_cannot_be_told_is_none_or_one():
    labels = np.array([0, 0, 1, 1])
    logits = np.stack([-labels, labels], 1).astype(float)
    found = clustered_tests(logits, logits, Cohort(labels, ["a", "a", "b", "b"]))
    assert found["mcnemar_clustered"]["p_value"] == 1
    assert found["delong_clustered"]["p_value"] is None, "one person per class"
    three = clustered_tests(np.eye(3), np.eye(3), Cohort(np.arange(3)))
    assert "delong" not in three
    with pytest.raises(ValueError, match="obuchowski"):
        mcnemar_clustered(labels > 0, labels > 0, labels, "other")


@pytest.mark.parametrize(("num_people", "per_person"), [(40, 10), pytest.param(150, 10, marks=pytest.mark.slow)])
def test_level(num_people, per_person):
    """Two equally good classifiers, ten images a person: the plain tests err far more often than 5 %."""
    rng, trials = np.random.default_rng(3), 400 if num_people < 100 else 2000
    rejected: dict[str, int] = {}
    for _ in range(trials):
        labels, people, scores = drawn(rng, num_people, per_person)
        logits = [np.stack([-of, of], 1) / 2 for of in scores]
        for name, test in clustered_tests(*logits, Cohort(labels, people)).items():
            rejected[name] = rejected.get(name, 0) + (test["p_value"] < 0.05)
    rates = {name: count / trials for name, count in rejected.items()}
    print(f"\n{num_people} people x {per_person}, {trials} trials:", rates)
    assert rates["mcnemar"] > 0.2
    assert rates["delong"] > 0.2
    margin = 3 * np.sqrt(0.05 * 0.95 / trials)
    for name, rate in rates.items():
        if name not in ("mcnemar", "delong"):
            assert 0.05 - margin - 0.01 < rate < 0.05 + margin + 0.02, (name, rate)
