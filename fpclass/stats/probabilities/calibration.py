"""Calibration of logits by temperature or vector scaling, fitted by log-loss and cross-fitted.

A classifier is calibrated where, of all images that it calls with 80 % confidence, 80 % are called rightly. Temperature
scaling divides the logits by one number, which changes no decision; vector scaling stretches and shifts each class,
which may. Both are fitted on predictions for people whom the network has not seen, and the images of fold k calibrated
by what was fitted on the other folds, so the numbers after calibration (`reliability`) are not those of the data that
chose it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import Labels, Logits, check_predictions, image_log_losses, log_softmax

METHODS = ("none", "temperature", "vector")
TEMPERATURE_RANGE = (0.05, 20.0)
"""Bounds of the fitted temperature: predictions that are worse than chance have no best one."""
RIDGE = 1.0
"""Weight of the pull of vector scaling to the identity, in nats: a normal prior of standard deviation 1 on a number."""
TEMPERATURE_RIDGE = 4.0
"""The same of temperature scaling, whose classes share one scale 1 / T: a prior of standard deviation 0.5 on it.

Without one, predictions that are all right would be made certain: of 100 images with a margin of 2 nats T were 0.05,
with it 0.51. A weaker one costs log loss where a hundred images or fewer need no calibration, a stronger one where they
need much (`benchmarks/calibration.py`, docs/statistics.md).
"""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Calibrated log-probabilities are the softmax of scale * log p + bias.

    Attributes:
      method: one of `METHODS`.
      scale: factor of each class's log-probability [K], 1 / T for temperature scaling.
      bias: added to each class, nats [K], 0 for temperature scaling.
    """

    method: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self):
        is_finite = all(map(math.isfinite, (*self.scale, *self.bias)))
        if self.method not in METHODS or not 2 <= len(self.scale) == len(self.bias) or not is_finite:
            raise DataError(
                f"calibration: method {self.method!r} with scale {self.scale} and bias {self.bias}; expected one of "
                f"{METHODS} and a finite scale and bias for each of at least two classes; fit it again"
            )

    @property
    def temperature(self) -> float | None:
        """The T of temperature scaling, above 1 where the network was too sure of itself; None for others."""
        return 1 / self.scale[0] if self.method == "temperature" else None

    @property
    def is_at_bound(self) -> bool:
        """Whether the temperature is one of `TEMPERATURE_RANGE`: a better one lies beyond."""
        return any(math.isclose(self.temperature or 1, bound, rel_tol=1e-3) for bound in TEMPERATURE_RANGE)

    def apply(self, logits: Logits) -> Logits:
        """Calibrated log-probabilities [N, K], float64, of finite logits [N, K].

        Raises:
          DataError: the logits are of another number of classes.
        """
        if np.ndim(logits) != 2 or np.shape(logits)[1] != len(self.scale):
            raise DataError(
                f"calibration: fitted for {len(self.scale)} classes, met logits of shape {np.shape(logits)}; "
                "use the calibration of the same study"
            )
        return log_softmax(log_softmax(logits) * np.array(self.scale) + np.array(self.bias))

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        return {"method": self.method, "scale": list(self.scale), "bias": list(self.bias)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` wrote; DataError where a key is missing or of another kind."""
        try:
            return cls(values["method"], *(tuple(map(float, values[key])) for key in ("scale", "bias")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"calibration: {values!r} lacks method, scale or bias ({error!r}); fit it again") from error


def fit_temperature(logits: Logits, labels: Labels, ridge: float = TEMPERATURE_RIDGE) -> float:
    """The temperature T in `TEMPERATURE_RANGE` that makes softmax(logits / T) most likely; 1 where no other is better.

    The network must not have been trained on these images. `ridge` weighs half the squared distance of 1 / T from 1
    against the log-loss summed over images, as in `fit_vector_scaling`.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 4.2; the ridge
    is ours.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = check_predictions(logits, labels)
    logits = log_softmax(logits)

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(image_log_losses(logits * scale, labels).mean()) + ridge / 2 * (scale - 1) ** 2 / len(labels)

    # Convex in 1 / T, so it has one valley in log T.
    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return math.exp(best.x) if best.fun < loss(0.0) else 1.0


def fit_vector_scaling(
    logits: Logits, labels: Labels, ridge: float = RIDGE
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Scale [K], not negative, and bias [K] that make softmax(scale * log p + bias) most likely.

    Not of raw logits: those have a free constant per image, which scales of the classes would turn into another
    answer. For two classes this is beta calibration (Kull et al., AISTATS 2017). The images are as `fit_temperature`
    takes them; `ridge` weighs half the squared distance from the identity against the log-loss summed over images.

    Source: Guo, Pleiss, Sun and Weinberger, ICML 2017, section 4.2; the ridge and the bound on the scale are ours.
    """
    from scipy.optimize import minimize

    logits, labels = check_predictions(logits, labels)
    logits = log_softmax(logits)
    num_images, num_classes = logits.shape
    identity = np.repeat([1.0, 0.0], num_classes)

    def loss_and_gradient(parameters: Float[np.ndarray, " 2k"]) -> tuple[float, Float[np.ndarray, " 2k"]]:
        scale, bias = np.split(parameters, 2)
        log_probabilities = log_softmax(scale * logits + bias)
        distance = parameters - identity
        loss = image_log_losses(log_probabilities, labels).sum() + ridge / 2 * distance @ distance
        errors = np.exp(log_probabilities)
        errors[np.arange(num_images), labels] -= 1
        gradient = np.concatenate([(errors * logits).sum(axis=0), errors.sum(axis=0)]) + ridge * distance
        return loss / num_images, gradient / num_images

    bounds = [(0.0, None)] * num_classes + [(None, None)] * num_classes
    options = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}
    best = minimize(loss_and_gradient, identity, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    scale, bias = np.split(best.x, 2)
    return scale, bias


def fit_calibration(logits: Logits, labels: Labels, method: str) -> Calibration:
    """Fits one of `METHODS`; DataError as `check_predictions`, or for another method."""
    num_classes = np.shape(logits)[-1]
    if method == "vector":
        scale, bias = fit_vector_scaling(logits, labels)
        return Calibration(method, tuple(scale.tolist()), tuple(bias.tolist()))
    scale = 1 / fit_temperature(logits, labels) if method == "temperature" else 1.0
    return Calibration(method, (scale,) * num_classes, (0.0,) * num_classes)


def cross_fitted_calibration(
    logits: Logits, cohort: Cohort, method: str
) -> tuple[Logits, dict[int, Calibration], Calibration]:
    """Calibrates each fold by what was fitted on the other folds, by one of `METHODS`.

    Returns:
      Calibrated log-probabilities [N, K], the calibration of each fold, and the one fitted on all images, for new ones.

    Raises:
      DataError: as `check_predictions`, or there are not two folds.
    """
    logits = cohort.check(logits)
    return cohort.cross_fit(
        lambda rows: fit_calibration(logits[rows], cohort.labels[rows], method),
        lambda calibration, rows: calibration.apply(logits[rows]),
        np.empty_like(logits),
    )
