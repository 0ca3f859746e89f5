"""The average over folds that predicts new images, and how much sharper than it looks it has to be made.

A new image is predicted by the members of all folds, a labelled one by those of its own fold only, and it is the latter
that are calibrated. The average of calibrated probabilities is not calibrated: what folds disagree about is noise that
the average takes away, so it is right more often, and it says so less often. No labelled image has all folds'
predictions, but images without a label have them, and the calibration of each fold says enough: if p is the
probability that follows from all folds, and c that of one of them, p given c is c on average, so that for all g

    mean over images of sum_k p_k g_k(c) = mean over images of sum_k c_k g_k(c)

With p = softmax(s log(average)) and g = log c this gives the sharpening s: on average the sharpened average has to
believe as much of a fold's answer as that fold does. It is exact where p is of this form, as for Gaussian log-odds
with noise of equal size; docs/statistics.md has how far off it is elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.errors import DataError
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.metrics import Labels, Logits, log_softmax
from fpclass.stats.probabilities.calibration import Calibration, fit_temperature
from fpclass.stats.probabilities.ensembling import AVERAGES, Average, LogProbabilities, average_members, predict_by_fold

LARGEST = 20.0
"""Bound of the sharpening: folds that agree on nothing give no best one."""
MIN_IMAGES = 20
"""Images without a label below which they are not asked."""


@dataclasses.dataclass(frozen=True)
class Sharpening:
    """How the average over folds is made as sure as it may be.

    Attributes:
      scale: factor of its log-probabilities, 1 or more; a temperature of 1 / scale.
      fitted_on: by what, in words; "" where it was not fitted.
      why_not: why it was not, though there are folds; "" where it was, or there are none.
    """

    scale: float = 1.0
    fitted_on: str = ""
    why_not: str = ""

    def __post_init__(self):
        if not 1 <= self.scale <= LARGEST:
            raise DataError(f"sharpening is {self.scale}, expected a factor in [1, {LARGEST:g}]; run the study again")

    def apply(self, log_probabilities: Logits) -> Logits:
        """Log-probabilities [N, K], sharpened; the very same where the scale is 1."""
        return log_probabilities if self.scale == 1 else log_softmax(self.scale * log_probabilities)

    @property
    def words(self) -> str:
        """What is done to the average over folds; "" where there is none."""
        if self.fitted_on:
            return f"the average over folds is sharpened {self.scale:.2f} times, by {self.fitted_on}"
        return f"the average over folds is not sharpened: {self.why_not}" if self.why_not else ""

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Sharpening:
        """What `to_json` wrote; None, of a study from before there was one, changes nothing.

        Raises:
          DataError: a key is missing or of another kind.
        """
        if values is None:
            return cls()
        try:
            return cls(float(values["scale"]), *(str(values[key]) for key in ("fitted_on", "why_not")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"sharpening {values!r} lacks scale, fitted_on or why_not; run the study again") from error


UNSHARPENED = Sharpening()
"""The average over folds as it is."""


def fit_sharpening(of_folds: Float[np.ndarray, "f n k"], how: Average) -> float:
    """The factor in [1, `LARGEST`] by which the average of the folds has to be sharpened.

    Args:
      of_folds: calibrated log-probabilities of images that no fold has learnt from, by each fold's members.
      how: they are averaged.
    """
    from scipy.optimize import brentq

    average, mean_log = average_members(of_folds, how), of_folds.mean(axis=0)
    believed = (np.exp(of_folds) * of_folds).sum(axis=-1).mean()

    def excess(log_scale: float) -> float:
        sharpened = np.exp(log_softmax(math.exp(log_scale) * average))
        return float((sharpened * mean_log).sum(axis=-1).mean() - believed)

    highest = math.log(LARGEST)
    if excess(0.0) >= 0:
        return 1.0
    if excess(highest) <= 0:
        return LARGEST
    found: Any = brentq(excess, 0.0, highest)
    return math.exp(found)


@dataclasses.dataclass(frozen=True)
class Combination:
    """How the logits of all members become calibrated log-probabilities of images that no fold holds.

    Attributes:
      weights: of the configs, above 0 and summing to 1.
      average: how members and configs are averaged.
      calibration: of each fold's average.
      num_folds: 1 where there are none.
      sharpening: of the average over folds.
    """

    weights: Mapping[str, float]
    average: Average
    calibration: Calibration
    num_folds: int = 1
    sharpening: Sharpening = UNSHARPENED

    def __call__(self, logits: Mapping[str, SeedLogits]) -> LogProbabilities:
        """Log-probabilities [N, K] by the logits [M, N, K] of each config, as `predict_by_fold` takes them."""
        if sum(map(len, logits.values())) == 1:
            return self.sharpening.apply(self.calibration.apply(next(iter(logits.values()))[0]))
        of_folds = predict_by_fold(logits, self.num_folds, self.weights, self.calibration, self.average)
        return self.sharpening.apply(average_members(of_folds, self.average))

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        fitted = {"calibration": self.calibration.to_json(), "sharpening": self.sharpening.to_json()}
        return {**dataclasses.asdict(self), "weights": dict(self.weights), **fitted}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Combination:
        """What `to_json` wrote.

        Raises:
          DataError: a key is missing or of another kind, or the weights make no average.
        """
        try:
            weights = {str(name): float(weight) for name, weight in values["weights"].items()}
            average, num_folds = values["average"], values["num_folds"]
            is_average = min(weights.values()) > 0 and abs(sum(weights.values()) - 1) < 1e-6
            if not is_average or average not in AVERAGES or not isinstance(num_folds, int) or num_folds < 1:
                raise ValueError(f"weights {weights}, average {average!r} and {num_folds} folds")
            fitted = Calibration.from_json(values["calibration"]), num_folds, Sharpening.from_json(values["sharpening"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the combination of members cannot be read ({error!r}); make it anew") from error
        return cls(weights, average, *fitted)


def extrapolate_sharpening(of_seeds: Float[np.ndarray, "s n k"], labels: Labels, num_folds: int, how: Average) -> float:
    """The same from several seeds of the own fold, where no images without a label are at hand: a lower bound.

    Averaging m trainings takes their noise to 1 / m of it, and the best temperature of the average with it, on a
    straight line in 1 / m for Gaussian log-odds. One seed and the average of S of them give the line; it ends at F S.
    What the training sets of folds differ in, and seeds do not, is not in it.

    Args:
      of_seeds: log-probabilities of labelled images, each seed calibrated as their average is, at least 2.
    """
    num_seeds = len(of_seeds)
    one = fit_temperature(of_seeds.reshape(-1, of_seeds.shape[-1]), np.tile(labels, num_seeds))
    several = fit_temperature(average_members(of_seeds, how), labels)
    of_all = several - max(0.0, one - several) / (num_seeds - 1) * (1 - 1 / num_folds)
    return min(LARGEST, max(1.0, several / max(of_all, several / LARGEST)))
