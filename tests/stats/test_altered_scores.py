"""Scores of altered copies: paired with those of the images as they are, over people."""

from __future__ import annotations

import numpy as np
import pytest

from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.scrutiny.altered import METRICS, PairedScores

LABELS = np.tile([0, 1], 60)
COHORT = Cohort(LABELS, np.repeat([f"p{i}" for i in range(60)], 2))
BOOTSTRAP = Bootstrap(400, 0.95)


def logits_of(is_right, sureness=2.0):
    """Logits of two classes that are right where it is said."""
    says = np.where(is_right, LABELS, 1 - LABELS)
    return sureness * (np.eye(2)[says] - 0.5) + np.random.default_rng(0).normal(0, 0.01, (120, 2))


RIGHT = np.arange(120) % 10 != 0


def test_a_copy_that_is_answered_alike_differs_by_nothing():
    paired = PairedScores(logits_of(RIGHT), COHORT, BOOTSTRAP)
    same = paired.of(logits_of(RIGHT) + 3.0)
    assert same.is_same
    assert all(str(same.differences[metric]) == "0.000 [0.000, 0.000]" for metric in METRICS)
    assert same.scores == paired.plain.scores


def test_a_difference_is_that_of_the_scores_and_its_interval_is_paired():
    paired = PairedScores(logits_of(RIGHT), COHORT, BOOTSTRAP)
    worse = RIGHT & (np.arange(120) % 8 != 1)
    copy = paired.of(logits_of(worse))
    difference = copy.differences["accuracy"]
    assert difference.value == pytest.approx(worse.mean() - RIGHT.mean())
    assert copy.is_lower
    assert copy.is_known
    plain = paired.plain.scores["accuracy"]
    width = (difference.high or 0) - (difference.low or 0)
    assert width < 1.5 * ((plain.high or 0) - (plain.low or 0)), "of the same people"


def test_answers_that_stay_although_they_are_less_sure_may_have_changed_for_others():
    copy = PairedScores(logits_of(RIGHT), COHORT, BOOTSTRAP).of(logits_of(RIGHT, sureness=1.0))
    difference = copy.differences["accuracy"]
    assert difference.value == 0
    assert (difference.low or 0) < 0 < (difference.high or 0)
    assert not copy.is_lower


def test_what_is_said_of_many_copies_takes_more():
    paired = PairedScores(logits_of(RIGHT), COHORT, BOOTSTRAP)
    slightly = paired.of(logits_of(RIGHT & ~np.isin(np.arange(120), (11, 33, 55, 77, 99))))
    many = paired.of(logits_of(RIGHT & ~np.isin(np.arange(120), (11, 33, 55, 77, 99))), num_copies=1000)
    assert slightly.is_lower
    assert not many.is_lower
    assert slightly.differences == many.differences


def test_chance_is_not_known():
    random = np.random.default_rng(1).normal(size=(120, 2))
    paired = PairedScores(logits_of(RIGHT), COHORT, BOOTSTRAP)
    assert paired.of(random).is_known is False
    assert paired.chance == 0.5
    assert PairedScores(random, COHORT, Bootstrap(0, 0.95)).plain.is_known is None
