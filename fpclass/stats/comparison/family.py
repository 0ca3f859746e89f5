"""Error of a family of tests against one baseline: p values adjusted for how many there are and how alike they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NUM_DRAWS = 50_000
"""Draws of the family's statistics: an adjusted p of 0.05 is known to within 0.001."""


def family_p_values(
    p_values: Sequence[float | None], standard_errors: Sequence[float | None], shared: Float[np.ndarray, "k k"]
) -> list[float | None]:
    """Adjusts the p values of comparisons with one baseline so that any of them is a false find at most as often.

    Step-down: a p value is adjusted for the chance that the smallest of those not yet rejected is as small, in draws of
    normal statistics that vary together as the comparisons do. Never larger than Holm's, which stands in where draws
    are too few to tell.

    Args:
      p_values: of the family; None or nan does not belong to it and gives None.
      standard_errors: of the differences; where one is None or 0, Holm's p value stands.
      shared: covariance of the differences; its diagonal does not count, and what is nan is taken for 0.

    Source: Westfall and Young (1993), Dunnett and Tamhane (1991), by simulation.
    """
    from scipy import stats

    by_holm = holm(p_values)
    inside = [i for i, (p, error) in enumerate(zip(by_holm, standard_errors, strict=True)) if p is not None and error]
    if len(inside) < 2:
        return by_holm
    own, errors = (np.array([of_all[i] for i in inside], float) for of_all in (p_values, standard_errors))
    drawn = np.abs(_draw_normal(np.nan_to_num(shared[np.ix_(inside, inside)]) / np.outer(errors, errors)))
    statistics = stats.norm.isf(own / 2)
    order = np.argsort(-statistics, kind="stable")
    # The largest of a draw's statistics among those that are not yet rejected.
    largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    adjusted, so_far = list(by_holm), 0.0
    for rank, i in enumerate(order):
        reached = float((1 + (largest[:, rank] >= statistics[i]).sum()) / (1 + NUM_DRAWS))
        holms = by_holm[inside[i]]
        assert holms is not None
        so_far = max(so_far, min(holms, max(reached, own[i])))
        adjusted[inside[i]] = so_far
    return adjusted


def _draw_normal(correlation: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "d k"]:
    """Normal numbers of these correlations, or of the nearest that can be, the same at every call."""
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    factor = vectors * np.sqrt(np.clip(values, 0, None))
    factor /= np.linalg.norm(factor, axis=1, keepdims=True)
    return np.random.default_rng(0).standard_normal((NUM_DRAWS, len(factor))) @ factor.T


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values so that rejecting those below alpha errs anywhere in the family with probability alpha at most.

    None or nan (a config that failed) does not belong to the family and gives None. Source: Holm (1979).
    """
    family = sorted((p, i) for i, p in enumerate(p_values) if p is not None and not math.isnan(p))
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(family):
        largest = max(largest, min(1.0, (len(family) - rank) * p))
        adjusted[i] = largest
    return adjusted
