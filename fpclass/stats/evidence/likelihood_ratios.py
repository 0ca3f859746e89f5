"""Likelihood ratios of two classes and how good they are: Cllr, Cllr_min, bounds, empirical cross-entropy, words.

H1 is class 1, H2 class 0; a log-LR is natural unless its name says log10. Every function takes log-LRs [N] and labels
[N] of units that each count once, or as `weights` say.

Sources:
  Cllr, Cllr_min and their difference: Brümmer and du Preez, Application-independent evaluation of speaker detection,
    Computer Speech and Language 20 (2006) 230-275.
  Empirical cross-entropy: Ramos, Franco-Pedroso, Lozano-Diez and Gonzalez-Rodriguez, Deconstructing cross-entropy for
    probabilistic binary classifiers, Entropy 20 (2018) 208.
  Bounds: Vergeer, van Es, de Jongh, Alberink and Stoel, Numerical likelihood ratios outputted by LR systems are often
    based on extrapolation: when to stop extrapolating?, Science and Justice 56 (2016) 482-491.
  Words: ENFSI Guideline for Evaluative Reporting in Forensic Science, 2015.
The package lir of the Netherlands Forensic Institute gives the same numbers (tests/golden/make_evidence.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from fpclass.stats.draws import MAX_DISTINCT, Weights, coarse_ranks, in_parts
from fpclass.stats.metrics import Labels, ratio

LogRatios = Float[np.ndarray, " n"]
"""Natural logarithms of likelihood ratios; finite."""

LN10 = math.log(10)
BOUND_STEP = 0.01
"""Steps of log10 LR in which bounds are searched, as lir has it."""

VERBAL_SCALE: tuple[tuple[float, str], ...] = (
    (2, "no support for either"),
    (10, "weak support"),
    (100, "moderate support"),
    (1_000, "moderately strong support"),
    (10_000, "strong support"),
    (1_000_000, "very strong support"),
    (math.inf, "extremely strong support"),
)
"""Words for likelihood ratios below so much, from the bound before on; of those below 1 the inverse, for H2."""


def costs(llr: LogRatios, labels: Labels) -> Float[np.ndarray, " n"]:
    """What each log-LR costs, bits: log2(1 + 1/LR) under H1, log2(1 + LR) under H2."""
    return np.logaddexp(0, np.where(np.asarray(labels) == 1, -llr, llr)) / math.log(2)


def mean_by_class(values: Float[np.ndarray, " n"], labels: Labels) -> Callable[[Weights], Float[np.ndarray, " b"]]:
    """Of weights [B, N] the mean over H1 plus that over H2, halved; nan where one has no weight."""
    of_class = [(labels == k).astype(np.float64) for k in (0, 1)]
    cells = np.stack([part * column for column in (values, np.ones(len(labels))) for part in of_class], axis=1)

    def evaluate(weights: Weights) -> Float[np.ndarray, " b"]:
        sums = weights @ cells
        return (ratio(sums[:, 0], sums[:, 2]) + ratio(sums[:, 1], sums[:, 3])) / 2

    return evaluate


def cllr(llr: LogRatios, labels: Labels) -> float:
    """The log-likelihood-ratio cost: 0 is perfect, 1 is that of always saying LR = 1; nan without H1 or H2."""
    return float(mean_by_class(costs(llr, labels), labels)(np.ones((1, len(llr))))[0])


def pool_adjacent_violators(llr: LogRatios, labels: Labels, weights: np.ndarray | None = None) -> LogRatios:
    """The log-LRs [N] that keep the order and cost least: those of isotonic regression; infinite at the ends.

    Both classes weigh the same; equal log-LRs stay equal.
    """
    distinct, place = np.unique(llr, return_inverse=True)
    p = _isotonic(place, len(distinct), labels, np.ones(len(llr)) if weights is None else weights)[0][place]
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def cllr_min(llr: LogRatios, labels: Labels) -> float:
    """The Cllr after `pool_adjacent_violators`: what their order alone is worth, with the best calibration."""
    return float(make_cllr_min(llr, labels)(np.ones((1, len(llr))))[0])


def make_cllr_min(llr: LogRatios, labels: Labels) -> Callable[[Weights], Float[np.ndarray, " b"]]:
    """`cllr_min` of weights [B, N]; nan where H1 or H2 has no weight."""

    @functools.cache
    def places(is_coarse: bool) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(coarse_ranks(llr) if is_coarse else llr, return_inverse=True)

    @in_parts
    def evaluate(weights: np.ndarray) -> Float[np.ndarray, " b"]:
        distinct, place = places(len(weights) > 1 and len(llr) > MAX_DISTINCT)
        return np.array([_cost_of(*_isotonic(place, len(distinct), labels, row)) for row in weights])

    return evaluate


def _isotonic(place: np.ndarray, size: int, labels: Labels, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(H1) of each distinct log-LR [U], never falling, at even odds; and the shares of H2 and H1 there [2, U]."""
    from scipy.optimize import isotonic_regression

    sums = np.bincount(place + size * labels, weights, 2 * size).reshape(2, size)
    totals = sums.sum(axis=1)
    if not totals.all():
        return np.full(size, np.nan), sums
    shares = sums / totals[:, None]
    both = shares.sum(axis=0)
    is_there = both > 0
    p = np.zeros(size)
    p[is_there] = isotonic_regression((shares[1] / np.where(is_there, both, 1))[is_there], weights=both[is_there]).x
    return p.clip(0, 1), shares


def _cost_of(p: np.ndarray, shares: np.ndarray) -> float:
    of_h2, of_h1 = shares[0] > 0, shares[1] > 0
    with np.errstate(divide="ignore"):
        bits = -shares[1][of_h1] @ np.log2(p[of_h1]) - shares[0][of_h2] @ np.log2(1 - p[of_h2])
    return float(bits) / 2


def empirical_cross_entropy(
    llr: LogRatios, labels: Labels, log10_prior_odds: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Bits that are still missing, by the prior odds of H1; at even odds that is the Cllr. llr may be infinite."""
    prior = log10_prior_odds * LN10
    p = 1 / (1 + np.exp(-prior))
    of_h1, of_h2 = llr[labels == 1], llr[labels == 0]
    bits = [
        share * np.logaddexp(0, sign * (values[:, None] + prior)).mean(axis=0)
        for share, sign, values in ((p, -1, of_h1), (1 - p, 1, of_h2))
    ]
    return (bits[0] + bits[1]) / math.log(2)


def empirical_bounds(
    llr: LogRatios, labels: Labels, num_people: tuple[int, int], weights: np.ndarray | None = None
) -> tuple[float, float]:
    """The smallest and largest log10 LR that so many people support: ELUB, with one more, misleading person per class.

    Beyond them the expected utility of deciding by these log-LRs may be below that of ignoring them.

    Args:
      num_people: of H2 and of H1.
      weights: of each log-LR [N], by default 1; a person's images share what one person weighs, so that ten images of
        one person are no ten people.

    Returns:
      Low, not above 0, and high, not below 0.
    """
    log10, is_h1 = llr / LN10, np.asarray(labels) == 1
    weights = np.ones(len(llr)) if weights is None else weights
    lowest = max(float(log10.min()), -math.log10(num_people[1] + 1))
    highest = min(float(log10.max()), math.log10(num_people[0] + 1))
    steps = min(0, math.floor(lowest / BOUND_STEP)), max(0, math.floor(highest / BOUND_STEP) + 1)
    thresholds = np.linspace(steps[0] * BOUND_STEP, steps[1] * BOUND_STEP, steps[1] - steps[0] + 1)

    def share_above(of_class: np.ndarray, people: int, misleading: int) -> np.ndarray:
        """Share of a class with a log-LR above each threshold, with one more person who is above all or none."""
        order = np.argsort(log10[of_class])
        cumulative = np.append(0, np.cumsum(weights[of_class][order]))
        below = cumulative[np.searchsorted(log10[of_class][order], thresholds, side="right")]
        return (people * (1 - below / cumulative[-1]) + misleading) / (people + 1)

    odds = 10**thresholds
    system = 1 - share_above(is_h1, num_people[1], 0) + odds * share_above(~is_h1, num_people[0], 1)
    neutral = np.where(thresholds < 0, odds, 1.0)
    is_useless = neutral / system < 1
    low = np.max(thresholds[is_useless & (thresholds <= 0)] + BOUND_STEP, initial=thresholds[0])
    high = np.min(thresholds[is_useless & (thresholds >= 0)] - BOUND_STEP, initial=thresholds[-1])
    return min(float(low), 0.0), max(float(high), 0.0)


def verbal(llr: float) -> str:
    """A log-LR in the words of the ENFSI guideline, such as "moderate support for H1"."""
    size = abs(llr)
    words = next(words for bound, words in VERBAL_SCALE if size < math.log(bound))
    return words if words.startswith("no ") else f"{words} for {'H1' if llr > 0 else 'H2'}"
