"""Bounds of a value from its resampled values, or its standard error, and from how many groups it rests on.

The bounds are those of Student's t, with the standard deviation of the resampled values as the standard error; of a
proportion on the scale of log-odds, of a loss on that of logarithms, so that they stay in range. A bootstrap of few
people is too narrow by sqrt((n - 1) / n), and more so where few people have most of the images: n is the effective
number of people, (sum m)^2 / sum m^2 for m images each (Kish 1965). Percentiles, the usual choice, cover 0.82 to 0.85
of 6 people where 0.95 is promised; these 0.93 to 0.99 (`tests/stats/comparison/test_coverage.py`, docs/statistics.md).

Rules of their own:
  - A proportion of exactly 0 or 1, or one that no resample changes, has Wilson's interval, with the effective number of
    groups that it rests on as the number of trials: of all groups for accuracy, of those with images of the class for
    recall and F1, of those with images predicted as the class for precision, and, an approximation, of the smallest
    class for other metrics.
  - Two proportions that differ in no group, so that no resample changes their difference, may differ by the upper end
    of Wilson's interval of 0 of so many groups.
  - A loss that no resample changes has none: it has no largest value that would say what is left to see.
  - A metric that rests on fewer than two groups, or is undefined in more than a tenth of the resamples, has none.

Sources:
  Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015) 371-386 (few people).
  Kish, Survey Sampling (1965), section 8.2.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Literal

import numpy as np
from jaxtyping import Float

from fpclass.common.extension import is_own
from fpclass.stats.cohort import Cohort
from fpclass.stats.weighted_metrics import LOSSES, MACRO_PRECISION, PER_CLASS_METRICS, class_of

MIN_DEFINED = 0.9
"""Share of the resamples in which a metric has to be defined to have an interval: those left out are not any ones."""
NEGLIGIBLE = 1e-12
"""Differences of scores below this are rounding."""
WITHIN_CLASSES = ("balanced_accuracy", "macro_f1", "roc_auc", MACRO_PRECISION, *PER_CLASS_METRICS)
"""Metrics that need every class, or are of one: of the people of a class, as many are drawn as there are."""

Bounds = tuple[float, float] | tuple[None, None]
"""Low and high; both None where there is no interval."""
Scale = Literal["proportion", "positive", "difference", "proportions", "unknown"]
"""On which an interval is symmetric: log-odds, logarithms, or as it is. Without any spread a difference of two
proportions has the bounds of `Support.unseen`, a loss and something of unknown range none (`has_bounds`)."""


def is_within_classes(metric: str) -> bool:
    """Whether people are drawn within their class for a metric."""
    return metric.partition("[")[0] in WITHIN_CLASSES


def scale_of(metric: str) -> Scale:
    """The scale on which the interval of a metric is symmetric."""
    return "unknown" if is_own(metric) else "positive" if metric in LOSSES else "proportion"


def has_bounds(scale: Scale) -> bool:
    """Whether there is an interval of something that no resample changes; of a loss that would be one of no width."""
    return scale not in ("positive", "unknown")


@dataclasses.dataclass(frozen=True)
class Support:
    """What a value rests on.

    Attributes:
      groups: effective number of them; 0 or 1 gives no interval.
      strata: what drawing and centring groups in parts takes from the degrees of freedom; 1 without parts.
      of_smallest: of the smallest class, where one class alone could spoil a value of 1; 0: of all.
    """

    groups: float
    strata: float = 1
    of_smallest: float = 0.0

    @property
    def degrees_of_freedom(self) -> float:
        """Of a variance over the groups; at least 1."""
        return max(1.0, self.groups - self.strata)

    @property
    def correction(self) -> float:
        """By how much the variance of resampled values is too small: n / (n - strata)."""
        return max(self.groups, 2.0) / self.degrees_of_freedom

    def extreme_bounds(self, value: float, confidence: float) -> tuple[float, float]:
        """Bounds of a proportion of exactly 0 or 1, or one that no resample changes."""
        trials = self.of_smallest or self.groups
        return wilson_bounds(value * trials, trials, confidence)

    def unseen(self, confidence: float) -> float:
        """How often two may differ that differ in none of these groups: the upper bound of a proportion of 0."""
        return self.extreme_bounds(0.0, confidence)[1]


def support_of(metric: str, cohort: Cohort, num_folds: int = 1) -> Support:
    """What a metric with one value rests on: all groups, those of its class, or of all classes, where each counts.

    With `num_folds` it is a mean over folds. Centred in them, a variance would lose a degree of freedom for each; but
    the groups are drawn over all folds at once, and that folds change in size makes up for about half of it (from 5 to
    60 people in 5 folds the resampled variance of normal numbers is 0.52 to 1.00 of the true one).
    """
    taken = max(1.0, num_folds / 2)
    if (k := class_of(metric)) is not None:
        return Support(cohort.effective_groups(cohort.labels == k), taken)
    if not is_within_classes(metric):
        return Support(cohort.effective_groups(), taken)
    by_class = [cohort.effective_groups(cohort.labels == k) for k in np.unique(cohort.labels)]
    if cohort.class_of_groups is None or min(by_class) < 2:
        return Support(min(by_class), taken)
    return Support(sum(by_class), len(by_class) - 1 + taken, min(by_class))


def shared_training(num_folds: int) -> float:
    """By how much people who have trained what the others are judged with widen a mean over F folds: F / (F - 1)."""
    return num_folds / max(num_folds - 1, 1)


def resampled_bounds(
    value: float,
    replicates: Float[np.ndarray, " b"],
    confidence: float,
    support: Support,
    scale: Scale = "proportion",
) -> Bounds:
    """Interval of a value by its resampled values, by the rules at the head of this module.

    Args:
      value: of the groups themselves; nan where undefined.
      replicates: one per resample; nan where undefined.
      confidence: coverage, in (0, 1).
      support: what the value rests on.
    """
    defined = replicates[~np.isnan(replicates)]
    if support.groups < 2 or math.isnan(value) or not len(defined) or len(defined) < MIN_DEFINED * len(replicates):
        return None, None
    standard_error = math.sqrt(float(defined.var()) * support.correction)
    if scale == "proportion" and (value in (0, 1) or standard_error < NEGLIGIBLE):
        return support.extreme_bounds(value, confidence)
    if standard_error < NEGLIGIBLE and not has_bounds(scale):
        return None, None
    if scale == "proportions" and standard_error < NEGLIGIBLE:
        return value - support.unseen(confidence), value + support.unseen(confidence)
    return t_bounds(value, standard_error, support.degrees_of_freedom, confidence, scale)


def t_bounds(
    value: float, standard_error: float, degrees_of_freedom: float, confidence: float, scale: Scale = "difference"
) -> tuple[float, float]:
    """Bounds by Student's t, symmetric on a scale to which the standard error is carried by the scale's derivative.

    A proportion of 0 or 1, or a loss of 0, where there is no such scale, has bounds as on the plain one.
    """
    from scipy import special, stats

    half_width = float(stats.t.ppf((1 + confidence) / 2, degrees_of_freedom)) * standard_error
    if scale == "proportion" and 0 < value < 1:
        centre, half_width = float(special.logit(value)), half_width / (value * (1 - value))
        return float(special.expit(centre - half_width)), float(special.expit(centre + half_width))
    if scale == "positive" and value > 0:
        ratio = math.exp(min(half_width / value, 700.0))
        return value / ratio, value * ratio
    return value - half_width, value + half_width


def wilson_bounds(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Not `scipy.stats.binomtest(...).proportion_ci`: its last bits are others, which would change written results.

    Raises:
      ValueError: n < 1 trials, or successes are not in [0, n].

    Source: Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    proportion = successes / n
    centre = proportion + z**2 / (2 * n)
    half_width = z * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # Rounding must not push a bound past 0 or 1.
    return max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale)
