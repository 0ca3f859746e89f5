"""Evidence as forensic science reports it: likelihood ratios, calibrated and bounded, judged on other people."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from fpclass.stats.bounds import Bounds, Scale, resampled_bounds, shared_training, support_of
from fpclass.stats.cohort import Cohort, Rows
from fpclass.stats.draws import Weights
from fpclass.stats.evidence.likelihood_ratios import (
    LN10,
    VERBAL_SCALE,
    LogRatios,
    costs,
    empirical_bounds,
    empirical_cross_entropy,
    make_cllr_min,
    mean_by_class,
    pool_adjacent_violators,
    verbal,
)
from fpclass.stats.evidence.person import cohort_of_people, renumbered
from fpclass.stats.evidence.pooling import MIN_PEOPLE, Codes, Pooling, fit_pooling, log_shares, mean_of_people
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Labels, Logits, log_softmax, ratio

CURVE_POINTS = 201
"""Points of a Tippett plot in results.json."""
PRIOR_ODDS = np.round(np.linspace(-2, 2, 81), 2)
"""log10 prior odds of an empirical cross-entropy plot."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """How log-probabilities of two classes become a likelihood ratio.

    Attributes:
      calibration: from `fit_pooling` with `as_ratio`; of single images each is a person of its own.
      low, high: log10 LR beyond which so many people support none.
    """

    calibration: Pooling
    low: float
    high: float

    def log_ratios(self, log_probabilities: Logits, people: Codes) -> LogRatios:
        """Natural log-LR of each person [G], H1 being class 1."""
        pooled = self.calibration.of_people(log_probabilities, people)
        return (pooled[:, 1] - pooled[:, 0]).clip(self.low * LN10, self.high * LN10)

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return {
            "scale": self.calibration.scale,
            "correlation": self.calibration.correlation,
            "log_odds_of_images": self.calibration.base[1] - self.calibration.base[0],
            "bias": self.calibration.bias[1] - self.calibration.bias[0],
            "log10_low": self.low,
            "log10_high": self.high,
        }


def fit_evidence(log_probabilities: Logits, labels: Labels, people: Codes, groups: Codes) -> Evidence:
    """Fits calibration and bounds on people whom the network has not seen.

    Args:
      log_probabilities: [N, 2].
      people: what is one piece of evidence, [N]: the person, or `np.arange(N)` for single images.
      groups: those that are independent of each other [N]; the bounds count these.
    """
    calibration = fit_pooling(log_probabilities, labels, people, as_ratio=True)
    first = np.unique(people, return_index=True)[1]
    of_unit, group = labels[first], renumbered(groups[first])
    pooled = calibration.of_people(log_probabilities, people)
    cells = group * 2 + of_unit
    in_cell = np.bincount(cells, minlength=2 * (group.max() + 1))
    num_people = (int((in_cell[0::2] > 0).sum()), int((in_cell[1::2] > 0).sum()))
    low, high = empirical_bounds(pooled[:, 1] - pooled[:, 0], of_unit, num_people, 1 / in_cell[cells])
    return Evidence(calibration, low, high)


def why_no_evidence(cohort: Cohort, num_classes: int) -> str:
    """Why there are no likelihood ratios; "" where there are."""
    if num_classes != 2:
        return f"a likelihood ratio is of two classes, and there are {num_classes}"
    fewest = min(np.unique(cohort.groups[cohort.labels == k]).size for k in (0, 1))
    if cohort.num_groups < MIN_PEOPLE or fewest < MIN_PEOPLE // 4:
        return f"{cohort.num_groups} {cohort.groups_are}, {fewest} of the rarer class, are too few to calibrate on"
    return ""


def cross_fitted_evidence(log_probabilities: Logits, cohort: Cohort, people: Codes) -> tuple[LogRatios, Evidence]:
    """Log-LR of each person [G] by what was fitted on the other folds; and what all folds give, for new people.

    Raises:
      DataError: there are not two folds.
    """

    def fit(rows: Rows) -> Evidence:
        return fit_evidence(log_probabilities[rows], cohort.labels[rows], renumbered(people[rows]), cohort.groups[rows])

    def apply(evidence: Evidence, rows: Rows) -> LogRatios:
        of_rows = renumbered(people[rows])
        return evidence.log_ratios(log_probabilities[rows], of_rows)[of_rows]

    llr, _, final = cohort.cross_fit(fit, apply, np.empty(len(cohort)))
    return llr[np.unique(people, return_index=True)[1]], final


def uncalibrated(log_probabilities: Logits, labels: Labels, people: Codes) -> dict[str, LogRatios]:
    """Log-LRs before any calibration: posterior odds over the odds of the labelled images, as mean and as sum [G].

    Of single images both are the same.
    """
    means, counts = mean_of_people(log_probabilities, people)
    shares = log_shares(labels, 2)
    mean = means[:, 1] - means[:, 0] - (shares[1] - shares[0])
    return {"mean": mean, "sum": mean * counts}


def judge_ratios(
    llr: LogRatios, before: dict[str, LogRatios], final: Evidence, cohort: Cohort, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Everything about log-LRs [N] of the units of a cohort, whose people had no say in them.

    Returns:
      A dict that JSON can hold, every estimate {"value", "low", "high"}: num_h1, num_h2, num_people; cllr, cllr_min,
      calibration_loss (their difference), bits; cllr_uncalibrated (the mean of a person's log-odds), cllr_sum (their
      sum); misleading: the share of H1 with LR < 1 and of H2 with LR > 1; evidence (of all people, for new ones);
      verbal: units of H1 and of H2 by words; tippett: log10_lr, h1, h2 (share at least so large); cross_entropy:
      log10_prior_odds, calibrated, pav, reference.
    """
    labels = cohort.labels
    result: dict[str, Any] = {
        "num_h1": int((labels == 1).sum()),
        "num_h2": int((labels == 0).sum()),
        "num_people": cohort.num_groups,
    }
    result |= _costs(llr, labels, cohort, bootstrap)
    for name, values in {"cllr_uncalibrated": before["mean"], "cllr_sum": before["sum"]}.items():
        cost = mean_by_class(costs(values, labels), labels)
        point, drawn = cost(np.ones((1, len(labels))))[0], bootstrap.resample(cost, cohort, within_classes=True)
        result[name] = Interval(float(point), *_cost_bounds(float(point), drawn, cohort, bootstrap)).to_json()
    result["misleading"] = {
        name: _share_of_class(is_misleading, k, cohort, bootstrap)
        for name, k, is_misleading in (("h1", 1, llr < 0), ("h2", 0, llr > 0))
    }
    words = [verbal(value) for value in llr]
    scale = [words for _, words in VERBAL_SCALE]
    order = [f"{w} for H2" for w in scale[:0:-1]] + scale[:1] + [f"{w} for H1" for w in scale[1:]]
    return result | {
        "evidence": final.to_json(),
        "verbal": {
            name: {"h1": sum(w == name for w, y in zip(words, labels, strict=True) if y == 1),
                   "h2": sum(w == name for w, y in zip(words, labels, strict=True) if y == 0)}
            for name in order
        },
        "tippett": tippett(llr, labels),
        "cross_entropy": _cross_entropy(llr, labels),
    }  # fmt: skip


def tippett(llr: LogRatios, labels: Labels) -> dict[str, list[float]]:
    """The share of H1 and of H2 with a log10 LR at least so large, at `CURVE_POINTS` places."""
    log10 = llr / LN10
    grid = np.linspace(min(log10.min(), 0) - 0.05, max(log10.max(), 0) + 0.05, CURVE_POINTS)
    of_class = {f"h{2 - k}": np.sort(log10[labels == k]) for k in (1, 0)}
    shares = {name: 1 - np.searchsorted(values, grid) / len(values) for name, values in of_class.items()}
    return {"log10_lr": grid.tolist()} | {name: values.tolist() for name, values in shares.items()}


def _cross_entropy(llr: LogRatios, labels: Labels) -> dict[str, list[float]]:
    curves = {"calibrated": llr, "pav": pool_adjacent_violators(llr, labels), "reference": np.zeros(len(llr))}
    of_curves = {name: empirical_cross_entropy(values, labels, PRIOR_ODDS) for name, values in curves.items()}
    return {"log10_prior_odds": PRIOR_ODDS.tolist()} | {name: values.tolist() for name, values in of_curves.items()}


def _costs(llr: LogRatios, labels: Labels, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Cllr, Cllr_min and the calibration loss; the intervals of the last two are moved by the bias of resampling.

    A resample holds people twice, whom isotonic regression fits better than people whom it has not met: its Cllr_min is
    too low by about as much as that of the sample is below that of all people.
    """
    cost, lowest = mean_by_class(costs(llr, labels), labels), make_cllr_min(llr, labels)

    def all_three(weights: Weights) -> np.ndarray:
        values = cost(weights), lowest(weights)
        return np.stack([*values, values[0] - values[1]], axis=1)

    points = all_three(np.ones((1, len(llr))))[0]
    drawn, result = bootstrap.resample(all_three, cohort, within_classes=True), {}
    for name, point, values in zip(("cllr", "cllr_min", "calibration_loss"), points, drawn.T, strict=True):
        bias = 0.0 if name == "cllr" or not len(values) else float(np.nanmean(values) - point)
        scale: Scale = "positive" if name == "cllr" else "difference"
        low, high = _cost_bounds(float(point) - bias, values, cohort, bootstrap, scale)
        if low is not None and high is not None:
            low, high = max(0.0, min(low, float(point))), max(high, float(point))
        result[name] = Interval(float(point), low, high).to_json()
    return result


def _cost_bounds(
    value: float, values: np.ndarray, cohort: Cohort, bootstrap: Bootstrap, scale: Scale = "positive"
) -> Bounds:
    """Bounds of something that is a mean over the people of each class.

    Of folds, each judged by what the others gave, the variance is wider (`shared_training`), as that of scores:
    resampling leaves what was fitted as it is.
    """
    values = value + (values - value) * math.sqrt(shared_training(cohort.num_folds))
    return resampled_bounds(value, values, bootstrap.confidence, support_of("balanced_accuracy", cohort), scale)


def _share_of_class(is_so: np.ndarray, k: int, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, float | None]:
    of_class = cohort.labels == k
    both = np.stack([is_so & of_class, of_class], axis=1).astype(np.float64)

    def share(weights: Weights) -> np.ndarray:
        sums = weights @ both
        return ratio(sums[:, 0], sums[:, 1])

    return bootstrap.estimate(share, cohort, cohort.effective_groups(of_class)).to_json()


def evidence_report(log_probabilities: Logits, cohort: Cohort, people: Codes, bootstrap: Bootstrap) -> dict[str, Any]:
    """`judge_ratios` of evidence that is cross-fitted by the folds of a cohort; `people` as `fit_evidence`.

    Raises:
      DataError: there are not two folds.
    """
    log_probabilities = log_softmax(log_probabilities)
    llr, final = cross_fitted_evidence(log_probabilities, cohort, people)
    before = uncalibrated(log_probabilities, cohort.labels, people)
    return judge_ratios(llr, before, final, cohort_of_people(cohort, people), bootstrap)
