import math
import pathlib

import numpy as np
import pytest
from scipy import integrate, stats

from fpclass.stats.evidence import likelihood_ratios as lr
from fpclass.stats.evidence.pooling import fit_pooling

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "evidence.npz")
NAMES = ("overconfident", "good", "useless", "few")


def golden(name):
    return {key.removeprefix(f"{name}_"): GOLDEN[key] for key in GOLDEN.files if key.startswith(name)}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_lir(name):
    of = golden(name)
    llr, labels = of["log10"] * lr.LN10, of["labels"]
    assert lr.cllr(llr, labels) == pytest.approx(float(of["cllr"]), rel=1e-12)
    assert lr.cllr_min(llr, labels) == pytest.approx(float(of["cllr_min"]), rel=1e-12)
    num = int((labels == 0).sum()), int((labels == 1).sum())
    assert lr.empirical_bounds(llr, labels, num) == pytest.approx(of["elub"], abs=1e-9)
    np.testing.assert_allclose(lr.pool_adjacent_violators(llr, labels) / lr.LN10, of["pav"], atol=1e-9)
    odds = np.log10(GOLDEN["priors"] / (1 - GOLDEN["priors"]))
    np.testing.assert_allclose(lr.empirical_cross_entropy(llr, labels, odds), of["ece"], rtol=1e-9)


@pytest.mark.parametrize("name", ["overconfident", "good"])
def test_calibration_is_the_logistic_regression_of_lir_but_for_its_prior(name):
    of = golden(name)
    odds, labels = of["log10"] * lr.LN10, of["labels"]
    log_p = -np.logaddexp(0, np.stack([odds, -odds], axis=1))
    fitted = fit_pooling(log_p, labels, np.arange(len(labels)), as_ratio=True)
    pooled = fitted.of_people(log_p, np.arange(len(labels)))
    np.testing.assert_allclose((pooled[:, 1] - pooled[:, 0]) / lr.LN10, of["logit"].ravel(), atol=0.07)


def test_cllr_by_published_relations():
    labels = np.array([1, 1, 0, 0, 0])
    assert lr.cllr(np.zeros(5), labels) == pytest.approx(1)  # Brümmer and du Preez 2006: the reference system, 1 bit
    assert lr.cllr(np.array([50.0, 50, -50, -50, -50]), labels) == pytest.approx(0)
    assert lr.cllr_min(np.array([1.0, 2, -3, -4, -5]), labels) == pytest.approx(0)
    # LR = 9 and LR = 1/9 for every trial: H(0.1) bits if a tenth is misleading, as Shannon's entropy has it.
    labels = np.tile([1] * 10 + [0] * 10, 3)
    llr = np.tile(math.log(9) * np.array([1] * 9 + [-1] + [-1] * 9 + [1]), 3)
    assert lr.cllr(llr, labels) == pytest.approx(stats.entropy([0.1, 0.9], base=2))
    assert lr.cllr_min(llr, labels) == pytest.approx(stats.entropy([0.1, 0.9], base=2))


def test_cllr_of_calibrated_normal_ratios():
    """van Leeuwen and Brümmer (Interspeech 2013): calibrated normal log-LRs have means of ± half their variance."""
    d = 2.0
    expected = integrate.quad(lambda x: stats.norm.pdf(x, d**2 / 2, d) * np.logaddexp(0, -x) / math.log(2), -30, 30)[0]
    rng = np.random.default_rng(0)
    labels = np.arange(200_000) % 2
    llr = d * rng.normal(size=len(labels)) + d**2 / 2 * (2 * labels - 1)
    assert lr.cllr(llr, labels) == pytest.approx(expected, abs=0.005)
    assert lr.cllr_min(llr, labels) == pytest.approx(expected, abs=0.005)
    assert lr.cllr(3 * llr, labels) > expected + 0.1
    assert lr.cllr_min(3 * llr, labels) == pytest.approx(lr.cllr_min(llr, labels))


def test_weights_count_as_copies():
    rng = np.random.default_rng(1)
    labels, llr = np.arange(40) % 2, np.round(rng.normal(size=40), 1)
    weights = rng.integers(0, 4, 40)
    copied = np.repeat(llr, weights), np.repeat(labels, weights)
    row = weights[None].astype(float)
    assert lr.make_cllr_min(llr, labels)(row)[0] == pytest.approx(lr.cllr_min(*copied))
    cost = lr.mean_by_class(lr.costs(llr, labels), labels)
    assert cost(row)[0] == pytest.approx(lr.cllr(*copied))
    assert np.isnan(cost(row * (labels == 1))[0])
    assert np.isnan(lr.make_cllr_min(llr, labels)(row * (labels == 1))[0])


def test_ten_images_of_a_person_support_no_more_than_one():
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 2
    llr = 8 * rng.normal(size=60) + 8 * (2 * labels - 1)
    once = lr.empirical_bounds(llr, labels, (30, 30))
    tenfold = np.repeat(llr, 10), np.repeat(labels, 10)
    assert lr.empirical_bounds(*tenfold, (30, 30), np.full(600, 0.1)) == pytest.approx(once)
    careless = lr.empirical_bounds(*tenfold, (300, 300))
    assert careless[0] <= once[0]
    assert careless[1] >= once[1]
    assert careless != pytest.approx(once)
    assert -math.log10(31) - 0.02 <= once[0] <= 0 <= once[1] <= math.log10(31) + 0.02


def test_words_of_the_enfsi_guideline():
    words = [lr.verbal(math.log(x)) for x in (1, 1.9, 1 / 1.9, 2, 9.9, 10, 101, 1_001, 10_001, 999_999, 1_000_001)]
    assert words == [
        *["no support for either"] * 3,
        *["weak support for H1"] * 2,
        "moderate support for H1",
        "moderately strong support for H1",
        "strong support for H1",
        *["very strong support for H1"] * 2,
        "extremely strong support for H1",
    ]
    assert lr.verbal(-math.log(50)) == "moderate support for H2"
