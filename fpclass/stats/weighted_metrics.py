"""Metrics of many weightings of the same predictions at once, as array programs of weights [B, N].

An image of weight 2 counts as two images. That is how a bootstrap resamples: one row of weights per resample. What is
undefined for a weighting is nan; the definitions are those of `fpclass.stats.metrics`.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.common.extension import bare, call, is_own, load
from fpclass.errors import ConfigError
from fpclass.stats.draws import MAX_DISTINCT, Weights, coarse_ranks, in_parts, sums_by_rank
from fpclass.stats.metrics import (
    Labels,
    Logits,
    check_predictions,
    image_brier_scores,
    image_log_losses,
    log_softmax,
    one_vs_rest_scores,
    ratio,
)

OVERALL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier")
PER_CLASS_METRICS = ("precision", "recall", "f1")
ALL_METRICS = OVERALL_METRICS + PER_CLASS_METRICS
MACRO_PRECISION = "macro_precision"
"""Mean over the classes that have images; a class that is never predicted counts 0."""
LOSSES = ("log_loss", "brier")
"""Lower is better; the others are proportions."""

OWN_KEY = "study.metric"
"""The key that names a metric of the user's own."""

MetricValues = dict[str, Float[np.ndarray, "b ..."]]


def make_weighted_metrics(
    logits: Logits, labels: Labels, metrics: Sequence[str] = ALL_METRICS
) -> Callable[[Weights], MetricValues]:
    """Does once what does not depend on the weights.

    Args:
      metrics: of `ALL_METRICS`, `MACRO_PRECISION`, those of one class, from `of_class`, and the user's own.

    Returns:
      A function from weights [B, N] to [B] for each overall metric, [B, K] per class; nan where undefined.

    Raises:
      DataError: as `check_predictions`.
      ValueError: another metric.
    """
    from scipy import sparse

    own = {metric: own_metric(metric, logits, labels) for metric in metrics if is_own(metric)}
    classes = {metric: class_of(metric) for metric in metrics if metric not in own}
    for metric, k in classes.items():
        known = (*ALL_METRICS, MACRO_PRECISION) if k is None else PER_CLASS_METRICS
        if (metric if k is None else metric.partition("[")[0]) not in known:
            raise ValueError(f"unknown metrics {metric!r}, known are {known}")
    logits, labels = check_predictions(logits, labels)
    num_images, num_classes = logits.shape
    predicted = logits.argmax(axis=1)
    has_images = np.bincount(labels, minlength=num_classes) > 0
    losses = None  # they cost more than all the rest of a single weighting
    if set(LOSSES) & set(metrics):
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
        precision, recall = ratio(correct, called), ratio(correct, support)
        f1 = np.where(support > 0, ratio(2 * correct, support + called), np.nan)
        values = {
            "accuracy": ratio(correct.sum(axis=1), total),
            # nan for a resample without one of the classes: a mean over fewer classes is another quantity.
            "balanced_accuracy": recall[:, has_images].mean(axis=1),
            "macro_f1": f1[:, has_images].mean(axis=1),
            "precision": precision,
            MACRO_PRECISION: np.nan_to_num(precision)[:, has_images].mean(axis=1),
            "recall": recall,
            "f1": f1,
        }
        if losses is not None:
            values["log_loss"], values["brier"] = ratio(weights @ losses, total[:, None]).T
        if roc_auc:
            values["roc_auc"] = roc_auc(weights)
        known = {m: values[m] if k is None else _of_class(values, m, k) for m, k in classes.items()}
        return known | {metric: of_own(weights) for metric, of_own in own.items()}

    return evaluate


def own_metric(metric: str, logits: Logits, labels: Labels) -> Callable[[Weights], Float[np.ndarray, " b"]]:
    """A metric of the user's own, `function(labels [n], probabilities [n, K]) -> float`, for whole weights [B, N].

    An image of weight 2 is there twice, one of weight 0 is not. Where a class has no images what the function raises
    means that it is undefined: nan.

    Raises:
      ConfigError: there is no such function; or, when it is called, it raises something or gives no number.
    """
    function, probabilities, labels = load(metric, OWN_KEY), np.exp(log_softmax(logits)), np.asarray(labels)

    def of_row(weights: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(labels)), weights.astype(np.int64))
        try:
            value: Any = call(function, metric, OWN_KEY, labels[rows], probabilities[rows])
        except ConfigError:
            if len(np.unique(labels[rows])) < probabilities.shape[1]:
                return math.nan
            raise
        if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
            raise ConfigError(f"{OWN_KEY}={bare(metric)}: gave {type(value).__name__}; return a number")
        return float(value)

    def of_rows(weights: np.ndarray) -> Float[np.ndarray, " b"]:
        with warnings.catch_warnings():  # of what is undefined, some thousand times
            warnings.simplefilter("ignore")
            return np.array([of_row(row) for row in weights], np.float64)

    return in_parts(of_rows)


def is_lower_better(metric: str) -> bool:
    """Whether lower is better by a metric; a function of the user's says so by its attribute `lower_is_better`."""
    if is_own(metric):
        return bool(getattr(load(metric, OWN_KEY), "lower_is_better", False))
    return metric in LOSSES


def of_class(metric: str, k: int) -> str:
    """One of `PER_CLASS_METRICS` for a single class, such as "f1[1]", which stands where an overall metric does.

    Precision is 0 where the class is never predicted: left out, a member that finds none would lift the mean of others.
    """
    return f"{metric}[{k}]"


def _of_class(values: MetricValues, metric: str, k: int) -> Float[np.ndarray, " b"]:
    name = metric.partition("[")[0]
    return np.nan_to_num(values[name][:, k]) if name == "precision" else values[name][:, k]


def class_of(metric: str) -> int | None:
    """The class of a metric from `of_class`; None of others."""
    return int(metric.partition("[")[2].rstrip("]")) if metric.endswith("]") else None


def metric_value(logits: Logits, labels: Labels, metric: str) -> float:
    """One overall metric where every image counts once, nan where undefined; errors as `make_weighted_metrics`."""
    return metric_values(logits, labels, [metric])[0]


def metric_values(logits: Logits, labels: Labels, metrics: Sequence[str]) -> list[float]:
    """`metric_value` of several metrics."""
    values = make_weighted_metrics(logits, labels, metrics)(np.ones((1, len(labels))))
    return [float(values[metric][0]) for metric in metrics]


def make_weighted_roc_auc(scores: Logits, labels: Labels) -> Callable[[Weights], Float[np.ndarray, " b"]]:
    """Area under the ROC curve for B weightings; for more than two classes the mean of one against the rest.

    The area is the share of pairs (positive, negative), by weight, that the scores (`one_vs_rest_scores`) order
    rightly, a tie counting half; of class 1 for two classes, and nan where a class has no weight. With the negatives
    sorted once, the weight below each positive is a cumulative sum. Many weightings of more than `MAX_DISTINCT` images
    take scores of one part of so many for tied, which moves an area by less than 1e-4.
    """
    num_classes = scores.shape[1]
    plans, of_class = [], [1] if num_classes == 2 else range(num_classes)
    for k in of_class:
        order = np.argsort(scores[:, k], kind="stable")
        positive, negative = order[labels[order] == k], order[labels[order] != k]
        below = np.searchsorted(scores[negative, k], scores[positive, k], side="left")
        up_to = np.searchsorted(scores[negative, k], scores[positive, k], side="right")
        plans.append((positive, negative, below, up_to))

    @functools.cache
    def sums_of(k: int) -> Any:
        return sums_by_rank(coarse_ranks(scores[:, k]), labels == k)

    def coarse(weights: Weights) -> Float[np.ndarray, " b"]:
        areas = []
        for k in of_class:
            positive, negative = np.split(weights @ sums_of(k), 2, axis=1)
            up_to = negative.cumsum(axis=1)
            pairs = (positive * (up_to - negative / 2)).sum(axis=1)
            areas.append(ratio(pairs, positive.sum(axis=1) * up_to[:, -1]))
        return np.mean(areas, axis=0)

    @in_parts
    def exact(weights: np.ndarray) -> Float[np.ndarray, " b"]:
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

    return lambda weights: (coarse if len(weights) > 1 and len(labels) > MAX_DISTINCT else exact)(weights)


def weighted_mean(weights: Weights, values: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "b ..."]:
    """Mean over images of values [N, ...] for B weightings [B, N]."""
    sums = weights @ values
    return ratio(sums, weights.sum(axis=1).reshape(-1, *[1] * (sums.ndim - 1)))
