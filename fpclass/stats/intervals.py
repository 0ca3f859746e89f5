"""Intervals that resample groups: a person's images are not independent, so people are drawn, not images.

A resample draws G of the G groups with replacement; an image counts as often as its group was drawn. Every metric is
an array program of weights [B, N], one row per resample, and all come from one set of resamples: that is what keeps
differences between metrics, and between models on the same images, paired. For a metric that needs every class
(`WITHIN_CLASSES`) people are drawn within their class, or else most resamples of many small classes would lack one.

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
  - A metric that rests on fewer than two groups, or is undefined in more than a tenth of the resamples, has none.

Sources:
  Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 12.
  Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015) 371-386 (few people).
  Kish, Survey Sampling (1965), section 8.2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from fpclass.common.extension import bare, is_own
from fpclass.stats.cohort import Cohort
from fpclass.stats.draws import Draws, Weights
from fpclass.stats.metrics import Logits, compute_metrics
from fpclass.stats.weighted_metrics import (
    ALL_METRICS,
    LOSSES,
    MACRO_PRECISION,
    OVERALL_METRICS,
    PER_CLASS_METRICS,
    class_of,
    make_weighted_metrics,
)

COUNTS_PER_CHUNK, RESAMPLES_PER_CHUNK = 1 << 21, 256
"""Counts of groups held at once as floats (16 MiB), and resamples: some metrics have thousands of values for each."""

DRAWN_PER_CHUNK = 1 << 20
"""Groups that are drawn at once (8 MiB)."""

MIN_DEFINED = 0.9
"""Share of the resamples in which a metric has to be defined to have an interval: those left out are not any ones."""
NEGLIGIBLE = 1e-12
"""Differences of scores below this are rounding."""
FEW_GROUPS = 30
"""Effective number of groups below which an interval is said to be rough."""
WITHIN_CLASSES = ("balanced_accuracy", "macro_f1", "roc_auc", MACRO_PRECISION, *PER_CLASS_METRICS)
"""Metrics that need every class, or are of one: of the people of a class, as many are drawn as there are."""

Bounds = tuple[float, float] | tuple[None, None]
"""Low and high; both None where there is no interval."""
Scale = Literal["proportion", "positive", "difference", "unknown"]
"""On which an interval is symmetric: log-odds, logarithms, or as it is; of unknown range it has none of nothing."""


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
        self, value: float, replicates: Float[np.ndarray, " b"], num_groups: float, is_proportion: bool = True
    ) -> Interval:
        """A value, nan where undefined, with the interval that its resampled values give: `resampled_bounds`."""
        scale: Scale = "proportion" if is_proportion else "difference"
        bounds = resampled_bounds(value, replicates, self.confidence, Support(num_groups), scale)
        return Interval(None if math.isnan(value) else value, *bounds)

    def estimate(
        self,
        evaluate: Callable[[Weights], Float[np.ndarray, " b"]],
        cohort: Cohort,
        num_groups: float | None = None,
        is_proportion: bool = True,
    ) -> Interval:
        """The value of the cohort itself and its interval, by the values [B] that `evaluate` gives of weights [B, N].

        `num_groups` is of the groups that the value rests on, by default all; `is_proportion` as `resampled_bounds`.
        """
        value = float(evaluate(np.ones((1, len(cohort))))[0])
        num_groups = cohort.effective_groups() if num_groups is None else num_groups
        return self.interval(value, self.resample(evaluate, cohort), num_groups, is_proportion)


def evaluate_predictions(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, metric: str = "") -> dict[str, Any]:
    """Point values and intervals together: what `metrics.json` holds.

    Args:
      metric: `study.metric`; one of the user's own is added, by its name.

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
    if is_own(metric):
        (value,) = make_weighted_metrics(logits, cohort.labels, [metric])(np.ones((1, len(cohort))))[metric]
        (of_metric,) = metric_bounds(logits, cohort, bootstrap, [metric]).values()
        result[bare(metric)] = Interval(None if math.isnan(value) else float(value), *of_metric).to_json()
    return result | {
        "confusion_matrix": points["confusion_matrix"],
        "num_images": points["num_images"],
        "num_groups": cohort.num_groups,
        "effective_groups": round(cohort.effective_groups(), 1),
        "interval": describe_intervals(cohort, bootstrap),
    }


def describe_intervals(cohort: Cohort, bootstrap: Bootstrap) -> str | None:
    """One line that says what the intervals of a cohort are; None where there are none."""
    if not bootstrap.num_resamples or cohort.num_groups < 2:
        return None
    effective = cohort.effective_groups()
    few = f"; rough: as much as {effective:.0f} {cohort.groups_are} alike" if effective < FEW_GROUPS else ""
    drawn = f"{cohort.num_groups} {cohort.groups_are}, {bootstrap.num_resamples} resamples"
    return f"{100 * bootstrap.confidence:g} % bootstrap t over {drawn}{few}"


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


def is_within_classes(metric: str) -> bool:
    """Whether people are drawn within their class for a metric."""
    return metric.partition("[")[0] in WITHIN_CLASSES


def scale_of(metric: str) -> Scale:
    """The scale on which the interval of a metric is symmetric."""
    return "unknown" if is_own(metric) else "positive" if metric in LOSSES else "proportion"


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
    if scale == "unknown" and standard_error < NEGLIGIBLE:
        return None, None
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
