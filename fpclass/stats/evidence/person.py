"""What pooling a person's images is worth: scores per image, per image after pooling, and per person, paired."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpclass.stats.bounds import is_within_classes, resampled_bounds, scale_of, support_of
from fpclass.stats.cohort import Cohort, Rows
from fpclass.stats.draws import Weights
from fpclass.stats.evidence.pooling import (
    Codes,
    Pooling,
    independent_sum,
    make_pooling,
)
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits
from fpclass.stats.weighted_metrics import OVERALL_METRICS, make_weighted_metrics

Scores = dict[str, dict[str, Any]]


def why_no_people(cohort: Cohort, people: Codes) -> str:
    """Why images cannot be judged by person; "" where they can. `people` is of each image."""
    if int(people.max(initial=-1)) + 1 == len(cohort):
        return "no person has more than one image, as far as the data say (data.group_column, data.group_pattern)"
    torn = num_torn(cohort.labels, people)
    if torn:
        return f"{torn} of {people.max() + 1} people have images of several classes, so that a person has no class"
    if num_torn(cohort.folds, people):
        return "a person's images are in several folds (split.grouped=False), so that nobody judges a whole person"
    return ""


def num_torn(values: np.ndarray, people: Codes) -> int:
    """How many people have images of more than one value."""
    pairs = np.unique(np.stack([people, values]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())


def cohort_of_people(cohort: Cohort, people: Codes) -> Cohort:
    """The people as a cohort, in order of appearance; resamples draw the same groups as those of their images."""
    first = np.unique(people, return_index=True)[1]
    return cohort.take(first).with_folds(cohort.folds[first])


def cross_fitted_pooling(
    log_probabilities: Logits, cohort: Cohort, people: Codes, method: str, fitted_on: str = ""
) -> tuple[Logits, Pooling]:
    """Pools each fold's people by what was fitted on the others; images' log-probabilities [N, K], and the final one.

    Raises:
      DataError: there are not two folds.
    """

    def fit(rows: Rows) -> Pooling:
        return make_pooling(method, log_probabilities[rows], cohort.labels[rows], renumbered(people[rows]), fitted_on)

    def apply(pooling: Pooling, rows: Rows) -> Logits:
        return pooling.apply(log_probabilities[rows], renumbered(people[rows]))

    pooled, _, final = cohort.cross_fit(fit, apply, np.empty_like(log_probabilities, np.float64))
    return pooled, final


def renumbered(people: Codes) -> Codes:
    """The people of some rows, numbered 0, 1, … in the order that they had."""
    return np.unique(people, return_inverse=True)[1]


def person_report(
    log_probabilities: Logits,
    pooled: Logits,
    cohort: Cohort,
    people: Codes,
    bootstrap: Bootstrap,
    *,
    has_sum: bool = True,
) -> dict[str, Any]:
    """Scores of images [N, K], of the same images pooled by person, and of the people; all from the same resamples.

    Args:
      has_sum: also judge the sum, whose class shares are those of these images: not where nothing may be fitted.

    Returns:
      num_images, num_people, images_per_person (mean); per_image, per_image_pooled, per_person (by metric {"value",
      "low", "high"}); gain: per_image_pooled less per_image; gain_of_people: per_person less per_image; and by_sum, the
      people again where their images are taken for independent: accuracy, log_loss.
    """
    of_people = cohort_of_people(cohort, people)
    first = np.unique(people, return_index=True)[1]
    result: dict[str, Any] = {
        "num_images": len(cohort),
        "num_people": len(of_people),
        "images_per_person": len(cohort) / len(of_people),
    }
    judged = {
        "per_image": (log_probabilities, cohort),
        "per_image_pooled": (pooled, cohort),
        "per_person": (pooled[first], of_people),
    }
    if has_sum:
        summed = independent_sum(log_probabilities, cohort.labels, people).of_people(log_probabilities, people)
        judged["by_sum"] = (summed, of_people)
    result |= {name: {} for name in (*judged, "gain", "gain_of_people")}
    for within in (False, True):
        metrics = [metric for metric in OVERALL_METRICS if is_within_classes(metric) == within]
        drawn = {name: _drawn(*of, metrics, bootstrap, within) for name, of in judged.items()}
        for name, better in (("gain", "per_image_pooled"), ("gain_of_people", "per_person")):
            points, values = (drawn[better][i] - drawn["per_image"][i] for i in (0, 1))
            drawn[name] = points, values
        for name, (points, values) in drawn.items():
            for i, metric in enumerate(metrics):
                scale = scale_of(metric)
                if name.startswith("gain"):
                    scale = "proportions" if metric == "accuracy" else "difference"
                support = support_of(metric, judged[name][1] if name in judged else of_people)
                bounds = resampled_bounds(points[i], values[:, i], bootstrap.confidence, support, scale)
                value = None if np.isnan(points[i]) else float(points[i])
                result[name][metric] = Interval(value, *bounds).to_json()
    if has_sum:
        result["by_sum"] = {metric: result["by_sum"][metric] for metric in ("accuracy", "log_loss")}
    return result


def _drawn(
    logits: Logits, cohort: Cohort, metrics: list[str], bootstrap: Bootstrap, within: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The metrics [M] and their resampled values [B, M]."""
    evaluate = make_weighted_metrics(logits, cohort.labels, metrics)

    def stacked(weights: Weights) -> np.ndarray:
        values = evaluate(weights)
        return np.stack([values[metric] for metric in metrics], axis=1)

    return stacked(np.ones((1, len(cohort))))[0], bootstrap.resample(stacked, cohort, within_classes=within)
