"""Intervals that resample groups: a person's images are not independent, so people are drawn, not images.

A resample draws G of the G groups with replacement; an image counts as often as its group was drawn. Every metric is
an array program of weights [B, N], one row per resample, and all come from one set of resamples: that is what keeps
differences between metrics, and between models on the same images, paired. For a metric that needs every class
(`bounds.WITHIN_CLASSES`) people are drawn within their class, or else most resamples of many small classes would lack
one. What bounds are made of them, `bounds` says.

Sources:
  Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 12.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from fpclass.common.extension import bare, is_own
from fpclass.stats.bounds import Scale, Support, is_within_classes, resampled_bounds, scale_of, support_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.draws import Draws, Weights
from fpclass.stats.metrics import Logits, compute_metrics
from fpclass.stats.weighted_metrics import (
    ALL_METRICS,
    OVERALL_METRICS,
    PER_CLASS_METRICS,
    make_weighted_metrics,
)

COUNTS_PER_CHUNK, RESAMPLES_PER_CHUNK = 1 << 21, 256
"""Counts of groups held at once as floats (16 MiB), and resamples: some metrics have thousands of values for each."""

DRAWN_PER_CHUNK = 1 << 20
"""Groups that are drawn at once (8 MiB)."""

FEW_GROUPS = 30
"""Effective number of groups below which an interval is said to be rough."""


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

    def for_all(self, num_intervals: int) -> Bootstrap:
        """The same with wider intervals, so many of which hold at once with this confidence (Bonferroni)."""
        return dataclasses.replace(self, confidence=1 - (1 - self.confidence) / num_intervals)

    def weights(self, cohort: Cohort, *, within_classes: bool = False) -> Iterator[Float[np.ndarray, "b n"]]:
        """How often each image counts, float64 [b, N], until the b add up to num_resamples; arguments as `draws`."""
        for draws in self.draws(cohort, within_classes=within_classes):
            yield from draws.parts()

    def draws(self, cohort: Cohort, *, within_classes: bool = False) -> Iterator[Draws]:
        """Draws groups with replacement, as many as there are, in chunks that fit into memory.

        With `within_classes` as many of each class as there are, if the images of every group are of one class.
        """
        key = self.num_resamples, self.seed, within_classes
        counts = cohort.remembered(key, lambda: self._counts(cohort, within_classes))
        size = max(1, min(RESAMPLES_PER_CHUNK, COUNTS_PER_CHUNK // cohort.num_groups))
        for start in range(0, self.num_resamples, size):
            yield Draws(counts[start : start + size].astype(np.float64), cohort.groups)

    def _counts(self, cohort: Cohort, within_classes: bool) -> UInt8[np.ndarray, "b g"]:
        """How often each group is drawn in each resample."""
        strata = cohort.class_of_groups if within_classes else None
        parts = [np.arange(cohort.num_groups)]
        if strata is not None:
            parts = [np.flatnonzero(strata == k) for k in np.unique(strata)]
        # A group cannot be drawn more than 255 times: there are fewer draws, or it is as good as impossible.
        counts = np.empty((self.num_resamples, cohort.num_groups), np.uint8)
        rng = np.random.default_rng(self.seed)
        for groups in parts:  # one after the other, so that neither chunks nor numbers of images change the draws
            chunk_size = max(1, DRAWN_PER_CHUNK // len(groups))
            for start in range(0, self.num_resamples, chunk_size):
                size = min(chunk_size, self.num_resamples - start)
                drawn = rng.integers(0, len(groups), (size, len(groups)))
                drawn += np.arange(size)[:, None] * len(groups)
                of_groups = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
                counts[start : start + size, groups] = of_groups
        return counts

    def resample(
        self, evaluate: Callable[[Weights], np.ndarray], cohort: Cohort, *, within_classes: bool = False
    ) -> Float[np.ndarray, "b ..."]:
        """Values of all resamples [B, ...]; `evaluate` gives those of weights [b, N]."""
        nothing = evaluate(np.empty((0, len(cohort))))  # columns of the right shape where there are no resamples
        return np.concatenate([nothing, *map(evaluate, self.draws(cohort, within_classes=within_classes))])

    def interval(
        self, value: float, replicates: Float[np.ndarray, " b"], num_groups: float, scale: Scale = "proportion"
    ) -> Interval:
        """A value, nan where undefined, with the interval that its resampled values give: `resampled_bounds`."""
        bounds = resampled_bounds(value, replicates, self.confidence, Support(num_groups), scale)
        return Interval(None if math.isnan(value) else value, *bounds)

    def estimate(
        self,
        evaluate: Callable[[Weights], Float[np.ndarray, " b"]],
        cohort: Cohort,
        num_groups: float | None = None,
        scale: Scale = "proportion",
    ) -> Interval:
        """The value of the cohort itself and its interval, by the values [B] that `evaluate` gives of weights [B, N].

        `num_groups` is of the groups that the value rests on, by default all; `scale` as `resampled_bounds`.
        """
        value = float(evaluate(np.ones((1, len(cohort))))[0])
        num_groups = cohort.effective_groups() if num_groups is None else num_groups
        return self.interval(value, self.resample(evaluate, cohort), num_groups, scale)


def evaluate_predictions(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, metric: str = "") -> dict[str, Any]:
    """Point values and intervals together: what `metrics.json` holds.

    Args:
      metric: `study.metric`; one of the user's own is added, by its name.

    Returns:
      The dict of `compute_metrics` with every float replaced by {"value", "low", "high"} (each a float or None);
      num_groups; groups_are, what these are; and interval, one line that says what the intervals are, None where
      there are none.

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
    if is_own(metric):
        (value,) = make_weighted_metrics(logits, cohort.labels, [metric])(np.ones((1, len(cohort))))[metric]
        (of_metric,) = metric_bounds(logits, cohort, bootstrap, [metric]).values()
        result[bare(metric)] = Interval(None if math.isnan(value) else float(value), *of_metric).to_json()
    return result | {
        "confusion_matrix": points["confusion_matrix"],
        "num_images": points["num_images"],
        "num_groups": cohort.num_groups,
        "groups_are": cohort.groups_are,
        "effective_groups": round(cohort.effective_groups(), 1),
        "interval": describe_intervals(cohort, bootstrap),
    }


def describe_groups(scores: Mapping[str, Any]) -> str:
    """What the groups are in a dict of `evaluate_predictions`, as `Cohort.groups_are`.

    Folders of earlier versions do not hold it: there the line about the intervals tells, where there is one.
    """
    by_line = "people" if " people" in str(scores.get("interval")) else "independent images"
    return str(scores.get("groups_are") or by_line)


def describe_intervals(cohort: Cohort, bootstrap: Bootstrap) -> str | None:
    """One line that says what the intervals of a cohort are; None where there are none."""
    if not bootstrap.num_resamples or cohort.num_groups < 2:
        return None
    effective = cohort.effective_groups()
    is_lone = support_of("macro_f1", cohort).groups < 2
    lone = "; none of what needs every class: one of them has a single one" if is_lone else ""
    few = f"; rough: as much as {effective:.0f} {cohort.groups_are} alike" if effective < FEW_GROUPS else ""
    drawn = f"{cohort.num_groups} {cohort.groups_are}, {bootstrap.num_resamples} resamples"
    return f"{100 * bootstrap.confidence:g} % bootstrap t over {drawn}{few}{lone}"


def metric_bounds(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, metrics: Sequence[str] = ALL_METRICS
) -> dict[str, Any]:
    """`Bounds` of metrics; for `PER_CLASS_METRICS` a list of such, one per class.

    Raises:
      DataError: as `check_predictions`.
    """
    logits = cohort.check(logits)
    predicted = logits.argmax(axis=1)
    intervals: dict[str, Any] = {}
    for within in (False, True):
        drawn_so = [metric for metric in metrics if is_within_classes(metric) == within]
        if not drawn_so:
            continue
        evaluate = make_weighted_metrics(logits, cohort.labels, drawn_so)
        points = evaluate(np.ones((1, len(cohort))))
        nothing = evaluate(np.empty((0, len(cohort))))  # columns of the right shape where there are no resamples
        chunks = [nothing, *map(evaluate, bootstrap.draws(cohort, within_classes=within))]
        for metric in drawn_so:
            point, values = points[metric][0], np.concatenate([chunk[metric] for chunk in chunks])
            if metric not in PER_CLASS_METRICS:
                behind = support_of(metric, cohort)
                intervals[metric] = resampled_bounds(point, values, bootstrap.confidence, behind, scale_of(metric))
                continue
            of_class = predicted if metric == "precision" else cohort.labels
            intervals[metric] = [
                resampled_bounds(
                    point[k], values[:, k], bootstrap.confidence, Support(cohort.effective_groups(of_class == k))
                )
                for k in range(logits.shape[1])
            ]
    return intervals
