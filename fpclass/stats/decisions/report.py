"""A report on decisions from out-of-fold predictions: thresholds, costs, abstention, conformal sets."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fpclass.stats.bounds import NEGLIGIBLE, Scale
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.risk_control import cross_fitted_abstention, people_needed
from fpclass.stats.decisions.thresholds import (
    BY_CLASS,
    COST,
    CURVE_POINTS,
    MARGINAL,
    OBJECTIVES,
    Cost,
    Decisions,
    binary_score,
    check_cost,
    confidences_of,
    cost_decisions,
    cross_fitted_sets,
    cross_fitted_threshold,
    risk_coverage,
)
from fpclass.stats.draws import Weights
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Labels, Logits, log_softmax, ratio
from fpclass.stats.weighted_metrics import weighted_mean

Evaluate = Callable[[Weights], Float[np.ndarray, " b"]]


def decision_report(
    logits: Logits,
    cohort: Cohort,
    bootstrap: Bootstrap,
    *,
    cost: Any = None,
    max_risk: float = 0.05,
    risk_confidence: float = 0.9,
    miss_rate: float = 0.1,
) -> dict[str, Any]:
    """Everything about decisions from out-of-fold predictions.

    Args:
      logits: out-of-fold, best calibrated.
      cost: [K, K], rows true classes, columns decisions; None for no part about costs.
      max_risk: error rate promised among the images that are decided, in [0, 1].
      risk_confidence: probability with which that promise holds, in (0, 1).
      miss_rate: of conformal sets, in (0, 1).

    Returns:
      A dict that JSON can hold, every estimate {"value", "low", "high"}: num_images, num_groups, thresholds
      (two classes only; by objective: threshold, folds, score, score_at_half, gain), costs (cost, argmax_cost, saved;
      None without a matrix), abstention (as `_abstention`), conformal and conformal_by_class (as `_conformal`; sets
      that promise coverage of all classes together, and of each).

    Raises:
      DataError: as `check_predictions`, or there are not two folds.
      ConfigError: as `check_cost`.
    """
    logits = cohort.check(logits)
    matrix = None if cost is None else check_cost(cost, logits.shape[1])
    return {
        "num_images": len(cohort),
        "num_groups": cohort.num_groups,
        "thresholds": _thresholds(logits, cohort, bootstrap, matrix) if logits.shape[1] == 2 else {},
        "costs": None if matrix is None else _costs(logits, cohort, bootstrap, matrix),
        "abstention": _abstention(logits, cohort, bootstrap, max_risk, risk_confidence)
        | _risk_band(logits, cohort, bootstrap),
        "conformal": _conformal(logits, cohort, bootstrap, miss_rate, MARGINAL),
        "conformal_by_class": _conformal(logits, cohort, bootstrap, miss_rate, BY_CLASS),
    }


def _thresholds(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, cost: Cost | None) -> dict[str, Any]:
    """By objective: threshold (all images; by fold), its score, that of one half, and their difference."""
    thresholds = {}
    for objective in OBJECTIVES if cost is None else (*OBJECTIVES, COST):
        decided, by_fold, final = cross_fitted_threshold(logits, cohort, objective, cost)
        thresholds[objective] = {
            "threshold": final,
            "folds": {str(fold): threshold for fold, threshold in by_fold.items()},
            **compare_with_half(decided, logits, cohort, bootstrap, objective, cost),
        }
    return thresholds


def compare_with_half(
    decided: Decisions, logits: Logits, cohort: Cohort, bootstrap: Bootstrap, objective: str, cost: Cost | None = None
) -> dict[str, Any]:
    """What decisions [N] by a threshold, fitted on other images, score, and those at one half, and the difference.

    Of two classes; larger is better, as `binary_score` has it.

    Returns:
      score, score_at_half, gain (paired), each {"value", "low", "high"}.
    """
    smallest = min(np.unique(cohort.groups[cohort.labels == k]).size for k in (0, 1))
    score, score_at_half = (_score_of(d, cohort.labels, objective, cost) for d in (decided, logits.argmax(axis=1)))

    def gain(weights: Weights) -> np.ndarray:
        return score(weights) - score_at_half(weights)

    scale, of_gain = ("difference", "difference") if objective == COST else ("proportion", "proportions")
    return {
        "score": bootstrap.estimate(score, cohort, smallest, scale).to_json(),
        "score_at_half": bootstrap.estimate(score_at_half, cohort, smallest, scale).to_json(),
        "gain": bootstrap.estimate(gain, cohort, smallest, of_gain).to_json(),
    }


def _costs(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, cost: Cost) -> dict[str, Any]:
    """Mean cost of the cheapest decisions, of the most probable classes, and their difference."""
    paid = cost[cohort.labels, cost_decisions(np.exp(log_softmax(logits)), cost)]
    plain = cost[cohort.labels, logits.argmax(axis=1)]
    costs = {"cost": paid, "argmax_cost": plain, "saved": plain - paid}
    return {name: _mean(values, cohort, bootstrap, "difference") for name, values in costs.items()}


def _abstention(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, max_risk: float, level: float) -> dict[str, Any]:
    """What is promised, by `ControlledRisk` of all images, and what that of the other folds reaches.

    Returns:
      max_risk and confidence, as asked for; what `ControlledRisk` holds; people_needed, to promise it at all (None: no
      number); folds, each's smallest confidence; coverage, risk and error_rate (deciding all), cross-fitted.
    """
    is_decided, by_fold, final = cross_fitted_abstention(logits, cohort, max_risk, level)
    is_wrong = logits.argmax(axis=1) != cohort.labels
    wrongly_decided = is_wrong & is_decided
    risk = bootstrap.estimate(lambda weights: ratio(weights @ wrongly_decided, weights @ is_decided), cohort)
    return {
        "max_risk": max_risk,
        "confidence": level,
        **final.to_json(),
        "people_needed": people_needed(max_risk, level) if 0 < max_risk < 1 else None,
        "folds": {str(fold): control.smallest_confidence for fold, control in by_fold.items()},
        "coverage": _mean(is_decided, cohort, bootstrap),
        "risk": risk.to_json(),
        "error_rate": _mean(is_wrong, cohort, bootstrap),
    }


def _risk_band(logits: Logits, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Area (aurc) and curve: coverage, risk, low and high, lists of `CURVE_POINTS` (None where undefined)."""
    evaluate = risk_coverage(logits, cohort.labels)

    def together(weights: Weights) -> np.ndarray:
        values = evaluate(weights)
        return np.column_stack([values["risk"], values["aurc"]])

    values = together(np.ones((1, len(cohort))))[0]
    drawn = bootstrap.resample(together, cohort)
    order = np.argsort(-confidences_of(logits), kind="stable")
    curve: dict[str, list[float | None]] = {"coverage": [], "risk": [], "low": [], "high": []}
    for i, value in enumerate(values[:-1]):
        coverage = (i + 1) / CURVE_POINTS
        num_groups = np.unique(cohort.groups[order[: math.ceil(coverage * len(cohort))]]).size
        # Without a whole error, hardly any resample has one: that is no certainty. A part of one, where the curve lies
        # between two images, is too small a proportion for the scale of log-odds, on which its bound would be a spike.
        is_whole = value * coverage * len(cohort) > 1 - NEGLIGIBLE
        sample = drawn[:, i] if is_whole else np.full(len(drawn), value)
        point = bootstrap.interval(float(value), sample, num_groups)
        for key, entry in zip(curve, (coverage, point.value, point.low, point.high), strict=True):
            curve[key].append(entry)
    area = bootstrap.interval(float(values[-1]), drawn[:, -1], cohort.num_groups)
    return {"aurc": area.to_json(), "curve": curve}


def _conformal(logits: Logits, cohort: Cohort, bootstrap: Bootstrap, miss_rate: float, kind: str) -> dict[str, Any]:
    """What sets of one of `SETS` promise and reach.

    Returns:
      nominal coverage; quantiles of each class (all images; by fold); coverage by image and by person; mean_set_size
      and shares; per_class: class, num_groups with images of it, and group_coverage of those images.
    """
    sets, by_fold, final = cross_fitted_sets(logits, cohort, miss_rate, kind)
    sizes, is_covered = sets.sum(axis=1), sets[np.arange(len(cohort)), cohort.labels]
    shares = {"empty": sizes == 0, "single": sizes == 1, "ambiguous": sizes > 1}
    return {
        "nominal": 1 - miss_rate,
        "quantiles": final.tolist(),
        "folds": {str(fold): quantiles.tolist() for fold, quantiles in by_fold.items()},
        "image_coverage": _mean(is_covered, cohort, bootstrap),
        "group_coverage": coverage_by_group(is_covered, cohort, bootstrap).to_json(),
        "mean_set_size": _mean(sizes, cohort, bootstrap, "difference"),
        "shares": {name: _mean(is_so, cohort, bootstrap) for name, is_so in shares.items()},
        "per_class": coverage_per_class(is_covered, logits.shape[1], cohort, bootstrap),
    }


def coverage_by_group(is_covered: Bool[np.ndarray, " n"], cohort: Cohort, bootstrap: Bootstrap) -> Interval:
    """Share of the images that sets cover, [N], each person weighing the same."""
    share_of_group = 1 / np.bincount(cohort.groups)[cohort.groups]
    covered = share_of_group * is_covered
    return bootstrap.estimate(lambda weights: ratio(weights @ covered, weights @ share_of_group), cohort)


def coverage_per_class(
    is_covered: Bool[np.ndarray, " n"], num_classes: int, cohort: Cohort, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Of each class its name, how many people have images of it, and the share of these images that sets cover.

    Each person weighs the same, shared by their images of the class.
    """
    _, pairs, images_of = np.unique(
        cohort.groups * num_classes + cohort.labels, return_inverse=True, return_counts=True
    )
    in_class = np.eye(num_classes)[cohort.labels] / images_of[pairs][:, None]
    covered = in_class * is_covered[:, None]

    def coverage(weights: Weights) -> np.ndarray:
        return ratio(weights @ covered, weights @ in_class)

    values, drawn = coverage(np.ones((1, len(cohort))))[0], bootstrap.resample(coverage, cohort)
    result = []
    for k, name in enumerate(cohort.class_names or [str(k) for k in range(num_classes)]):
        num_groups = np.unique(cohort.groups[cohort.labels == k]).size
        interval = bootstrap.interval(float(values[k]), drawn[:, k], num_groups)
        result.append({"class": name, "num_groups": num_groups, "group_coverage": interval.to_json()})
    return result


def _mean(
    values: np.ndarray, cohort: Cohort, bootstrap: Bootstrap, scale: Scale = "proportion"
) -> dict[str, float | None]:
    """Mean over images of values [N] as {"value", "low", "high"}."""
    mean = functools.partial(weighted_mean, values=values)
    return bootstrap.estimate(mean, cohort, scale=scale).to_json()


def _score_of(decided: Decisions, labels: Labels, objective: str, cost: Cost | None) -> Evaluate:
    cells = np.eye(4)[2 * labels + decided]
    return lambda weights: binary_score((weights @ cells).reshape(-1, 2, 2), objective, cost)
