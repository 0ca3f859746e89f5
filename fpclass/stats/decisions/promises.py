"""What is promised of new images: which are decided at all, and sets of classes that hold the true one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.report import coverage_by_group, coverage_per_class
from fpclass.stats.decisions.risk_control import ControlledRisk
from fpclass.stats.decisions.thresholds import MARGINAL, SETS, confidences_of, set_scores
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import Logits, ratio
from fpclass.stats.weighted_metrics import weighted_mean

BETWEEN = " | "
"""What stands between the classes of a set in a table."""


@dataclasses.dataclass(frozen=True)
class Promises:
    """Abstention and conformal sets, as fitted out of fold.

    Attributes:
      max_risk: error rate among the images that are decided, at most; with this
      confidence: that is, probability.
      smallest_confidence: from which on it holds; None where no confidence can promise it.
      kind: of sets, one of `SETS`.
      nominal: how often, at least, a set holds the true class.
      quantiles: 1 - p up to which a class is in the set, of each class [K].
    """

    max_risk: float
    confidence: float
    smallest_confidence: float | None
    kind: str
    nominal: float
    quantiles: tuple[float, ...]

    @classmethod
    def of_report(cls, decisions: Mapping[str, Any], kind: str) -> Promises:
        """Those of a `decision_report`, with sets of one of `SETS`."""
        abstention, sets = decisions["abstention"], decisions[report_key(kind)]
        promised = {key: abstention[key] for key in ("max_risk", "confidence", "smallest_confidence")}
        return cls(**promised, kind=kind, nominal=sets["nominal"], quantiles=tuple(sets["quantiles"]))

    @classmethod
    def from_json(cls, values: Mapping[str, Any], num_classes: int) -> Promises:
        """What `to_json` wrote.

        Raises:
          DataError: a key is missing or of another kind, or there are not as many quantiles as classes.
        """
        try:
            smallest = values["smallest_confidence"]
            numbers = {key: float(values[key]) for key in ("max_risk", "confidence", "nominal")}
            quantiles = tuple(map(float, values["quantiles"]))
            if values["kind"] not in SETS or len(quantiles) != num_classes:
                raise ValueError(f"{values['kind']!r} sets with {len(quantiles)} quantiles for {num_classes} classes")
            known = {"smallest_confidence": None if smallest is None else float(smallest), "kind": values["kind"]}
            return cls(**numbers, **known, quantiles=quantiles)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"promises {values!r} are damaged ({error}); run the study again") from error

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        return dataclasses.asdict(self) | {"quantiles": list(self.quantiles)}

    def columns(self, log_probabilities: Logits, classes: Sequence[str]) -> dict[str, list[str]]:
        """Columns of a table of predictions, by calibrated log-probabilities [N, K].

        Returns:
          abstain: yes or no, "" where nothing can be promised; set: the classes, as the source codes them.
        """
        is_decided = ControlledRisk(self.smallest_confidence).decides(confidences_of(log_probabilities))
        has_promise = self.smallest_confidence is not None
        is_inside = set_scores(log_probabilities) <= np.array(self.quantiles)
        return {
            "abstain": [("no" if decided else "yes") if has_promise else "" for decided in is_decided],
            "set": [BETWEEN.join(np.array(classes, object)[inside]) for inside in is_inside],
        }

    def judge(self, log_probabilities: Logits, cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
        """Whether they hold on labelled images that had no say in them.

        Returns:
          set_coverage, each person weighing the same; coverage and risk of what is decided; each {"value", "low",
          "high"}; coverage_per_class, as `coverage_per_class`.
        """
        is_wrong = log_probabilities.argmax(axis=1) != cohort.labels
        is_decided = ControlledRisk(self.smallest_confidence).decides(confidences_of(log_probabilities))
        is_inside = set_scores(log_probabilities) <= np.array(self.quantiles)
        is_covered = is_inside[np.arange(len(cohort)), cohort.labels]
        wrongly_decided = is_wrong & is_decided
        risk = bootstrap.estimate(lambda weights: ratio(weights @ wrongly_decided, weights @ is_decided), cohort)
        return {
            "set_coverage": coverage_by_group(is_covered, cohort, bootstrap).to_json(),
            "coverage_per_class": coverage_per_class(is_covered, len(self.quantiles), cohort, bootstrap),
            "coverage": bootstrap.estimate(lambda weights: weighted_mean(weights, is_decided), cohort).to_json(),
            "risk": risk.to_json(),
        }

    @property
    def words(self) -> str:
        """What is promised."""
        risk = f"at most {100 * self.max_risk:g} % errors with {100 * self.confidence:g} % confidence"
        abstention = f"no threshold can promise {risk}, so nothing is abstained from"
        if self.smallest_confidence is not None:
            abstention = f"{risk} from a probability of {self.smallest_confidence:.3f} on, below which it abstains"
        sets = "the true class" if self.kind == MARGINAL else "the true class, whichever it is,"
        return f"{abstention}; sets hold {sets} {100 * self.nominal:g} % of the time"


def report_key(kind: str) -> str:
    """Where a `decision_report` has the sets of one of `SETS`."""
    return "conformal" if kind == MARGINAL else "conformal_by_class"
