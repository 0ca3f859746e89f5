"""Scores of altered copies of the same images, and their differences from the images as they are, drawn together.

All copies of an image belong to its person, and every score comes of the same resamples of people, so that differences
are paired. They are about a network, or an ensemble, as it stands: trained once more it would be another one, of which
the intervals know nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.stats.bounds import is_within_classes, resampled_bounds, scale_of, support_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval
from fpclass.stats.metrics import Logits, log_softmax
from fpclass.stats.weighted_metrics import make_weighted_metrics

METRICS = ("accuracy", "roc_auc", "log_loss")
SAME = 1e-4
"""Log-probabilities that differ by less are those of another order of additions."""
Resampled = tuple[float, Float[np.ndarray, " b"]]
"""A value, and the values of the resamples."""


@dataclasses.dataclass(frozen=True)
class CopyScores:
    """What a model scores on copies of the images.

    Attributes:
      scores: by metric, with intervals.
      differences: from the images as they are, paired; none of these themselves.
      loss: of accuracy: its difference, with an interval that holds for all copies at once that are looked at.
      knowledge: the area under the ROC curve, likewise: chance alone makes it 0.5, whatever the classes weigh and
        wherever the threshold is.
      is_same: whether no answer has changed at all, as of a network that averages views and their mirror images.
    """

    scores: dict[str, Interval]
    differences: dict[str, Interval]
    loss: Interval
    knowledge: Interval
    is_same: bool = False

    @property
    def is_lower(self) -> bool:
        """Whether the accuracy is lower."""
        return self.loss.high is not None and self.loss.high < 0

    @property
    def is_known(self) -> bool | None:
        """Whether the classes are told apart better than by chance; None: cannot be said."""
        return None if self.knowledge.low is None else self.knowledge.low > 0.5

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return {
            **{name: score.to_json() for name, score in self.scores.items()},
            "differences": {name: difference.to_json() for name, difference in self.differences.items()},
            "for_all_at_once": {"accuracy_difference": self.loss.to_json(), "roc_auc": self.knowledge.to_json()},
            "is_lower": self.is_lower,
            "is_known": self.is_known,
            "is_same": self.is_same,
        }


class PairedScores:
    """Scores of copies of the images that a model was judged on, beside those of the images as they are."""

    def __init__(self, logits: Logits, cohort: Cohort, bootstrap: Bootstrap):
        """Takes logits [N, K] of the images as they are."""
        self._logits, self._cohort, self._bootstrap = log_softmax(np.asarray(logits, np.float64)), cohort, bootstrap
        self._plain = self._resample(logits)
        self.plain = self._judge(self._plain, {}, 1)

    @property
    def chance(self) -> float:
        """The accuracy of always saying the class that most images have."""
        return float(np.bincount(self._cohort.labels).max() / len(self._cohort))

    def of(self, logits: Logits, num_copies: int = 1) -> CopyScores:
        """The scores of copies by their logits [N, K]; of so many copies things are said together (Bonferroni)."""
        if np.allclose(log_softmax(np.asarray(logits, np.float64)), self._logits, atol=SAME):
            same = Interval(0.0, 0.0, 0.0)
            alike = self._judge(self._plain, {}, num_copies)
            return dataclasses.replace(alike, differences=dict.fromkeys(METRICS, same), loss=same, is_same=True)
        values = self._resample(logits)
        differences = {
            name: (value - self._plain[name][0], drawn - self._plain[name][1])
            for name, (value, drawn) in values.items()
        }
        return self._judge(values, differences, num_copies)

    def _judge(self, values: dict[str, Resampled], differences: dict[str, Resampled], num_copies: int) -> CopyScores:
        confidence = self._bootstrap.confidence
        all_at_once = self._bootstrap.for_all(num_copies).confidence
        loss = UNDEFINED
        if differences:
            loss = self._interval("accuracy", differences["accuracy"], all_at_once, is_difference=True)
        return CopyScores(
            {name: self._interval(name, of, confidence) for name, of in values.items()},
            {name: self._interval(name, of, confidence, is_difference=True) for name, of in differences.items()},
            loss,
            self._interval("roc_auc", values["roc_auc"], all_at_once),
        )

    def _resample(self, logits: Logits) -> dict[str, Resampled]:
        """Value and resampled values of every metric."""
        cohort = self._cohort
        found: dict[str, Resampled] = {}
        logits = cohort.check(logits)
        for metric in METRICS:
            evaluate = make_weighted_metrics(logits, cohort.labels, [metric])
            value = float(evaluate(np.ones((1, len(cohort))))[metric][0])
            nothing = evaluate(np.empty((0, len(cohort))))[metric]
            draws = self._bootstrap.draws(cohort, within_classes=is_within_classes(metric))
            found[metric] = value, np.concatenate([nothing, *(evaluate(weights)[metric] for weights in draws)])
        return found

    def _interval(self, metric: str, of: Resampled, confidence: float, *, is_difference: bool = False) -> Interval:
        value, drawn = of
        if math.isnan(value):
            return UNDEFINED
        support = support_of(metric, self._cohort)
        scale = scale_of(metric)
        if is_difference:
            scale = "proportions" if metric == "accuracy" else "unknown"
        return Interval(value, *resampled_bounds(value, drawn, confidence, support, scale))
