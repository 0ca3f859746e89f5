"""How logits become probabilities that hold and a decision: a calibration, and thresholds, fitted on other images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.errors import ConfigError, DataError
from fpclass.stats.decisions.thresholds import COST, OBJECTIVES, Decisions, check_cost, cost_decisions, fit_threshold
from fpclass.stats.metrics import Labels, Logits, log_softmax
from fpclass.stats.probabilities.calibration import Calibration, fit_calibration

ARGMAX = "argmax"
"""The objective of taking the most probable class."""
MIN_IMAGES = 20
"""Images below which nothing is fitted (chosen): a handful of them would be followed, not learnt from."""


@dataclasses.dataclass(frozen=True)
class DecisionRule:
    """A calibration and thresholds, with the images that they were fitted on.

    Attributes:
      calibration: of the logits.
      thresholds: probability of the second class above which it is chosen, by objective; {} unless there are two.
      fitted_on: those images in words; "" where nothing was fitted.
      why_not: why nothing was fitted; "" where it was.
    """

    calibration: Calibration
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fitted_on: str = ""
    why_not: str = ""

    @classmethod
    def nothing(cls, num_classes: int, why_not: str) -> DecisionRule:
        """The rule that leaves logits what they are."""
        return cls(Calibration("none", (1.0,) * num_classes, (0.0,) * num_classes), why_not=why_not)

    @classmethod
    def from_json(cls, values: Any, where: str) -> DecisionRule:
        """The rule that `to_json` wrote.

        Raises:
          DataError: a key is missing or of another kind; `where` is what the message begins with.
        """
        try:
            thresholds = {str(name): float(value) for name, value in values["thresholds"].items()}
            words = [values.get(key, "") for key in ("fitted_on", "why_not")]
            if not all(isinstance(word, str) for word in words):
                raise TypeError(f"fitted_on and why_not are {words}")
            return cls(Calibration.from_json(values["calibration"]), thresholds, *words)
        except (AttributeError, KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{where}: has no calibration and thresholds ({error}); evaluate it again") from error

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        return dataclasses.asdict(self) | {"calibration": self.calibration.to_json()}

    @property
    def words(self) -> str:
        """What it does to probabilities, and by which images; or why nothing."""
        return self.short if self.short != "none" else f"not calibrated: {self.why_not or 'study.calibration is none'}"

    @property
    def short(self) -> str:
        """What it does to probabilities, for a column of a table."""
        method, temperature = self.calibration.method, self.calibration.temperature
        kind = method if temperature is None else f"temperature {temperature:.2f}"
        kind += " (the bound of its range: the best one lies beyond)" if self.calibration.is_at_bound else ""
        return method if method == "none" else f"{kind}, fitted on {self.fitted_on}"

    def decide(self, log_probabilities: Logits, objective: str, cost: Any = ()) -> Decisions:
        """The class of each image [N] that `submit.threshold_for` asks for.

        Args:
          log_probabilities: calibrated, [N, K].
          objective: argmax, cost, or one of those of the thresholds.
          cost: [K, K], as `check_cost`; () for none.

        Raises:
          ConfigError: a threshold that was not fitted, or no cost matrix.
        """
        if objective == ARGMAX:
            return log_probabilities.argmax(axis=1)
        if objective == COST and cost:
            return cost_decisions(np.exp(log_softmax(log_probabilities)), cost)
        return self.by_threshold(log_probabilities, objective)

    def by_threshold(self, log_probabilities: Logits, objective: str) -> Decisions:
        """Class 1 where its probability is above the threshold for an objective, else class 0, [N].

        Raises:
          ConfigError: it was not fitted.
        """
        return (np.exp(log_softmax(log_probabilities))[:, 1] > self.threshold(objective)).astype(np.int64)

    def threshold(self, objective: str) -> float:
        """The threshold for an objective.

        Raises:
          ConfigError: it was not fitted.
        """
        if objective in self.thresholds:
            return self.thresholds[objective]
        known = ", ".join((ARGMAX, *self.thresholds))
        reason = f"; {self.why_not}" if self.why_not and not self.thresholds else ""
        raise ConfigError(
            f"submit.threshold_for is {objective!r}, but what was fitted is {known}{reason}; cost needs study.cost"
        )

    def describe_decision(self, objective: str, class_value: str) -> str:
        """How a class is chosen, in words; `class_value` is the second class as the source codes it."""
        if objective == ARGMAX:
            return "most probable"
        if objective == COST and COST not in self.thresholds:
            return "least expected cost"
        return f"probability_{class_value} > {self.threshold(objective):.4g} ({objective})"


def fit_rule(logits: Logits, labels: Labels, fitted_on: str, *, method: str, cost: Any = ()) -> DecisionRule:
    """Fits a calibration by one of `calibration.METHODS` and, of two classes, a threshold for every objective.

    The network must not have been trained on these images [N, K], [N], and they must not be those that are reported.
    Fewer than `MIN_IMAGES` give no rule.

    Raises:
      DataError: as `check_predictions`.
      ConfigError: as `check_cost`.
    """
    num_classes = np.shape(logits)[1]
    if len(logits) < MIN_IMAGES:
        return DecisionRule.nothing(num_classes, f"{fitted_on} is too small, it takes {MIN_IMAGES} images")
    calibration = fit_calibration(logits, labels, method)
    thresholds = {}
    if num_classes == 2:
        matrix = check_cost(cost, num_classes) if cost else None
        for objective in OBJECTIVES if matrix is None else (*OBJECTIVES, COST):
            thresholds[objective] = fit_threshold(calibration.apply(logits), labels, objective, matrix)
    return DecisionRule(calibration, thresholds, fitted_on)
