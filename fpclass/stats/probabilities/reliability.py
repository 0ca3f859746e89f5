"""How far from calibrated probabilities are: reliability bins, expected calibration error, and a report of both.

The expected calibration error (ECE) of a finite sample is never zero, however well calibrated the model: chance alone
opens gaps between confidence and accuracy, and taking absolute values adds them up. So two figures stand beside it:
what a perfectly calibrated model with the same confidences would show, and an interval that allows for the bias.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fpclass.stats.bounds import Scale, Support, resampled_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits, PerImage, image_brier_scores, image_log_losses, log_softmax, ratio
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.weighted_metrics import weighted_mean

HISTOGRAM_BARS = 20
IMAGES_PER_BIN, MAX_BINS = 30, 15
NUM_SIMULATIONS = 500  # of a perfectly calibrated model


def confidence_bins(confidences: PerImage, num_bins: int | None = None) -> Int[np.ndarray, " n"]:
    """Bin of each image, 0 the least confident [N]; bins hold about equally many images.

    Equal confidences share a bin, so there may be fewer than `num_bins`, by default one per `IMAGES_PER_BIN` images, in
    [1, `MAX_BINS`].
    """
    num_bins = num_bins or min(max(len(confidences) // IMAGES_PER_BIN, 1), MAX_BINS)
    edges = np.quantile(confidences, np.arange(1, num_bins) / num_bins)
    return np.unique(np.searchsorted(edges, confidences, side="right"), return_inverse=True)[1]


def reliability_bins(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, num_bins: int | None = None, of_class: int | None = None
) -> list[dict[str, Any]]:
    """What a reliability diagram shows; arguments as `expected_calibration_error`.

    Returns:
      Per bin, from the least confident: confidence (mean probability of the predicted class, or of `of_class`),
      accuracy (how often it is the class; an `Interval` as a dict), num_images, num_groups.
    """
    confidences, is_correct = _confidences(logits, cohort, of_class)
    bins = confidence_bins(confidences, num_bins)
    in_bin = np.eye(int(bins.max()) + 1)[bins]
    right = in_bin * is_correct[:, None]
    drawn = bootstrap.resample(lambda weights: ratio(weights @ right, weights @ in_bin), cohort)
    result = []
    for b, members in enumerate(in_bin.T.astype(bool)):
        num_groups = np.unique(cohort.groups[members]).size
        accuracy = bootstrap.interval(float(is_correct[members].mean()), drawn[:, b], num_groups)
        counts = {"num_images": int(members.sum()), "num_groups": num_groups}
        result.append({"confidence": float(confidences[members].mean()), "accuracy": accuracy.to_json(), **counts})
    return result


def expected_calibration_error(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, num_bins: int | None = None, of_class: int | None = None
) -> dict[str, Any]:
    """Mean distance between confidence and accuracy over the bins of `confidence_bins`.

    By default of the predicted class (top label). With `of_class`, of that class's probability, whatever is predicted:
    a lean to one of two classes that cancels in the top label shows there.

    The percentile interval of other metrics will not do: a resample is noisier than the sample, so its ECE is larger,
    and that of a calibrated model lies wholly above the truth. The lower bound here is the ECE less what resampling
    groups alone can make of gaps that are not there (a quantile of sum |gap* - gap|), and 0 where that is all; the
    upper bound is the percentile less the mean excess of the resampled ECE over the ECE.

    Returns:
      value, low, high; num_bins; expected_if_calibrated: the mean ECE of a model with these confidences that is
      perfectly calibrated, images independent (with several images per person it would be somewhat more), simulated
      with the bootstrap's seed.

    Source: Guo et al., ICML 2017, equation 3, with bins of equal mass as Nixon et al., Measuring Calibration in Deep
    Learning, CVPR Workshops 2019.
    """
    confidences, is_correct = _confidences(logits, cohort, of_class)
    bins = confidence_bins(confidences, num_bins)
    in_bin = np.eye(int(bins.max()) + 1)[bins]
    excess = in_bin * (confidences - is_correct)[:, None]
    gaps = excess.mean(axis=0)
    value = float(np.abs(gaps).sum())
    low = high = None
    if bootstrap.num_resamples and cohort.num_groups > 1:
        drawn = bootstrap.resample(lambda weights: weights @ excess / weights.sum(axis=1)[:, None], cohort)
        errors, noise = np.abs(drawn).sum(axis=1), np.abs(drawn - gaps).sum(axis=1)
        upper = (1 + bootstrap.confidence) / 2
        low = max(0.0, value - float(np.quantile(noise, upper)))
        high = min(1.0, max(value, float(np.quantile(errors, upper) - errors.mean()) + value))
    rng = np.random.default_rng(bootstrap.seed)
    by_chance = []
    for _ in range(NUM_SIMULATIONS):
        is_right = rng.random(len(bins)) < confidences
        by_chance.append(np.abs(np.bincount(bins, confidences - is_right)).sum() / len(bins))
    calibrated = {"num_bins": in_bin.shape[1], "expected_if_calibrated": float(np.mean(by_chance))}
    return Interval(value, low, high).to_json() | calibrated


def calibration_report(
    logits: Logits, cohort: Cohort, bootstrap: Bootstrap, method: str = "temperature"
) -> dict[str, Any]:
    """Calibration before and after cross-fitting, and the calibration to use on new images.

    Args as `cross_fitted_calibration` and `expected_calibration_error`.

    Returns:
      A dict that JSON can hold: method, num_images, num_groups; before and after, each with log_loss, brier,
      ece, bins and confidence_counts (images by confidence, in `HISTOGRAM_BARS` steps from 0 to 1), all of the
      predicted class, and for two classes also of_class: name, ece and bins of the second one; gain (before less
      after, paired, of log_loss and brier; positive is better); final and folds, for `Calibration.from_json`;
      temperature of the final one (None for other methods); is_at_bound: it is one of `TEMPERATURE_RANGE`, so the
      best one was not found; note, one line.
    """
    calibrated, by_fold, final = cross_fitted_calibration(logits, cohort, method)
    result: dict[str, Any] = {"method": method, "num_images": len(cohort), "num_groups": cohort.num_groups}
    result |= before_and_after(logits, calibrated, cohort, bootstrap)
    for when, values in (("before", logits), ("after", calibrated)):
        counts = np.histogram(_confidences(values, cohort)[0], HISTOGRAM_BARS, (0, 1))[0].tolist()
        result[when] |= {"bins": reliability_bins(values, cohort, bootstrap), "confidence_counts": counts}
        if values.shape[1] == 2:
            result[when]["of_class"] = {
                "name": (cohort.class_names or ("0", "1"))[1],
                "ece": expected_calibration_error(values, cohort, bootstrap, of_class=1),
                "bins": reliability_bins(values, cohort, bootstrap, of_class=1),
            }
    return result | {
        "final": final.to_json(),
        "folds": {str(fold): calibration.to_json() for fold, calibration in by_fold.items()},
        "temperature": final.temperature,
        "is_at_bound": final.is_at_bound,
        "note": "each fold calibrated by the other folds; ECE is above zero by chance alone, compare it with "
        "expected_if_calibrated",
    }


def before_and_after(
    logits: Logits, calibrated: Logits, cohort: Cohort, bootstrap: Bootstrap
) -> dict[str, dict[str, Any]]:
    """How far off probabilities are, [N, K], and calibrated ones, by a calibration that was fitted on other images.

    Returns:
      before and after, each with log_loss, brier, ece; gain: before less after, paired, of log_loss and brier.
    """
    result: dict[str, dict[str, Any]] = {"before": {}, "after": {}, "gain": {}}
    losses = {}
    for when, values in (("before", logits), ("after", calibrated)):
        result[when]["ece"] = expected_calibration_error(values, cohort, bootstrap)
        losses[when] = np.stack(
            [image_log_losses(values, cohort.labels), image_brier_scores(values, cohort.labels)], axis=1
        )
    losses["gain"] = losses["before"] - losses["after"]
    support = Support(cohort.effective_groups())
    for when, values in losses.items():
        scale: Scale = "difference" if when == "gain" else "positive"
        drawn = bootstrap.resample(functools.partial(weighted_mean, values=values), cohort)
        for i, name in enumerate(("log_loss", "brier")):
            mean = float(values[:, i].mean())
            bounds = resampled_bounds(mean, drawn[:, i], bootstrap.confidence, support, scale)
            result[when][name] = Interval(mean, *bounds).to_json()
    return result


def _confidences(
    logits: Logits, cohort: Cohort, of_class: int | None = None
) -> tuple[PerImage, Bool[np.ndarray, " n"]]:
    """Probability of the predicted class of each image, or of one class, and whether it is the image's."""
    logits = cohort.check(logits)
    probabilities = np.exp(log_softmax(logits))
    if of_class is None:
        return probabilities.max(axis=1), logits.argmax(axis=1) == cohort.labels
    return probabilities[:, of_class], cohort.labels == of_class
