"""Weights by group stand for the weights of all images."""

import numpy as np
import pytest
from scipy import sparse

from fpclass.stats import draws as module
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.thresholds import risk_coverage
from fpclass.stats.draws import Draws, in_parts
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.weighted_metrics import make_weighted_roc_auc, one_vs_rest_scores


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    return Draws(rng.integers(0, 4, (7, 5)).astype(float), rng.integers(0, 5, 30))


def test_sums_are_those_of_the_array(draws):
    """Of the whole and of some images in another order, one of them twice; dense, sparse, boolean."""
    whole, rng = np.concatenate(list(draws.parts())), np.random.default_rng(1)
    assert whole.shape == draws.shape == (7, 30)
    some = np.array([29, 3, 3, 11])
    for weights, array in ((draws, whole), (draws[:, some], whole[:, some])):
        values = rng.normal(size=(array.shape[1], 3))
        np.testing.assert_allclose(weights @ values, array @ values, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(weights @ (values[:, 0] > 0), array @ (values[:, 0] > 0))
        np.testing.assert_allclose((weights @ sparse.csr_array(values)), array @ values, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(weights.sum(axis=1), array.sum(axis=1))
        np.testing.assert_array_equal(np.concatenate(list(weights.parts())), array)
        assert len(weights) == len(array)
    np.testing.assert_array_equal(draws[:, 4], whole[:, 4])
    with pytest.raises(ValueError, match="axis 0"):
        draws.sum(axis=0)


def test_what_needs_every_image_gets_the_array_in_parts(draws, monkeypatch):
    monkeypatch.setattr(module, "IMAGE_WEIGHTS_PER_PART", 60)
    seen = []

    @in_parts
    def largest(weights):
        seen.append(weights.shape)
        return weights.max(axis=1)

    whole = np.concatenate(list(draws.parts()))
    np.testing.assert_array_equal(largest(draws), whole.max(axis=1))
    np.testing.assert_array_equal(largest(whole), whole.max(axis=1))
    assert seen == [(2, 30), (2, 30), (2, 30), (1, 30), (7, 30)]


def test_people_are_drawn_once_for_all_that_is_asked_of_a_cohort(monkeypatch):
    """However many figures; other folds are about the same people. Another seed or number draws anew."""
    cohort, drawn = Cohort(np.arange(12) % 2, np.arange(12) // 3), []
    plain = Bootstrap._counts
    monkeypatch.setattr(Bootstrap, "_counts", lambda *args: drawn.append(args) or plain(*args))
    for bootstrap in (Bootstrap(20, 0.95), Bootstrap(20, 0.9), Bootstrap(20, 0.95, seed=1), Bootstrap(21, 0.95)):
        for of in (cohort, cohort.with_folds(np.arange(12) // 6)):
            bootstrap.resample(lambda weights: weights.sum(axis=1), of)
    assert len(drawn) == 3


def test_resamples_of_many_images_take_near_ranks_for_ties_and_hardly_differ():
    rng, num_images = np.random.default_rng(0), 3 * module.MAX_DISTINCT
    labels = np.arange(num_images) % 2
    logits = np.stack([np.zeros(num_images), rng.normal(size=num_images) + labels], axis=1)
    drawn = module.Draws(rng.integers(0, 3, (4, 500)).astype(float), np.arange(num_images) % 500)
    weights = np.concatenate(list(drawn.parts()))
    area = make_weighted_roc_auc(one_vs_rest_scores(logits), labels)
    curve = risk_coverage(logits, labels)
    for of_all, of_one in ((area, lambda row: area(row)), (lambda w: curve(w)["aurc"], lambda row: curve(row)["aurc"])):
        exact = np.concatenate([of_one(row[None]) for row in weights])
        np.testing.assert_allclose(of_all(drawn), exact, atol=1e-4)
        assert not np.array_equal(of_all(drawn), exact)
    risk = np.concatenate([curve(row[None])["risk"] for row in weights])
    np.testing.assert_allclose(curve(drawn)["risk"][:, 5:], risk[:, 5:], atol=2e-3)
