"""What the checks found, with intervals over people, and in words."""

from __future__ import annotations

from collections.abc import Mapping
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

    return bootstrap.estimate(evaluate, cohort, scale="difference")


def summarise_all(found: Mapping[str, Checked], cohort: Cohort, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """`summarise` of all ways of making maps, by name; what is said of them holds for all of them at once."""
    num_verdicts = sum(2 + bool(of_images.cascade) for of_images in found.values())
    return {name: summarise(of_images, cohort, bootstrap, num_verdicts) for name, of_images in found.items()}


def summarise(found: Checked, cohort: Cohort, bootstrap: Bootstrap, num_verdicts: int) -> dict[str, Any]:
    """The numbers of one way of making maps, as JSON can hold them.

    Args:
      num_verdicts: that are given together: deletion, insertion and random weights of every way.

    Returns:
      size; blank (number of maps that are the same everywhere); deletion and insertion, each {area, random, better,
      for_all_at_once, curve, random_curve}: areas under the curves, of maps moved at random, and by how much the map is
      better (paired, positive is better), with the interval by which that is judged; randomised, a list of {stage,
      correlation, for_all_at_once, blank (share of maps)}; stability; on, by part {share, area, excess}. Every value is
      {value, low, high}.
    """
    together = bootstrap.for_all(num_verdicts)

    def mean(values: np.ndarray, bootstrap: Bootstrap = bootstrap) -> dict[str, Any]:
        return mean_interval(values, cohort, bootstrap).to_json()

    result: dict[str, Any] = {"size": list(found.size), "blank": int(found.blank.sum())}
    for name, sign in (("deletion", -1), ("insertion", 1)):
        curves, random = getattr(found.curves, name), getattr(found.random, name)
        better = sign * (area(curves) - area(random))
        result[name] = {
            "area": mean(area(curves)),
            "random": mean(area(random)),
            "better": mean(better),
            "for_all_at_once": mean(better, together),
            "curve": curves.mean(axis=0).round(4).tolist(),
            "random_curve": random.mean(axis=0).round(4).tolist(),
        }
    steps = found.cascade
    result["randomised"] = (
        [
            {
                "stage": stage,
                "correlation": mean(correlations),
                "for_all_at_once": mean(correlations, together),
                "blank": round(float(blank.mean()), 4),
            }
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
