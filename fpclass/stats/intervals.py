"""Intervals that resample groups: a person's images are not independent, so people are drawn, not images.

A resample draws G of the G groups with replacement; an image counts as often as its group was drawn. Every
metric is therefore an array program of weights [B, N], one row per resample, and all come from one set of
resamples: that is what keeps differences between metrics, and between models on the same images, paired.

The bounds are percentiles of the resampled values (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 13). Three cases have rules of their own:
  - A resample in which a metric is undefined is left out for that metric.
  - Where every resample gives 0, or every one gives 1, the percentiles have no width and claim a certainty
    that is not there. The interval is then Wilson's, with the number of groups that the metric rests on as
    the number of trials: all groups for accuracy, those with images of the class for recall and F1, those
    with images predicted as the class for precision, and, an approximation, those of the smallest class for
    the other metrics.
  - A metric that rests on fewer than two groups has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.stats.metrics import (
    Labels,
    Logits,
    check_predictions,
    compute_metrics,
    image_brier_scores,
    image_log_losses,
    one_vs_rest_scores,
    ratio,
)

OVERALL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier")
PER_CLASS_METRICS = ("precision", "recall", "f1")
ALL_METRICS = OVERALL_METRICS + PER_CLASS_METRICS

WEIGHTS_PER_CHUNK = 1 << 20
"""Weights held at once (8 MiB); the metrics need a few arrays of that size. Larger ones are not faster."""

Interval = tuple[float, float]
Weights = Float[np.ndarray, "b n"]
MetricValues = dict[str, Float[np.ndarray, "b ..."]]


def evaluate_predictions(
    logits: Logits,
    labels: Labels,
    groups: Sequence[Hashable],
    class_names: Sequence[str],
    *,
    num_bootstrap: int,
    confidence: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Point values and intervals together: what `metrics.json` holds.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      groups: the person of each image [N]; "" where none is known, which makes the image a group of its own.
      class_names: name of each class, distinct.
      num_bootstrap: resamples of the groups; 0 gives no intervals.
      confidence: coverage of the intervals, in (0, 1).
      seed: of the resampling.

    Returns:
      The dict of `compute_metrics` with every float replaced by {"value", "low", "high"} (each a float or
      None); and num_groups; and interval, one line that says what the intervals are, None where there are
      none.

    Raises:
      DataError: as `check_predictions`.
    """
    points = compute_metrics(logits, labels, class_names)
    bounds = bootstrap_groups(logits, labels, groups, num_resamples=num_bootstrap, confidence=confidence, seed=seed)

    def with_interval(value: float | None, interval: Interval | None) -> dict[str, float | None]:
        low, high = interval or (None, None)
        return {"value": value, "low": low, "high": high}

    result: dict[str, Any] = {m: with_interval(points[m], bounds[m]) for m in OVERALL_METRICS}
    result["per_class"] = {}
    for k, (name, values) in enumerate(points["per_class"].items()):
        scores = {m: with_interval(values[m], bounds[m][k]) for m in PER_CLASS_METRICS}
        result["per_class"][name] = {**scores, "support": values["support"]}
    num_groups, num_images = int(group_codes(groups).max()) + 1, points["num_images"]
    interval = None
    if num_bootstrap and num_groups > 1:
        drawn = f"{num_groups} {'images' if num_groups == num_images else 'people'}"
        interval = f"{100 * confidence:g} % percentile bootstrap over {drawn}, {num_bootstrap} resamples"
    return result | {
        "confusion_matrix": points["confusion_matrix"],
        "num_images": num_images,
        "num_groups": num_groups,
        "interval": interval,
    }


def bootstrap_groups(
    logits: Logits,
    labels: Labels,
    groups: Sequence[Hashable],
    metrics: Sequence[str] = ALL_METRICS,
    *,
    num_resamples: int,
    confidence: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Intervals of metrics by resampling groups, all from the same resamples.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      groups: the person of each image [N]; "" makes the image a group of its own.
      metrics: which of `ALL_METRICS`.
      num_resamples: how many; 0 gives no intervals.
      confidence: coverage, in (0, 1).
      seed: the same seed gives the same interval on every machine.

    Returns:
      For each metric (low, high) or None; for those of `PER_CLASS_METRICS` a list of such, one per class.

    Raises:
      DataError: as `check_predictions`.
      ValueError: there are not as many groups as labels.
    """
    logits, labels = check_predictions(logits, labels)
    codes = group_codes(groups)
    if codes.shape != labels.shape:
        raise ValueError(f"{len(codes)} groups for {len(labels)} images")
    rests_on = _num_groups_behind(logits, labels, codes)
    evaluate = make_weighted_metrics(logits, labels, metrics)
    nothing = evaluate(np.empty((0, len(labels))))  # columns of the right shape where there are no resamples
    chunks = [nothing, *(evaluate(weights) for weights in group_resamples(codes, num_resamples, seed))]
    intervals: dict[str, Any] = {}
    for metric in metrics:
        is_proportion = metric not in ("log_loss", "brier")
        values = np.concatenate([chunk[metric] for chunk in chunks])
        if metric not in PER_CLASS_METRICS:
            intervals[metric] = percentile_interval(values, confidence, rests_on[metric], is_proportion)
            continue
        intervals[metric] = [
            percentile_interval(values[:, k], confidence, num_groups, is_proportion)
            for k, num_groups in enumerate(rests_on[metric])
        ]
    return intervals


def percentile_interval(
    values: Float[np.ndarray, " b"], confidence: float, num_groups: int, is_proportion: bool = True
) -> Interval | None:
    """Percentile interval of resampled values, by the rules at the head of this module.

    Args:
      values: of one metric, one per resample; nan where undefined.
      confidence: coverage, in (0, 1).
      num_groups: groups that the metric rests on.
      is_proportion: Wilson's interval takes over where all values are 0 or all are 1.

    Returns:
      (low, high), or None where there are fewer than two groups or no defined value.
    """
    values = values[~np.isnan(values)]
    if num_groups < 2 or values.size == 0:
        return None
    for bound in (0, 1):
        if is_proportion and (values == bound).all():
            return wilson_interval(bound * num_groups, num_groups, confidence)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def wilson_interval(successes: float, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
      successes: in [0, n].
      n: independent trials, at least 1.
      confidence: coverage, in (0, 1).

    Returns:
      (low, high) in [0, 1].

    Raises:
      ValueError: n < 1 or successes are not in [0, n].

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


def group_codes(groups: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Numbers the groups 0, 1, … in order of appearance; "", None and nan make a group of one image each."""
    codes: dict[Hashable, int] = {}
    result = []
    for position, group in enumerate(groups):
        is_unknown = group is None or group == "" or group != group
        key = (position,) if is_unknown else (None, group)
        result.append(codes.setdefault(key, len(codes)))
    return np.array(result, np.int64)


def group_resamples(codes: Int[np.ndarray, " n"], num_resamples: int, seed: int) -> Iterator[Weights]:
    """Draws groups with replacement, as many as there are, in chunks that fit into memory.

    Args:
      codes: group of each image, from `group_codes`.
      num_resamples: how many in all.
      seed: the same seed gives the same resamples, whatever the chunks.

    Yields:
      How often each image counts, float64 [b, N], until the b add up to num_resamples.
    """
    num_groups = int(codes.max()) + 1
    chunk_size = max(1, WEIGHTS_PER_CHUNK // len(codes))
    rng = np.random.default_rng(seed)
    for start in range(0, num_resamples, chunk_size):
        size = min(chunk_size, num_resamples - start)
        drawn = rng.integers(0, num_groups, (size, num_groups))
        drawn += np.arange(size)[:, None] * num_groups
        counts = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        yield np.take(counts.astype(np.float64), codes, axis=1)


def weighted_metrics(
    logits: Logits, labels: Labels, weights: Weights, metrics: Sequence[str] = ALL_METRICS
) -> MetricValues:
    """Metrics of B weightings of the same predictions.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      weights: not negative [B, N]; an image of weight 2 counts as two images.
      metrics: which of `ALL_METRICS`.

    Returns:
      [B] for each overall metric, [B, K] for each per-class one; nan where undefined.
    """
    return make_weighted_metrics(logits, labels, metrics)(weights)


def make_weighted_metrics(
    logits: Logits, labels: Labels, metrics: Sequence[str] = ALL_METRICS
) -> Callable[[Weights], MetricValues]:
    """Does once what does not depend on the weights; gives `weighted_metrics` as a function of them alone.

    Raises:
      DataError: as `check_predictions`.
      ValueError: a metric that is none of `ALL_METRICS`.
    """
    from scipy import sparse

    if unknown := set(metrics) - set(ALL_METRICS):
        raise ValueError(f"unknown metrics {sorted(unknown)}, known are {ALL_METRICS}")
    logits, labels = check_predictions(logits, labels)
    num_images, num_classes = logits.shape
    predicted = logits.argmax(axis=1)
    has_images = np.bincount(labels, minlength=num_classes) > 0
    losses = np.stack([image_log_losses(logits, labels), image_brier_scores(logits, labels)], axis=1)
    # One row per image, three blocks of K columns: of the class, rightly predicted as it, predicted as it.
    # Sparse, so that a thousand classes cost no more than two.
    ones, is_correct = np.ones(num_images), (predicted == labels).astype(np.float64)
    columns = np.concatenate([labels, labels + num_classes, predicted + 2 * num_classes])
    entries = (np.concatenate([ones, is_correct, ones]), (np.tile(np.arange(num_images), 3), columns))
    class_sums = sparse.csr_array(entries, shape=(num_images, 3 * num_classes))
    roc_auc = make_weighted_roc_auc(one_vs_rest_scores(logits), labels) if "roc_auc" in metrics else None

    def evaluate(weights: Weights) -> MetricValues:
        support, correct, called = np.split(weights @ class_sums, 3, axis=1)
        total = weights.sum(axis=1)
        recall = ratio(correct, support)
        f1 = np.where(support > 0, ratio(2 * correct, support + called), np.nan)
        log_loss, brier = ratio(weights @ losses, total[:, None]).T
        values = {
            "accuracy": ratio(correct.sum(axis=1), total),
            # nan for a resample without one of the classes: a mean over fewer classes is another quantity.
            "balanced_accuracy": recall[:, has_images].mean(axis=1),
            "macro_f1": f1[:, has_images].mean(axis=1),
            "log_loss": log_loss,
            "brier": brier,
            "precision": ratio(correct, called),
            "recall": recall,
            "f1": f1,
        }
        if roc_auc:
            values["roc_auc"] = roc_auc(weights)
        return {metric: values[metric] for metric in metrics}

    return evaluate


def make_weighted_roc_auc(scores: Logits, labels: Labels) -> Callable[[Weights], Float[np.ndarray, " b"]]:
    """Area under the ROC curve for B weightings; for more than two classes the mean of one against the rest.

    The area is the share of pairs (positive, negative), by weight, that the scores order rightly, a tie
    counting half. With the negatives sorted once, the weight below each positive is a cumulative sum.

    Args:
      scores: [N, K], larger means more of the class; from `one_vs_rest_scores`.
      labels: class index of each image [N], in [0, K).

    Returns:
      A function from weights [B, N] to areas [B] (of class 1 for two classes), nan where a class has no
      weight.
    """
    num_classes = scores.shape[1]
    plans = []
    for k in [1] if num_classes == 2 else range(num_classes):
        order = np.argsort(scores[:, k], kind="stable")
        positive, negative = order[labels[order] == k], order[labels[order] != k]
        below = np.searchsorted(scores[negative, k], scores[positive, k], side="left")
        up_to = np.searchsorted(scores[negative, k], scores[positive, k], side="right")
        plans.append((positive, negative, below, up_to))

    def roc_auc(weights: Weights) -> Float[np.ndarray, " b"]:
        areas = []
        for positive, negative, below, up_to in plans:
            cumulative = np.zeros((len(weights), len(negative) + 1))
            np.cumsum(weights[:, negative], axis=1, out=cumulative[:, 1:])
            positive_weights = weights[:, positive]
            ordered = np.take(cumulative, below, axis=1)
            ordered += np.take(cumulative, up_to, axis=1)
            ordered *= positive_weights
            areas.append(ratio(ordered.sum(axis=1) / 2, positive_weights.sum(axis=1) * cumulative[:, -1]))
        return np.mean(areas, axis=0)

    return roc_auc


def num_groups_behind(metric: str, labels: Labels, codes: Int[np.ndarray, " n"]) -> int:
    """How many groups one of `OVERALL_METRICS` rests on: all, or, where it rests on each class, those of the smallest.

    Args:
      metric: its name.
      labels: class index of each image [N].
      codes: group of each image [N], from `group_codes`.
    """
    if metric in ("accuracy", "log_loss", "brier"):
        return int(codes.max()) + 1
    return min(len(np.unique(codes[labels == k])) for k in np.unique(labels))


def _num_groups_behind(logits: Logits, labels: Labels, codes: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """How many groups each metric rests on; [K] for the per-class ones."""

    def count(classes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
        return np.bincount(np.unique(np.stack([classes, codes]), axis=1)[0], minlength=logits.shape[1])

    return {
        **{metric: num_groups_behind(metric, labels, codes) for metric in OVERALL_METRICS},
        **dict.fromkeys(("recall", "f1"), count(labels)),
        "precision": count(logits.argmax(axis=1)),
    }
