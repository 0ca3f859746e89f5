"""From which confidence on to decide: the bound by hand, what cannot be promised, and how often a promise is broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special, stats

from fpclass.stats.decisions.risk_control import ControlledRisk, control_risk, draw_one_each, people_needed


def drawn_people(rng, num_people, per_person, accuracy):
    """Calibrated confidences, errors and people of alike images of people: equally many, or 1 to 2 m - 1."""
    mu = stats.norm.ppf(accuracy)
    images_of = np.full(num_people, per_person) if per_person < 5 else rng.integers(1, 2 * per_person, num_people)
    groups = np.repeat(np.arange(num_people), images_of)
    noise = np.sqrt(0.7) * rng.normal(size=num_people)[groups] + np.sqrt(0.3) * rng.normal(size=len(groups))
    odds = 2 * mu * (mu + noise)  # of the true class
    return special.expit(np.abs(odds)), odds < 0, groups


def true_risk(smallest, accuracy):
    """Error rate among the images that reach a confidence, by the normal distribution of `drawn_people`."""
    mu, odds = stats.norm.ppf(accuracy), special.logit(smallest)
    wrong, right = stats.norm.cdf([(-odds / 2 / mu) - mu, mu - odds / 2 / mu])
    return wrong / (wrong + right), wrong + right


def test_the_bound_is_the_exact_binomial_one():
    """200 people, all equally sure, 3 wrong: P(3 or less of 200 | 5 %) is 0.009, and 0.05 is not exceeded at 90 %."""
    is_wrong = np.arange(200) < 3
    found = control_risk(np.full(200, 0.985), is_wrong, np.arange(200), 0.05, 0.9)
    assert (found.smallest_confidence, found.num_people, found.num_errors) == (0.985, 200, 3)
    assert stats.binom.cdf(3, 200, found.high) == pytest.approx(0.1)
    assert control_risk(np.full(200, 0.985), np.arange(200) < 7, np.arange(200), 0.05, 0.9) == ControlledRisk()


def test_images_of_a_person_are_one_piece_of_evidence():
    """Forty images of one person are no forty people."""
    assert people_needed(0.05, 0.9) == 45
    confidences, is_wrong = np.full(1000, 0.999), np.zeros(1000, bool)
    for num_people, is_promised in ((44, False), (45, True), (1000, True)):
        found = control_risk(confidences, is_wrong, np.arange(1000) % num_people, 0.05, 0.9)
        assert (found.smallest_confidence is not None) == is_promised
        assert found.num_people == (num_people if is_promised else 0)


def test_one_image_of_each_is_drawn_whatever_is_predicted():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 4))
    drawn = draw_one_each(groups)
    np.testing.assert_array_equal(groups[drawn], np.arange(50))
    assert len({int(np.flatnonzero(groups == g).searchsorted(row)) for g, row in enumerate(drawn)}) == 4


@pytest.mark.parametrize(("max_risk", "is_promised"), [(0.0, False), (1.0, True)])
def test_nothing_and_everything_can_be_asked_for(max_risk, is_promised):
    confidences, is_wrong, groups = drawn_people(np.random.default_rng(0), 60, 2, 0.8)
    found = control_risk(confidences, is_wrong, groups, max_risk, 0.9)
    assert (found.smallest_confidence is not None) == is_promised
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    if is_promised:
        assert found.smallest_confidence == confidences.min()
    assert found.decides(confidences).all() == is_promised


def test_one_image_and_equal_confidences_make_no_error():
    for confidences in (np.array([0.7]), np.full(5, 0.5)):
        found = control_risk(confidences, np.zeros(len(confidences), bool), np.arange(len(confidences)), 0.05, 0.9)
        assert not found.decides(confidences).any()


def broken(num_studies, num_people, per_person, accuracy):
    """Shares of studies whose risk is above 5 %, and that promise anything; mean share of images decided."""
    rng = np.random.default_rng(0)
    rows = np.zeros((num_studies, 3))
    for row in rows:
        found = control_risk(*drawn_people(rng, num_people, per_person, accuracy), 0.05, 0.9)
        if found.smallest_confidence is not None:
            risk, coverage = true_risk(found.smallest_confidence, accuracy)
            row[:] = risk > 0.05, 1, coverage
    return rows.mean(axis=0)


def test_the_promise_is_kept_where_the_rate_that_was_met_is_not():
    """One cell of the slow table; picking the largest share with 5 % errors met is wrong in half of the studies."""
    is_above, is_promised, coverage = broken(200, 150, 3, 0.89)
    assert is_above <= 0.1 + 2 * np.sqrt(0.09 / 200)
    assert is_promised > 0.5
    assert coverage > 0.25
    rng, naive = np.random.default_rng(0), []
    for _ in range(100):
        confidences, is_wrong, _ = drawn_people(rng, 150, 3, 0.89)
        order = np.argsort(-confidences)
        allowed = np.flatnonzero(is_wrong[order].cumsum() / np.arange(1, len(order) + 1) <= 0.05)
        naive.append(true_risk(confidences[order][allowed[-1]], 0.89)[0] > 0.05)
    assert np.mean(naive) > 0.3


@pytest.mark.slow
def test_promises_are_broken_as_rarely_as_they_say():
    print("\n| people, images each | accuracy | risk above 5 % | promises something | share decided, mean |")
    for accuracy in (0.66, 0.79, 0.89, 0.95):
        for num_people, per_person in ((50, 1), (50, 3), (150, 1), (150, 3), (150, 10), (300, 3), (300, 10), (1000, 3)):
            is_above, is_promised, coverage = broken(1000, num_people, per_person, accuracy)
            each = per_person if per_person < 5 else f"1 to {2 * per_person - 1}"
            print(f"| {num_people}, {each} | {accuracy} | {is_above:.3f} | {is_promised:.3f} | {coverage:.3f} |")
            assert is_above <= 0.1 + 3 * np.sqrt(0.09 / 1000)
