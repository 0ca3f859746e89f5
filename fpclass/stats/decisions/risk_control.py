"""From which confidence on to decide, so that with a stated confidence at most a stated share of decisions is wrong.

The error rate that was met above some confidence is no promise: the confidence was picked because it looked good, and
the images of one person are one piece of evidence, not many. Here of every person one image counts, drawn without
regard to predictions. Among the D images of these that reach a given confidence, the errors of a network fixed
beforehand are binomial with the risk that a random image of a new person has there, so "the risk is above max_risk" is
rejected where so few errors have a probability of at most 1 - confidence. Several confidences are tested without a
price for their number by going through them in an order that no label has a say in, and stopping at the first that is
not rejected: from the one where the predicted confidences promise most downwards.

Across folds, whose networks differ, and by confidences calibrated with other people's labels, it is an approximation;
docs/statistics.md has how often it is wrong.

Source: Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test, Annals of Applied Statistics 2025, with
fixed-sequence testing; Geifman and El-Yaniv, NeurIPS 2017, for the exact binomial bound of selective risk.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fpclass.stats.cohort import Cohort, Rows
from fpclass.stats.decisions.thresholds import confidences_of
from fpclass.stats.metrics import Logits, PerImage

NUM_STEPS = 100
"""Confidences that are tested: those that 1 %, 2 %, … 100 % of the images reach."""
NOBODY = 2.0
"""A confidence that no image reaches."""


@dataclasses.dataclass(frozen=True)
class ControlledRisk:
    """What can be promised of decisions.

    Attributes:
      smallest_confidence: from which on to decide; None where no confidence can promise it.
      num_people: people whose drawn image reaches it.
      num_errors: of these are wrong.
      high: upper bound of the risk at the confidence asked for; None where nothing is promised.
    """

    smallest_confidence: float | None = None
    num_people: int = 0
    num_errors: int = 0
    high: float | None = None

    def decides(self, confidences: PerImage) -> Bool[np.ndarray, " n"]:
        """Which images reach the smallest confidence [N]."""
        return confidences >= (NOBODY if self.smallest_confidence is None else self.smallest_confidence)

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return dataclasses.asdict(self)


def people_needed(max_risk: float, confidence: float) -> int:
    """Decided people without an error from whom on a risk of at most max_risk, in (0, 1), can be promised at all."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_risk) - 1e-9)


def control_risk(
    confidences: PerImage,
    is_wrong: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    max_risk: float,
    level: float,
) -> ControlledRisk:
    """The smallest confidence from which on a random image of a new person is decided wrongly max_risk times or less.

    Args:
      confidences: probability of the predicted class of each image [N], best calibrated.
      is_wrong: whether that is not its class [N].
      groups: number of each image's person [N].
      max_risk: in [0, 1]; 0 can be promised of nobody, 1 of everybody.
      level: probability with which the promise holds, in (0, 1).
    """
    from scipy.stats import beta, binom

    _, groups, images_of = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(-confidences, kind="stable")
    ordered, weights = confidences[order], 1 / images_of[groups[order]]
    people = weights.cumsum()
    reached = np.searchsorted(people, people[-1] * np.arange(1, NUM_STEPS + 1) / NUM_STEPS - 1e-9)
    tried = -np.unique(-ordered[np.minimum(reached, len(ordered) - 1)])
    last = np.searchsorted(-ordered, -tried, side="right") - 1
    predicted_risk = np.minimum((weights * (1 - ordered)).cumsum()[last] / people[last], 1)
    drawn = draw_one_each(groups)
    drawn = drawn[np.argsort(-confidences[drawn], kind="stable")]
    decided = np.searchsorted(-confidences[drawn], -tried, side="right")
    errors = np.append(0, is_wrong[drawn].cumsum())[decided]
    is_promised = binom.cdf(errors, decided, max_risk) <= 1 - level
    most = binom.ppf(1 - level, decided, max_risk)
    most -= binom.cdf(most, decided, max_risk) > 1 - level  # errors that are still few enough, -1 for none
    first = int(np.argmax(binom.cdf(most, decided, predicted_risk)))
    if not is_promised[first]:
        return ControlledRisk()
    lowest = first + int(np.argmin(np.append(is_promised[first:], False))) - 1
    n, k = int(decided[lowest]), int(errors[lowest])
    high = float(beta.ppf(level, k + 1, n - k)) if k < n else 1.0
    return ControlledRisk(float(tried[lowest]), n, k, high)


def draw_one_each(groups: Int[np.ndarray, " n"]) -> Int[np.ndarray, " g"]:
    """One image of each group, drawn with a fixed seed, for groups numbered 0, 1, …"""
    images_of = np.bincount(groups)
    first = np.append(0, images_of.cumsum()[:-1])
    drawn = np.random.default_rng(0).random(len(images_of))
    return np.argsort(groups, kind="stable")[first + np.floor(drawn * images_of).astype(np.int64)]


def cross_fitted_abstention(
    logits: Logits, cohort: Cohort, max_risk: float, level: float
) -> tuple[Bool[np.ndarray, " n"], dict[int, ControlledRisk], ControlledRisk]:
    """Which images are decided [N], by what the other folds can promise; that by fold; and that of all images."""
    logits = cohort.check(logits)
    confidences, is_wrong = confidences_of(logits), logits.argmax(axis=1) != cohort.labels

    def fit(rows: Rows) -> ControlledRisk:
        return control_risk(confidences[rows], is_wrong[rows], cohort.groups[rows], max_risk, level)

    return cohort.cross_fit(fit, lambda control, rows: control.decides(confidences[rows]), np.empty(len(cohort), bool))
