"""Intervals that resample groups: a person's images are not independent, so people are drawn, not images.

A resample draws G of the G groups with replacement; an image counts as often as its group was drawn. Every metric is
an array program of weights [B, N], one row per resample, and all come from one set of resamples: that is what keeps
differences between metrics, and between models on the same images, paired.

The bounds are percentiles of the resampled values (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). Three cases have rules of their own:
  - A resample in which a metric is undefined is left out for that metric.
  - Where every resample gives 0, or every one 1, percentiles claim a certainty that is not there. The interval is then
    Wilson's, with the number of groups that the metric rests on as the number of trials: all groups for accuracy,
    those with images of the class for recall and F1, those with images predicted as the class for precision, and, an
    approximation, those of the smallest class for the other metrics.
  - A metric that rests on fewer than two groups has no interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import Logits, compute_metrics
from fpclass.stats.weighted_metrics import (
    ALL_METRICS,
    LOWER_IS_BETTER,
    OVERALL_METRICS,
    PER_CLASS_METRICS,
    Weights,
    class_of,
    make_weighted_metrics,
)

WEIGHTS_PER_CHUNK = 1 << 20
"""Weights held at once (8 MiB); the metrics need a few arrays of that size. Larger ones are not faster."""

Bounds = tuple[float, float] | tuple[None, None]
"""Low and high; both None where there is no interval."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its interval; None where undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Interval:
        """The interval in a report that went through JSON; other keys do not count."""
        return cls(values["value"], values["low"], values["high"])

    def to_json(self) -> dict[str, float | None]:
        """A dict that JSON can hold."""
        return dataclasses.asdict(self)

    def columns(self, name: str) -> dict[str, float | None]:
        """Columns of a table: NAME, NAME_low and NAME_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def __str__(self) -> str:
        return format(self)

    def __format__(self, sign: str) -> str:
        """`0.812 [0.784, 0.840]`, `0.812` or `-`; with "+" the signs of a difference."""
        return f"{format_number(self.value, sign)} {self.format_bounds(sign)}".rstrip()

    def format_bounds(self, sign: str = "") -> str:
        """`[0.784, 0.840]`, or nothing where there is no interval."""
        bounds = [format_number(bound, sign) for bound in (self.low, self.high)]
        return "" if "-" in bounds else f"[{bounds[0]}, {bounds[1]}]"


UNDEFINED = Interval()


def format_number(value: float | None, sign: str = "") -> str:
    """Three digits; a dash where undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.3f}"


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """A percentile bootstrap over the groups of a cohort.

    Attributes:
      num_resamples: 0 gives no intervals.
      confidence: coverage of the intervals, in (0, 1).
      seed: the same groups and seed give the same resamples, so that all values are paired.
    """

    num_resamples: int
    confidence: float
    seed: int = 0

    def weights(self, cohort: Cohort) -> Iterator[Weights]:
        """Draws groups with replacement, as many as there are, in chunks that fit into memory.

        Yields how often each image counts, float64 [b, N], until the b add up to num_resamples; whatever the chunks.
        """
        num_groups = cohort.num_groups
        chunk_size = max(1, WEIGHTS_PER_CHUNK // len(cohort))
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.num_resamples, chunk_size):
            size = min(chunk_size, self.num_resamples - start)
            drawn = rng.integers(0, num_groups, (size, num_groups))
            drawn += np.arange(size)[:, None] * num_groups
            counts = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
            yield np.take(counts.astype(np.float64), cohort.groups, axis=1)

    def resample(self, evaluate: Callable[[Weights], np.ndarray], cohort: Cohort) -> Float[np.ndarray, "b ..."]:
        """Values of all resamples [B, ...]; `evaluate` gives those of weights [b, N]."""
        nothing = evaluate(np.empty((0, len(cohort))))  # columns of the right shape where there are no resamples
        return np.concatenate([nothing, *map(evaluate, self.weights(cohort))])

    def interval(
        self, value: float, replicates: Float[np.ndarray, " b"], num_groups: int, is_proportion: bool = True
    ) -> Interval:
        """A value, nan where undefined, with the interval that its resampled values give: `percentile_bounds`."""
        bounds = percentile_bounds(replicates, self.confidence, num_groups, is_proportion)
        return Interval(None if math.isnan(value) else value, *bounds)

    def estimate(
        self,
        evaluate: Callable[[Weights], Float[np.ndarray, " b"]],
        cohort: Cohort,
        num_groups: int | None = None,
        is_proportion: bool = True,
    ) -> Interval:
        """The value of the cohort itself and its interval, by the values [B] that `evaluate` gives of weights [B, N].

        `num_groups` is of the groups that the value rests on, by default all; `is_proportion` as `percentile_bounds`.
        """
        value = float(evaluate(np.ones((1, len(cohort))))[0])
        num_groups = cohort.num_groups if num_groups is None else num_groups
        return self.interval(value, self.resample(evaluate, cohort), num_groups, is_proportion)


def evaluate_predictions(logits: Logits, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Point values and intervals together: what `metrics.json` holds.

    Returns:
      The dict of `compute_metrics` with every float replaced by {"value", "low", "high"} (each a float or None);
      num_groups; and interval, one line that says what the intervals are, None where there are none.

    Raises:
      DataError: as `check_predictions`.
    """
    points = compute_metrics(logits, cohort.labels, cohort.class_names)
    bounds = metric_bounds(logits, cohort, bootstrap)
    result: dict[str, Any] = {m: Interval(points[m], *bounds[m]).to_json() for m in OVERALL_METRICS}
    result["per_class"] = {}
    for k, (name, values) in enumerate(points["per_class"].items()):
        scores = {m: Interval(values[m], *bounds[m][k]).to_json() for m in PER_CLASS_METRICS}
        result["per_class"][name] = {**scores, "support": values["support"]}
    interval = None
    if bootstrap.num_resamples and cohort.num_groups > 1:
        drawn = f"{cohort.num_groups} {cohort.groups_are}, {bootstrap.num_resamples} resamples"
        interval = f"{100 * bootstrap.confidence:g} % percentile bootstrap over {drawn}"
    return result | {
        "confusion_matrix": points["confusion_matrix"],
        "num_images": points["num_images"],
        "num_groups": cohort.num_groups,
        "interval": interval,
    }


def metric_bounds(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, metrics: Sequence[str] = ALL_METRICS
) -> dict[str, Any]:
    """`Bounds` of metrics, all from the same resamples; for `PER_CLASS_METRICS` a list of such, one per class.

    Raises:
      DataError: as `check_predictions`.
    """
    logits = cohort.check(logits)
    evaluate = make_weighted_metrics(logits, cohort.labels, metrics)
    nothing = evaluate(np.empty((0, len(cohort))))  # columns of the right shape where there are no resamples
    chunks = [nothing, *map(evaluate, bootstrap.weights(cohort))]

    def groups_of_classes(classes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
        pairs = np.unique(np.stack([classes, cohort.groups]), axis=1)
        return np.bincount(pairs[0], minlength=logits.shape[1])

    intervals: dict[str, Any] = {}
    for metric in metrics:
        values = np.concatenate([chunk[metric] for chunk in chunks])
        if metric not in PER_CLASS_METRICS:
            num_groups, is_proportion = num_groups_behind(metric, cohort), metric not in LOWER_IS_BETTER
            intervals[metric] = percentile_bounds(values, bootstrap.confidence, num_groups, is_proportion)
            continue
        behind = groups_of_classes(logits.argmax(axis=1) if metric == "precision" else cohort.labels)
        intervals[metric] = [
            percentile_bounds(of_class, bootstrap.confidence, num_groups)
            for of_class, num_groups in zip(values.T, behind, strict=True)
        ]
    return intervals


def num_groups_behind(metric: str, cohort: Cohort) -> int:
    """Groups that a metric with one value rests on: all, or those of its class, or else of the smallest class."""
    if (k := class_of(metric)) is not None:
        return len(np.unique(cohort.groups[cohort.labels == k]))
    if metric in ("accuracy", "log_loss", "brier"):
        return cohort.num_groups
    return min(len(np.unique(cohort.groups[cohort.labels == k])) for k in np.unique(cohort.labels))


def percentile_bounds(
    values: Float[np.ndarray, " b"], confidence: float, num_groups: int, is_proportion: bool = True
) -> Bounds:
    """Percentile interval of resampled values, by the rules at the head of this module.

    Args:
      values: of one metric, one per resample; nan where undefined.
      confidence: coverage, in (0, 1).
      num_groups: groups that the metric rests on.
      is_proportion: Wilson's interval takes over where all values are 0 or all are 1.
    """
    values = values[~np.isnan(values)]
    if num_groups < 2 or values.size == 0:
        return None, None
    for bound in (0, 1):
        if is_proportion and (values == bound).all():
            return wilson_bounds(bound * num_groups, num_groups, confidence)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def wilson_bounds(successes: float, n: int, confidence: float) -> tuple[float, float]:
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
