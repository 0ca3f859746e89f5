"""What is frozen, judged on other images: a calibration, thresholds, abstention and conformal sets, none fitted again.

Source of the calibration slope and intercept, and of calibration in the large: Cox, Biometrika 45 (1958) 562-565; Van
Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 17 (2019) 230.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.report import compare_with_half
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.decisions.thresholds import COST, check_cost, confidences_of, name_threshold, set_scores
from fpclass.stats.draws import in_parts
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits, log_softmax
from fpclass.stats.probabilities.reliability import HISTOGRAM_BARS, before_and_after, reliability_bins
from fpclass.stats.weighted_metrics import weighted_mean

NUM_STEPS = 40  # of Newton's method; it mostly needs six
STEEPEST = 50.0
"""A slope, per standard deviation of the log-odds, beyond which classes are taken for told apart without an error."""


def judge_frozen(
    before: Logits,
    after: Logits,
    cohort: Cohort,
    bootstrap: Bootstrap,
    rule: DecisionRule,
    *,
    promises: Promises | None = None,
    cost: Any = (),
) -> dict[str, Any]:
    """Calibration and decisions, as they were fitted on other images, on the images of a cohort.

    Args:
      before: not calibrated, [N, K].
      after: calibrated, [N, K].
      rule: whose calibration that is, and whose thresholds are judged.
      promises: abstention and conformal sets; None where nothing is promised.
      cost: as `check_cost`; () for none.

    Returns:
      A dict that JSON can hold, every estimate {"value", "low", "high"}: calibration, with method, fitted, before and
      after (as `calibration_report`), gain, overconfidence, and of two classes slope, intercept and in_the_large (the
      mean probability of class 1 less its share); decisions, with thresholds, abstention and conformal (each {} where
      nothing was fitted).
    """
    before, after = cohort.check(before), cohort.check(after)
    calibration: dict[str, Any] = {"method": rule.calibration.method, "fitted": "frozen"}
    calibration |= before_and_after(before, after, cohort, bootstrap)
    for when, values in (("before", before), ("after", after)):
        counts = np.histogram(confidences_of(values), HISTOGRAM_BARS, (0, 1))[0].tolist()
        calibration[when] |= {"bins": reliability_bins(values, cohort, bootstrap), "confidence_counts": counts}
    is_right = after.argmax(axis=1) == cohort.labels
    calibration["overconfidence"] = _mean(confidences_of(after) - is_right, cohort, bootstrap)
    if after.shape[1] == 2:
        calibration |= recalibration(after, cohort, bootstrap)
    thresholds = {}
    for objective, threshold in rule.thresholds.items():
        matrix = check_cost(cost, 2) if objective == COST and cost else None
        if objective == COST and matrix is None:
            continue
        decided = rule.by_threshold(after, objective)
        scores = compare_with_half(decided, after, cohort, bootstrap, objective, matrix)
        thresholds[objective] = {"threshold": threshold, **scores}
    return {
        "calibration": calibration,
        "decisions": {"thresholds": thresholds, **_abstention_and_sets(after, cohort, bootstrap, promises)},
    }


def _abstention_and_sets(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, promises: Promises | None
) -> dict[str, Any]:
    result: dict[str, Any] = {"abstention": {}, "conformal": {}}
    if promises is None:
        return result
    judged = promises.judge(logits, cohort, bootstrap)
    if promises.smallest_confidence is not None:
        result["abstention"] = {
            "max_risk": promises.max_risk,
            "confidence": promises.confidence,
            "smallest_confidence": promises.smallest_confidence,
            **{key: judged[key] for key in ("coverage", "risk")},
        }
    sizes = (set_scores(logits) <= np.array(promises.quantiles)).sum(axis=1)
    result["conformal"] = {
        "kind": promises.kind,
        "nominal": promises.nominal,
        "quantiles": list(promises.quantiles),
        "group_coverage": judged["set_coverage"],
        "coverage_per_class": judged["coverage_per_class"],
        "mean_set_size": _mean(sizes, cohort, bootstrap),
    }
    return result


def recalibration(logits: Logits, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Slope and intercept of a logistic regression of class 1 on its log-odds, and calibration in the large.

    Perfect calibration has slope 1, intercept 0 and 0 in the large. A slope below 1: predictions are too extreme.
    Undefined where the classes are told apart without an error, or one of them is absent.
    """
    odds = np.clip(logits[:, 1] - logits[:, 0], -30, 30)
    is_one = (cohort.labels == 1).astype(float)
    values = fit_slopes(odds, is_one, np.ones((1, len(cohort))))[0]
    drawn = bootstrap.resample(in_parts(functools.partial(fit_slopes, odds, is_one)), cohort)
    num_groups = min(len(np.unique(cohort.groups[cohort.labels == k])) for k in (0, 1))
    fitted = {
        name: bootstrap.interval(float(values[i]), drawn[:, i], num_groups, "difference").to_json()
        for i, name in enumerate(("intercept", "slope"))
    }
    return fitted | {"in_the_large": _mean(np.exp(log_softmax(logits)[:, 1]) - is_one, cohort, bootstrap)}


def fit_slopes(
    odds: Float[np.ndarray, " n"], is_one: Float[np.ndarray, " n"], weights: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, "b 2"]:
    """Intercept and slope of logistic regressions, one per weighting, by Newton's method; nan where undefined."""
    scale = float(odds.std()) or 1.0
    parameters = np.zeros((len(weights), 2))  # from a slope of 0, where the curvature is largest
    design = np.stack([np.ones_like(odds), odds / scale])
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    gradient = np.zeros_like(parameters)
    for _ in range(NUM_STEPS):
        p = 1 / (1 + np.exp(-np.clip(parameters @ design, -30, 30)))
        gradient = (weights * (is_one - p)) @ design.T / total
        curvature = np.einsum("bn,in,jn->bij", weights * p * (1 - p) / total, design, design) + 1e-9 * np.eye(2)
        parameters += np.clip(np.linalg.solve(curvature, gradient[..., None])[..., 0], -2, 2)
    is_fitted = (np.abs(gradient) < 1e-6).all(axis=1) & (np.abs(parameters) < STEEPEST).all(axis=1)
    # Of one class alone the intercept runs away slowly, and its gradient is small too.
    is_fitted &= (weights @ is_one > 0) & (weights @ (1 - is_one) > 0)
    return np.where(is_fitted[:, None], parameters / [1.0, scale], np.nan)


def frozen_findings(judged: Mapping[str, Any], cohort: Cohort) -> list[str]:
    """What there is to say of calibration and decisions on other images, a line each; of `judge_frozen`."""
    calibration, decisions = judged["calibration"], judged["decisions"]
    after = calibration["after"]["ece"]
    line = (
        f"calibration, frozen ({calibration['method']}): ECE {Interval.of(after)} "
        f"({after['expected_if_calibrated']:.3f} by chance alone), confidence less accuracy "
        f"{Interval.of(calibration['overconfidence']):+}"
    )
    if "slope" in calibration:
        slope, intercept, large = (Interval.of(calibration[key]) for key in ("slope", "intercept", "in_the_large"))
        line += f"; slope {slope} (1: neither too sure nor too unsure), intercept {intercept:+}, in the large {large:+}"
    lines = [line]
    for objective, threshold in decisions["thresholds"].items():
        if objective != COST:
            lines.append(
                f"{name_threshold(objective, cohort)}, frozen at {threshold['threshold']:.3f}: gain over one half "
                f"{Interval.of(threshold['gain']):+}"
            )
    if abstention := decisions["abstention"]:
        lines.append(
            f"abstention, frozen, for at most {100 * abstention['max_risk']:g} % errors: decides "
            f"{Interval.of(abstention['coverage'])} of the images and errs in {Interval.of(abstention['risk'])} of "
            "those"
        )
    if conformal := decisions["conformal"]:
        lines.append(
            f"conformal sets, frozen, that promise {100 * conformal['nominal']:g} %: cover "
            f"{Interval.of(conformal['group_coverage'])} by {cohort.group_is}, "
            f"{Interval.of(conformal['mean_set_size'])} classes on average"
        )
    return lines


def _mean(values: np.ndarray, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, float | None]:
    of_images = values.astype(float)
    estimate = bootstrap.estimate(lambda w: weighted_mean(w, of_images), cohort, scale="difference")
    return estimate.to_json()
