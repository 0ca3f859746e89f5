"""What the checks found, with intervals over people, and in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.explain.checks.checked import Checked
from fpclass.explain.checks.removal import area
from fpclass.stats.cohort import Cohort
from fpclass.stats.draws import Weights
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval

LITTLE, MUCH = 0.3, 0.7
"""Rank correlations below and above which maps are called unlike and alike."""


def mean_interval(values: Float[np.ndarray, " n"], cohort: Cohort, bootstrap: Bootstrap) -> Interval:
    """Mean over images, an interval over people; of the images where it is defined (not nan)."""
    rows = np.flatnonzero(np.isfinite(values))
    if not len(rows):
        return UNDEFINED
    defined, cohort = values[rows].astype(np.float64), cohort.take(rows)

    def evaluate(weights: Weights) -> np.ndarray:
        return (weights @ defined) / weights.sum(axis=1)

    return bootstrap.estimate(evaluate, cohort, is_proportion=False)


def summarise(found: Checked, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """The numbers of one way of making maps, as JSON can hold them.

    Returns:
      size; blank (number of maps that are the same everywhere); deletion and insertion, each {area, random, better,
      curve, random_curve}: areas under the curves, of maps moved at random, and by how much the map is better (paired,
      positive is better); randomised, a list of {stage, correlation, blank (share of maps)}; stability; on, by part
      {share, area, excess}. Every value is {value, low, high}.
    """

    def mean(values: np.ndarray) -> dict[str, Any]:
        return mean_interval(values, cohort, bootstrap).to_json()

    result: dict[str, Any] = {"size": list(found.size), "blank": int(found.blank.sum())}
    for name, sign in (("deletion", -1), ("insertion", 1)):
        curves, random = getattr(found.curves, name), getattr(found.random, name)
        result[name] = {
            "area": mean(area(curves)),
            "random": mean(area(random)),
            "better": mean(sign * (area(curves) - area(random))),
            "curve": curves.mean(axis=0).round(4).tolist(),
            "random_curve": random.mean(axis=0).round(4).tolist(),
        }
    steps = found.cascade
    result["randomised"] = (
        [
            {"stage": stage, "correlation": mean(correlations), "blank": round(float(blank.mean()), 4)}
            for stage, correlations, blank in zip(steps.stages, steps.correlations, steps.blank, strict=True)
        ]
        if steps
        else []
    )
    result["stability"] = mean(found.stability)
    result["on"] = {
        name: {"share": mean(shares), "area": mean(areas), "excess": mean(shares - areas)}
        for name, (shares, areas) in found.on.items()
    }
    return result
