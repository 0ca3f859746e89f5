"""Suspected outliers: images unlike all others, and those of an extreme size, shape, brightness or contrast."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

METHOD = "an isolation forest on statistics of the picture: brightness, contrast, sharpness, colours, layout"
MAX_Z = 3.5
"""Robust standard deviations from the median beyond which a value is an outlier.
Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993."""
EXTREMES = {"longer side": (2.0, "{:.0f} px"), "width / height": (1.5, "{:.2f}")}
"""Quantities compared by ratio: the smallest ratio to the median that is extreme (chosen), and how it is shown."""
MAX_EXTREME_SHARE = 0.1
"""Where more images than this share are extreme, they are a kind of their own and no outliers (chosen)."""
MIN_GREY_DIFFERENCE = 40.0
"""Smallest difference from the median brightness or contrast, of 255, that counts as extreme (chosen)."""


@dataclasses.dataclass(frozen=True)
class Strangeness:
    """Outlier scores of images.

    Attributes:
      percentile: share of the images that are less strange, in [0, 100).
      z: robust standard deviations of the score above its median; suspected beyond `MAX_Z`.
      order: positions, the strangest first.
    """

    percentile: Float[np.ndarray, " n"]
    z: Float[np.ndarray, " n"]
    is_suspected: Bool[np.ndarray, " n"]
    order: Int[np.ndarray, " n"]


def find_strange(statistics: Float[np.ndarray, "n s"]) -> Strangeness:
    """Scores of how easily random cuts tell an image from the others, two at least, by its statistics.

    Source: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008; scikit-learn's.
    """
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=200, random_state=0).fit(statistics)
    score = -forest.score_samples(statistics)
    z = np.clip(robust_z(score), -99.0, 99.0)  # infinite where most images are alike
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(score), np.int64)
    rank[order] = np.arange(len(score))
    return Strangeness(100 * (len(score) - 1 - rank) / len(score), z, z > MAX_Z, order)


def robust_z(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Distance from the median in standard deviations, these from the median absolute deviation; signed.

    Where more than half of the values are the same, that deviation is 0, and every other value is infinitely far.
    """
    difference = values - np.median(values)
    deviation = 1.4826 * np.median(np.abs(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / deviation)


def extreme_looks(facts: pd.DataFrame) -> dict[int, list[str]]:
    """Images whose size, shape, brightness or contrast is far from what the others have.

    Extreme is what is beyond `MAX_Z` robust standard deviations, differs by a margin that a person sees, and is rare.
    `facts` are usable rows of an audited table; the result says by their index what is extreme, the most extreme first.
    """
    if facts.empty:
        return {}
    width, height = facts["width"].to_numpy(float), facts["height"].to_numpy(float)
    reasons: dict[int, list[str]] = {}
    severity: dict[int, float] = {}

    def note(is_extreme: np.ndarray, size: np.ndarray, name: str, values: np.ndarray, shown: str) -> None:
        if is_extreme.mean() > MAX_EXTREME_SHARE:
            return
        typical = shown.format(np.median(values))
        for i in np.flatnonzero(is_extreme):
            row = int(facts.index[i])
            reasons.setdefault(row, []).append(f"{name} {shown.format(values[i])} (median {typical})")
            severity[row] = severity.get(row, 0.0) + float(size[i])

    for name, values in (("longer side", np.maximum(width, height)), ("width / height", width / height)):
        margin, shown = EXTREMES[name]
        logs = np.log(values)
        size = np.abs(logs - np.median(logs)) / np.log(margin)
        note((np.abs(robust_z(logs)) > MAX_Z) & (size > 1), size, name, values, shown)
    for name, column in (("brightness", "mean"), ("contrast", "std")):
        values = facts[column].to_numpy(float)
        size = np.abs(values - np.median(values)) / MIN_GREY_DIFFERENCE
        note((np.abs(robust_z(values)) > MAX_Z) & (size > 1), size, name, values, "{:.0f} of 255")
    return dict(sorted(reasons.items(), key=lambda item: -severity[item[0]]))
