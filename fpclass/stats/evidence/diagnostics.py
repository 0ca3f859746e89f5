"""Diagnostic accuracy by the names of medicine, at a stated prevalence, and net benefit over all thresholds.

The condition is one class, all others are its absence, and a test is positive where that class is the most probable.
Sensitivity and specificity do not depend on how frequent the condition is; predictive values and net benefit do, and a
study rarely has the frequency of the clinic: they are given at a prevalence, that of the data unless another is stated.

Sources:
  Altman and Bland, Diagnostic tests 1 and 2, BMJ 308 (1994) 1552 and 309 (1994) 102.
  Vickers and Elkin, Decision curve analysis, Medical Decision Making 26 (2006) 565-574.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fpclass.stats.bounds import Support, resampled_bounds, support_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.draws import Weights
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits, log_softmax

MEASURES = ("sensitivity", "specificity", "lr_positive", "lr_negative", "ppv", "npv")
TITLES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "lr_positive": "LR+",
    "lr_negative": "LR-",
    "ppv": "PPV",
    "npv": "NPV",
}
THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities from which on somebody would act, of a decision curve."""


def accuracy_measures(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: np.ndarray | float
) -> dict[str, np.ndarray]:
    """`MEASURES` of arrays of one shape; inf where LR+ or LR- divides by 0, nan where nothing is defined."""
    missed, alarms = 1 - sensitivity, 1 - specificity
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "lr_positive": sensitivity / alarms,
            "lr_negative": missed / specificity,
            "ppv": sensitivity * prevalence / (sensitivity * prevalence + alarms * (1 - prevalence)),
            "npv": specificity * (1 - prevalence) / (specificity * (1 - prevalence) + missed * prevalence),
        }


def diagnostic_accuracy(
    logits: Logits, cohort: Cohort, positive: int, bootstrap: Bootstrap, prevalence: float | None = None
) -> dict[str, Any]:
    """`MEASURES` of the most probable class, each {"value", "low", "high"}, over groups.

    Args:
      positive: class that is the condition.
      prevalence: in (0, 1); None for that of the data, which is then resampled with them.

    Returns:
      The measures; prevalence, and is_stated; tp, fn, fp, tn (images). An infinite likelihood ratio is None.
    """
    called, is_ill = np.asarray(logits).argmax(axis=1) == positive, cohort.labels == positive
    cells = np.stack([is_ill & called, is_ill & ~called, ~is_ill & called, ~is_ill & ~called], axis=1)
    cells = cells.astype(np.float64)

    def evaluate(weights: Weights) -> Float[np.ndarray, "b m"]:
        tp, fn, fp, tn = (weights @ cells).T
        with np.errstate(divide="ignore", invalid="ignore"):
            of_data = (tp + fn) / (tp + fn + fp + tn)
            values = accuracy_measures(tp / (tp + fn), tn / (tn + fp), prevalence or of_data)
        return np.stack([values[name] for name in MEASURES], axis=1)

    points = evaluate(np.ones((1, len(cohort))))[0]
    by_class, of_all = (bootstrap.resample(evaluate, cohort, within_classes=within) for within in (True, False))
    behind = {"sensitivity": is_ill, "specificity": ~is_ill, "ppv": called, "npv": ~called}
    of_both, result = support_of("balanced_accuracy", cohort), {}
    for i, (name, point) in enumerate(zip(MEASURES, points, strict=True)):
        is_predictive = name in ("ppv", "npv") and prevalence is None  # the shares of the classes are drawn too
        values = (of_all if is_predictive else by_class)[:, i]
        if name in behind:
            bounds = resampled_bounds(
                float(point), values, bootstrap.confidence, Support(cohort.effective_groups(behind[name]))
            )
            result[name] = Interval(None if math.isnan(point) else float(point), *bounds).to_json()
        else:
            result[name] = _of_ratio(float(point), values, bootstrap.confidence, of_both).to_json()
    counts = dict(zip(("tp", "fn", "fp", "tn"), cells.sum(axis=0).astype(int).tolist(), strict=True))
    stated = {"prevalence": prevalence or float(is_ill.mean()), "is_stated": prevalence is not None}
    return result | stated | counts


def decision_curve(
    log_probabilities: Logits, cohort: Cohort, positive: int, bootstrap: Bootstrap, prevalence: float | None = None
) -> dict[str, Any]:
    """Net benefit of acting where the probability of the condition is above a threshold, at `THRESHOLDS`.

    A true positive counts 1, a false positive threshold / (1 - threshold): who acts from 20 % on takes four false
    alarms for one case found. Beside it: to act on everybody, and on nobody, which is 0. With a stated prevalence
    probabilities are shifted to it.

    Args:
      log_probabilities: calibrated, [N, K].
      positive, prevalence: as `diagnostic_accuracy`.

    Returns:
      thresholds, net_benefit, low, high, treat_all; useful: first and last threshold of the longest row of
      them at which the interval of the net benefit above the better of all and nobody is above 0, one by one (None
      where there is none); and prevalence.
    """
    is_ill = cohort.labels == positive
    of_data = float(is_ill.mean())
    share = prevalence or of_data
    log_p = log_softmax(log_probabilities)
    rest = np.logaddexp.reduce(np.delete(log_p, positive, axis=1), axis=1)
    shift = math.log(share / (1 - share)) - math.log(of_data / (1 - of_data)) if 0 < of_data < 1 else 0.0
    odds = log_p[:, positive] - rest + shift
    passed = np.searchsorted(np.log(THRESHOLDS) - np.log1p(-THRESHOLDS), odds)  # thresholds below it
    evaluate = _make_net_benefit(passed, is_ill, prevalence)
    points, drawn = evaluate(np.ones((1, len(cohort))))[0], bootstrap.resample(evaluate, cohort)
    num = len(THRESHOLDS)
    smallest = min(cohort.effective_groups(rows) for rows in (is_ill, ~is_ill))
    intervals = [
        bootstrap.interval(float(point), values, smallest, "difference")
        for point, values in zip(points, drawn.T, strict=True)
    ]
    is_useful = [interval.low is not None and interval.low > 0 for interval in intervals[2 * num :]]
    return {
        "thresholds": THRESHOLDS.tolist(),
        "net_benefit": [interval.value for interval in intervals[:num]],
        "low": [interval.low for interval in intervals[:num]],
        "high": [interval.high for interval in intervals[:num]],
        "treat_all": [interval.value for interval in intervals[num : 2 * num]],
        "useful": _longest_run(is_useful),
        "prevalence": share,
    }


def _make_net_benefit(passed: np.ndarray, is_ill: Bool[np.ndarray, " n"], prevalence: float | None) -> Any:
    """Of weights [B, N]: net benefit, that of acting on all, and what it is above the better default, [B, 3 T]."""
    from scipy import sparse

    num_images, num = len(passed), len(THRESHOLDS)
    columns = passed + (num + 1) * is_ill
    histogram = sparse.csr_array((np.ones(num_images), (np.arange(num_images), columns)), (num_images, 2 * (num + 1)))
    price = THRESHOLDS / (1 - THRESHOLDS)

    def evaluate(weights: Weights) -> Float[np.ndarray, "b t"]:
        counts = (weights @ histogram).reshape(len(weights), 2, num + 1)
        above = counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]  # [:, :, t]: images that pass at least t thresholds
        with np.errstate(divide="ignore", invalid="ignore"):
            false_alarms, found = np.moveaxis(above[:, :, 1:] / above[:, :, :1], 1, 0)
            of_data = above[:, 1, :1] / above[:, :, 0].sum(axis=1, keepdims=True)
        share = prevalence or of_data
        benefit = share * found - (1 - share) * false_alarms * price
        treat_all = np.broadcast_to(share - (1 - share) * price, benefit.shape)
        return np.concatenate([benefit, treat_all, benefit - np.maximum(treat_all, 0)], axis=1)

    return evaluate


def _longest_run(is_useful: list[bool]) -> list[float] | None:
    """The first and the last threshold of the longest run of useful ones."""
    places = np.flatnonzero(is_useful)
    if not len(places):
        return None
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    longest = max(runs, key=len)
    return [float(THRESHOLDS[longest[0]]), float(THRESHOLDS[longest[-1]])]


def _of_ratio(value: float, values: Float[np.ndarray, " b"], confidence: float, support: Support) -> Interval:
    """A likelihood ratio, its interval on the scale of logarithms; one that is 0 or infinite has none."""
    if not math.isfinite(value):
        return Interval()
    if value == 0:
        return Interval(0.0)
    usable = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    return Interval(value, *resampled_bounds(value, usable, confidence, support, "positive"))
