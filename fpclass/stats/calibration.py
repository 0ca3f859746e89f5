"""Probabilities that mean what they say: calibration of logits, and how far from calibrated they are.

A classifier is calibrated where, of all images that it calls with 80 % confidence, 80 % are called rightly. Temperature
scaling divides the logits by one number, which changes no decision; vector scaling stretches and shifts each class,
which may. Both are fitted by log-loss on predictions for people whom the network has not seen, and here cross-fitted:
the images of fold k are calibrated by what was fitted on the other folds, so the numbers after calibration are not
those of the data that chose it.

The expected calibration error (ECE) of a finite sample is never zero, however well calibrated the model: chance alone
opens gaps between confidence and accuracy, and taking absolute values adds them up. So two figures stand beside it:
what a perfectly calibrated model with the same confidences would show, and an interval that allows for the bias.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.errors import DataError
from fpclass.stats.intervals import Weights, group_codes, group_resamples, percentile_interval
from fpclass.stats.metrics import (
    Labels,
    Logits,
    PerImage,
    check_predictions,
    image_brier_scores,
    image_log_losses,
    log_softmax,
    ratio,
)

METHODS = ("none", "temperature", "vector")
TEMPERATURE_RANGE = (0.05, 20.0)
"""Bounds of the fitted temperature: predictions that are all right, or no better than chance, have no best one."""
VECTOR_RIDGE = 1.0
"""Weight of the pull to the identity, in nats: a normal prior of standard deviation 1 on each scale and bias."""
HISTOGRAM_BARS = 20
IMAGES_PER_BIN, MAX_BINS = 30, 15
NUM_SIMULATIONS = 500  # of a perfectly calibrated model

Folds = Int[np.ndarray, " n"]
Estimate = dict[str, float | None]
"""{"value", "low", "high"}, each a float or None."""


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


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature T that makes softmax(logits / T) most likely.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite; of images that the network was not trained on.
      labels: class index of each image [N], in [0, K).

    Returns:
      T, in `TEMPERATURE_RANGE`; 1 where no other is better.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = check_predictions(logits, labels)
    logits = log_softmax(logits)

    def loss(log_temperature: float) -> float:
        return float(image_log_losses(logits * math.exp(-log_temperature), labels).mean())

    # Convex in 1 / T, so it has one valley in log T.
    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0


def fit_vector_scaling(
    logits: Logits, labels: Labels, ridge: float = VECTOR_RIDGE
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Scale and bias of each class's log-probability that make softmax(scale * log p + bias) most likely.

    Not of raw logits: those have a free constant per image, which scales of the classes would turn into another
    answer. For two classes this is beta calibration (Kull et al., AISTATS 2017).

    Args:
      logits: as `fit_temperature`.
      labels: as `fit_temperature`.
      ridge: weight of half the squared distance from the identity, against the log-loss summed over images.

    Returns:
      Scale [K], not negative, and bias [K].

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
    found = minimize(loss_and_gradient, identity, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    scale, bias = np.split(found.x, 2)
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
    logits: Logits, labels: Labels, folds: Folds, method: str
) -> tuple[Logits, dict[int, Calibration], Calibration]:
    """Calibrates each fold by what the other folds say.

    Args:
      logits: out-of-fold, unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      folds: fold of each image [N]; people are in one fold each.
      method: one of `METHODS`.

    Returns:
      Calibrated log-probabilities [N, K], the calibration that each fold got, and the one fitted on all images, which
      is for new ones.

    Raises:
      DataError: as `check_predictions`, or there are not two folds.
    """
    logits, labels = check_predictions(logits, labels)
    calibrated, calibrations = np.empty_like(logits), {}
    for fold, is_inside in fold_masks(folds, len(labels)):
        calibrations[fold] = fit_calibration(logits[~is_inside], labels[~is_inside], method)
        calibrated[is_inside] = calibrations[fold].apply(logits[is_inside])
    return calibrated, calibrations, fit_calibration(logits, labels, method)


def fold_masks(folds: Folds, num_images: int) -> list[tuple[int, Bool[np.ndarray, " n"]]]:
    """Each fold with the images in it; DataError where there are fewer than two, or not one per image."""
    folds = np.asarray(folds)
    if folds.shape != (num_images,) or np.unique(folds).size < 2:
        raise DataError(
            f"folds: {np.unique(folds).size} different ones in an array of shape {folds.shape} for {num_images} "
            "images; cross-fitting needs the fold of every image and at least two folds; raise the number of folds"
        )
    return [(int(fold), folds == fold) for fold in np.unique(folds)]


def confidence_bins(confidences: PerImage, num_bins: int | None = None) -> Int[np.ndarray, " n"]:
    """Bin of each image, 0 the least confident [N]; bins hold about equally many images.

    Args:
      confidences: probability of the predicted class [N]; equal ones share a bin, so there may be fewer bins.
      num_bins: at most so many; by default one per `IMAGES_PER_BIN` images, in [1, `MAX_BINS`].
    """
    num_bins = num_bins or min(max(len(confidences) // IMAGES_PER_BIN, 1), MAX_BINS)
    edges = np.quantile(confidences, np.arange(1, num_bins) / num_bins)
    return np.unique(np.searchsorted(edges, confidences, side="right"), return_inverse=True)[1]


def reliability_bins(
    logits: Logits,
    labels: Labels,
    units: Sequence[Hashable],
    *,
    num_bootstrap: int,
    confidence: float,
    num_bins: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What a reliability diagram shows.

    Args as `expected_calibration_error`.

    Returns:
      Per bin, from the least confident: confidence (mean probability of the predicted class), accuracy (an `Estimate`
      over people), num_images, num_people.
    """
    confidences, is_correct, codes = _calls(logits, labels, units)
    bins = confidence_bins(confidences, num_bins)
    in_bin = np.eye(int(bins.max()) + 1)[bins]
    right = in_bin * is_correct[:, None]
    drawn = resample(lambda weights: ratio(weights @ right, weights @ in_bin), codes, num_bootstrap, seed)
    result = []
    for b, members in enumerate(in_bin.T.astype(bool)):
        num_people = np.unique(codes[members]).size
        accuracy = estimate(float(is_correct[members].mean()), drawn[:, b], confidence, num_people)
        counts = {"num_images": int(members.sum()), "num_people": num_people}
        result.append({"confidence": float(confidences[members].mean()), "accuracy": accuracy, **counts})
    return result


def expected_calibration_error(
    logits: Logits,
    labels: Labels,
    units: Sequence[Hashable],
    *,
    num_bootstrap: int,
    confidence: float,
    num_bins: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean distance between confidence and accuracy over bins of about equally many images.

    The percentile interval of other metrics will not do: a resample is noisier than the sample, so its ECE is larger,
    and that of a calibrated model lies wholly above the truth. The lower bound here is the ECE less what resampling
    people alone can make of gaps that are not there (a quantile of sum |gap* - gap|), and 0 where that is all; the
    upper bound is the percentile less the mean excess of the resampled ECE over the ECE.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      units: person of each image [N].
      num_bootstrap: resamples of people; 0 gives no interval.
      confidence: coverage of the interval, in (0, 1).
      num_bins: as `confidence_bins`.
      seed: of the resampling and the simulation.

    Returns:
      value, low, high; num_bins; expected_if_calibrated: the mean ECE of a model with these confidences that is
      perfectly calibrated, images independent (with several images per person it would be somewhat more).

    Source: Guo et al., ICML 2017, equation 3, with bins of equal mass as Nixon et al., Measuring Calibration in Deep
    Learning, CVPR Workshops 2019.
    """
    confidences, is_correct, codes = _calls(logits, labels, units)
    bins = confidence_bins(confidences, num_bins)
    in_bin = np.eye(int(bins.max()) + 1)[bins]
    excess = in_bin * (confidences - is_correct)[:, None]
    gaps = excess.mean(axis=0)
    value = float(np.abs(gaps).sum())
    low = high = None
    if num_bootstrap and codes.max() > 0:
        drawn = resample(lambda weights: weights @ excess / weights.sum(axis=1)[:, None], codes, num_bootstrap, seed)
        errors, noise = np.abs(drawn).sum(axis=1), np.abs(drawn - gaps).sum(axis=1)
        upper = (1 + confidence) / 2
        low = max(0.0, value - float(np.quantile(noise, upper)))
        high = min(1.0, max(value, float(np.quantile(errors, upper) - errors.mean()) + value))
    rng = np.random.default_rng(seed)
    by_chance = []
    for _ in range(NUM_SIMULATIONS):
        is_right = rng.random(len(bins)) < confidences
        by_chance.append(np.abs(np.bincount(bins, confidences - is_right)).sum() / len(bins))
    calibrated = {"num_bins": in_bin.shape[1], "expected_if_calibrated": float(np.mean(by_chance))}
    return {"value": value, "low": low, "high": high} | calibrated


def calibration_report(
    logits: Logits,
    labels: Labels,
    folds: Folds,
    units: Sequence[Hashable],
    *,
    method: str = "temperature",
    num_bootstrap: int,
    confidence: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibration before and after cross-fitting, and the calibration to use on new images.

    Args as `cross_fitted_calibration` and `expected_calibration_error`.

    Returns:
      A dict that JSON can hold: method, num_images, num_people; before and after, each with log_loss, brier, ece,
      bins and confidence_counts (images by confidence, in `HISTOGRAM_BARS` steps from 0 to 1); gain (before less
      after, paired, of log_loss and brier; positive is better); final and folds, for `Calibration.from_json`;
      temperature of the final one (None for other methods); is_at_bound: it is one of `TEMPERATURE_RANGE`, so the
      best one was not found; note, one line.
    """
    calibrated, by_fold, final = cross_fitted_calibration(logits, labels, folds, method)
    codes = group_codes(units)
    num_people = int(codes.max()) + 1
    options: dict[str, Any] = {"num_bootstrap": num_bootstrap, "confidence": confidence, "seed": seed}
    result: dict[str, Any] = {"method": method, "num_images": len(codes), "num_people": num_people}
    losses = {}
    for when, values in (("before", logits), ("after", calibrated)):
        confidences = np.exp(log_softmax(values).max(axis=1))
        result[when] = {
            "ece": expected_calibration_error(values, labels, units, **options),
            "bins": reliability_bins(values, labels, units, **options),
            "confidence_counts": np.histogram(confidences, HISTOGRAM_BARS, (0, 1))[0].tolist(),
        }
        losses[when] = np.stack([image_log_losses(values, labels), image_brier_scores(values, labels)], axis=1)
    losses["gain"] = losses["before"] - losses["after"]
    for when, values in losses.items():
        drawn = resample(functools.partial(weighted_mean, values=values), codes, num_bootstrap, seed)
        for i, name in enumerate(("log_loss", "brier")):
            score = estimate(float(values[:, i].mean()), drawn[:, i], confidence, num_people, is_proportion=False)
            result.setdefault(when, {})[name] = score
    at_bounds = [math.isclose(final.temperature or 1, bound, rel_tol=1e-3) for bound in TEMPERATURE_RANGE]
    return result | {
        "final": final.to_json(),
        "folds": {str(fold): calibration.to_json() for fold, calibration in by_fold.items()},
        "temperature": final.temperature,
        "is_at_bound": any(at_bounds),
        "note": "each fold calibrated by the other folds; ECE is above zero by chance alone, compare it with "
        "expected_if_calibrated",
    }


def resample(
    evaluate: Callable[[Weights], np.ndarray], codes: Int[np.ndarray, " n"], num_bootstrap: int, seed: int
) -> Float[np.ndarray, "b ..."]:
    """Values [B, ...] of B resamples of people; the same codes and seed give the same ones, so values are paired."""
    nothing = evaluate(np.empty((0, len(codes))))  # columns of the right shape where there are no resamples
    return np.concatenate([nothing, *map(evaluate, group_resamples(codes, num_bootstrap, seed))])


def weighted_mean(weights: Weights, values: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "b ..."]:
    """Mean over images of values [N, ...] for B weightings [B, N]."""
    sums = weights @ values
    return ratio(sums, weights.sum(axis=1).reshape(-1, *[1] * (sums.ndim - 1)))


def estimate(
    value: float, drawn: Float[np.ndarray, " b"], confidence: float, num_people: int, is_proportion: bool = True
) -> Estimate:
    """A value with its interval by the rules of `percentile_interval`; None where undefined."""
    low, high = percentile_interval(drawn, confidence, num_people, is_proportion) or (None, None)
    return {"value": None if math.isnan(value) else value, "low": low, "high": high}


def _calls(
    logits: Logits, labels: Labels, units: Sequence[Hashable]
) -> tuple[PerImage, Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Probability of the predicted class, whether that is right, and the person, of each image."""
    logits, labels = check_predictions(logits, labels)
    return np.exp(log_softmax(logits).max(axis=1)), logits.argmax(axis=1) == labels, group_codes(units)
