"""How good one config is: the score of its members, with an interval that resamples groups.

All configs of a study predict the same N labelled images in the same F folds of people. A member is one training:
(fold, seed); it scores on the images of its own fold, whose people it never saw. On a split that was there before, F is
1: all members learn from its training images, and score on all of its validation images. What is estimated is

    the score of one training of this config on a study's training share of people, on new people like these,

by the mean over the members. Two things make it err, and its interval holds both: other people would have been
tested, and another training would have come out otherwise. With v the variance over people (the bootstrap's, which
takes the trained members as given), s^2 the variance of the F folds' scores and s_f^2 that of the S seeds of a fold,

    squared standard error = F / (F - 1) v + max(noise, s^2 / F - v),   noise = sum_f s_f^2 / S / F^2

with one seed noise is 0, and the folds alone tell of it. The factor allows for the people of a study having trained its
members too. Student's t with people - F / 2 degrees of freedom where people are the error, F (S - 1) where seeds are,
F - 1 where folds are (Satterthwaite between the first two), on the scale of log-odds for a proportion. Simulated from 6
to 300 people, 1 to 5 seeds, `tests/stats/comparison/test_coverage.py`: docs/statistics.md.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.stats.bounds import (
    MIN_DEFINED,
    NEGLIGIBLE,
    Support,
    has_bounds,
    is_within_classes,
    scale_of,
    shared_training,
    support_of,
    t_bounds,
)
from fpclass.stats.cohort import Cohort, Folds
from fpclass.stats.draws import Weights
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval
from fpclass.stats.metrics import ratio
from fpclass.stats.weighted_metrics import make_weighted_metrics, metric_values

SeedLogits = Float[np.ndarray, "s n k"]
"""Unnormalised log-probabilities of S seeds: each image's by the member whose fold holds it; finite."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How good one config is: mean over members (folds x seeds), with its interval, and standard deviation.

    None where undefined.
    """

    mean: Interval = UNDEFINED
    sd: float | None = None
    num_members: int | None = None

    def record(self) -> dict[str, float | int | None]:
        """Its columns of study.csv."""
        mean = self.mean
        return {"mean": mean.value, "sd": self.sd, "low": mean.low, "high": mean.high, "num_members": self.num_members}


@dataclasses.dataclass(frozen=True)
class Inflation:
    """What image-random folds claim above person-grouped ones, in units of the metric. None where undefined.

    Attributes:
      random: mean score with folds that split people.
      grouped: mean score with folds that keep them together.
      difference: random minus grouped, with its interval; negative for a leak in log-loss and Brier score.
    """

    random: float | None
    grouped: float | None
    difference: Interval

    def record(self) -> dict[str, float | None]:
        """What results.json holds."""
        difference, low, high = dataclasses.astuple(self.difference)
        return {"random": self.random, "grouped": self.grouped, "difference": difference, "low": low, "high": high}


@dataclasses.dataclass(frozen=True)
class Resampled:
    """The scores of a config's members by one metric, and what they are when people are drawn anew.

    A resample draws as many groups as there are, over all folds at once; the trained members stay as they are. The
    draws depend on the groups, the labels and the bootstrap's seed alone: those of configs of one study are paired.

    Attributes:
      cohort: whom the members judge.
      confidence: coverage of intervals, in (0, 1).
      members: score of each member on its own fold [F, S]; nan where undefined.
      folds: score of each fold, the mean over its seeds, in each resample [B, F]; nan where undefined.
    """

    cohort: Cohort
    metric: str
    confidence: float
    members: Float[np.ndarray, "f s"]
    folds: Float[np.ndarray, "b f"]

    @functools.cached_property
    def replicates(self) -> Float[np.ndarray, " b"]:
        """The score in each resample: the mean over the members where it is defined; nan where it is nowhere."""
        # Whether a metric is defined depends on the weights and labels, not on the logits: all seeds of a fold or none.
        return mean_of_defined(self.folds)

    @functools.cached_property
    def score(self) -> Score:
        """Mean and standard deviation over members, with the interval of the mean."""
        defined = self.members[~np.isnan(self.members)]
        return Score(
            mean=mean_interval(self.members, self.replicates, self.cohort, self.metric, self.confidence),
            sd=float(defined.std(ddof=1)) if defined.size > 1 else None,
            num_members=self.members.size,
        )


def member_scores(logits: SeedLogits, cohort: Cohort, metric: str) -> Float[np.ndarray, "f s"]:
    """The metric of each member on its own fold [F, S]; nan where undefined.

    Raises:
      DataError: a logit is not finite or a label out of range.
      ValueError: shapes do not agree, or the metric is unknown.
    """
    return member_scores_by(logits, cohort, [metric])[metric]


def member_scores_by(logits: SeedLogits, cohort: Cohort, metrics: Sequence[str]) -> dict[str, Float[np.ndarray, "f s"]]:
    """`member_scores` by several metrics."""
    logits, rows_of_fold = _by_fold(logits, cohort)
    values = np.empty((len(metrics), len(rows_of_fold), len(logits)))
    for fold, rows in enumerate(rows_of_fold):
        for seed, of_seed in enumerate(logits):
            values[:, fold, seed] = metric_values(of_seed[rows], cohort.labels[rows], metrics)
    return dict(zip(metrics, values, strict=True))


def resample_scores(logits: SeedLogits, cohort: Cohort, metric: str, bootstrap: Bootstrap) -> Resampled:
    """The scores of a config, and of all resamples; errors as `member_scores`."""
    return resample_scores_by(logits, cohort, [metric], bootstrap)[metric]


def resample_configs(
    logits: Mapping[str, SeedLogits], cohort: Cohort, metric: str, bootstrap: Bootstrap
) -> dict[str, Resampled]:
    """`resample_scores` of each config by name, whose numbers of seeds may differ."""
    return {name: resample_scores(of_config, cohort, metric, bootstrap) for name, of_config in logits.items()}


def resample_scores_by(
    logits: SeedLogits, cohort: Cohort, metrics: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Resampled]:
    """`resample_scores` by several metrics, from the same resamples."""
    points = member_scores_by(logits, cohort, metrics)
    logits, rows_of_fold = _by_fold(logits, cohort)
    found = {}
    for within in (False, True):
        drawn_so = [metric for metric in metrics if is_within_classes(metric) == within]
        if not drawn_so:
            continue
        members = [
            [make_weighted_metrics(of_seed[rows], cohort.labels[rows], drawn_so) for of_seed in logits]
            for rows in rows_of_fold
        ]

        def evaluate(weights: Weights, members: Any = members, drawn_so: Any = drawn_so) -> Float[np.ndarray, "b m f"]:
            of_folds = []
            for rows, evaluators in zip(rows_of_fold, members, strict=True):
                inside = weights[:, rows]
                of_fold = [of_seed(inside) for of_seed in evaluators]
                values = [np.mean([of_seed[metric] for of_seed in of_fold], axis=0) for metric in drawn_so]
                of_folds.append(np.stack(values, axis=1))
            return np.stack(of_folds, axis=2)

        drawn = bootstrap.resample(evaluate, cohort, within_classes=within)
        for m, metric in enumerate(drawn_so):
            found[metric] = Resampled(cohort, metric, bootstrap.confidence, points[metric], drawn[:, m])
    return found


def score_config(logits: SeedLogits, cohort: Cohort, metric: str, bootstrap: Bootstrap) -> Score:
    """Mean and standard deviation over members, with the interval of the mean; errors as `member_scores`."""
    return resample_scores(logits, cohort, metric, bootstrap).score


def mean_interval(
    scores: Float[np.ndarray, "f s"],
    replicates: Float[np.ndarray, " b"],
    cohort: Cohort,
    metric: str,
    confidence: float,
    choosing: float = 1.0,
) -> Interval:
    """The mean of members' scores, with the interval that the head of this module describes; nan where undefined.

    `choosing` is by how much a choice among configs widens the variance (`selection.variance_of_choosing`).
    """
    value = float(mean_of_defined(scores.ravel()))
    support = support_of(metric, cohort, cohort.num_folds)
    of_people = group_variance(replicates)
    if math.isnan(value) or of_people is None or support.groups < 2:
        return Interval(None if math.isnan(value) else value)
    scale = scale_of(metric)
    noise = training_noise(scores, of_people * support.correction, floor=True)
    noise = dataclasses.replace(noise, variance=noise.variance * choosing)
    widening = max(shared_training(len(scores)), choosing)
    variance, degrees_of_freedom = sum_of_errors(of_people * support.correction * widening, support, [noise])
    if scale == "proportion" and (value in (0, 1) or variance < NEGLIGIBLE**2):
        return Interval(value, *support.extreme_bounds(value, confidence))
    if variance < NEGLIGIBLE**2 and not has_bounds(scale):
        return Interval(value)
    return Interval(value, *t_bounds(value, math.sqrt(variance), degrees_of_freedom, confidence, scale))


def group_variance(replicates: Float[np.ndarray, " b"]) -> float | None:
    """Variance of the replicates that are defined; None where too few are (`bounds.MIN_DEFINED`)."""
    defined = replicates[~np.isnan(replicates)]
    return float(defined.var()) if len(defined) and len(defined) >= MIN_DEFINED * len(replicates) else None


@dataclasses.dataclass(frozen=True)
class Noise:
    """What the noise of training adds to the variance of a mean over members.

    Attributes:
      is_all: whether the degrees of freedom are those of the whole variance: folds tell of people and noise at once.
    """

    variance: float
    degrees_of_freedom: float
    is_all: bool = False


def training_noise(scores: Float[np.ndarray, "f s"], of_people: float, *, floor: bool = False) -> Noise:
    """The noise of training in the mean of scores, or of paired differences of scores, [F, S]; nan is left out.

    Of several seeds it is what they differ by within the folds; of one, what the folds differ by beyond the variance
    of their mean over people, `of_people`. With `floor` that excess counts with several seeds too, where it is larger:
    few people in many folds have next to no variance within them. One seed on one split tells nothing: 0.
    """
    num_seeds = scores.shape[1]
    of_folds = scores.mean(axis=1)
    of_folds = of_folds[~np.isnan(of_folds)]
    noise = Noise(0.0, math.inf)
    if num_seeds > 1 and len(of_folds):
        within = scores[~np.isnan(scores).any(axis=1)].var(axis=1, ddof=1)
        noise = Noise(float(within.sum()) / num_seeds / len(of_folds) ** 2, len(of_folds) * (num_seeds - 1))
    if (num_seeds == 1 or floor) and len(of_folds) > 1:
        excess = float(of_folds.var(ddof=1)) / len(of_folds) - of_people
        if excess > noise.variance:
            noise = Noise(excess, len(of_folds) - 1, is_all=True)
    return noise


def sum_of_errors(of_people: float, support: Support, noises: Sequence[Noise]) -> tuple[float, float]:
    """A sum of variances, people's and noises of training, and its degrees of freedom.

    Those of Satterthwaite, Biometrics Bulletin 2 (1946) 110-114; but where folds tell of people and noise at once, the
    sum is as uncertain as they are.
    """
    parts = [(of_people, support.degrees_of_freedom), *((n.variance, n.degrees_of_freedom) for n in noises)]
    variance = sum(part for part, _ in parts)
    uncertainty = sum(part**2 / freedom for part, freedom in parts)
    degrees_of_freedom = variance**2 / uncertainty if uncertainty else support.degrees_of_freedom
    return variance, min([degrees_of_freedom, *(n.degrees_of_freedom for n in noises if n.is_all)])


def inflation(
    random_logits: SeedLogits,
    random_folds: Folds,
    grouped_logits: SeedLogits,
    cohort: Cohort,
    metric: str,
    bootstrap: Bootstrap,
) -> Inflation:
    """What a config's score gains when a person's images fall on both sides of a split.

    `random_logits` are of members of the image-random folds `random_folds`, `grouped_logits` of members of the
    person-grouped folds of the cohort, whose groups are drawn for both at once. The variance is the verdict's
    (`verdicts.fold_t_test`), with the noise of both trainings.
    """
    support = support_of(metric, cohort, cohort.num_folds)
    points, replicates, noises = [], [], []
    for logits, of_folds in ((random_logits, cohort.with_folds(random_folds)), (grouped_logits, cohort)):
        drawn = resample_scores(logits, of_folds, metric, bootstrap)
        points.append(float(mean_of_defined(drawn.members.ravel())))
        replicates.append(drawn.replicates)
        noises.append(training_noise(drawn.members, (group_variance(drawn.replicates) or 0.0) * support.correction))
    random, grouped = (None if math.isnan(point) else point for point in points)
    difference, of_people = points[0] - points[1], group_variance(replicates[0] - replicates[1])
    if math.isnan(difference) or of_people is None or support.groups < 2:
        return Inflation(random, grouped, Interval(None if math.isnan(difference) else difference))
    of_people *= support.correction * overlap_of(cohort.num_folds)
    variance, degrees_of_freedom = sum_of_errors(of_people, support, noises)
    bounds = t_bounds(difference, math.sqrt(variance), degrees_of_freedom, bootstrap.confidence)
    return Inflation(random, grouped, Interval(difference, *bounds))


def overlap_of(num_folds: int) -> float:
    """By how much overlapping training sets widen the variance of a difference over people: 1 + F / (F - 1).

    Source: Nadeau and Bengio, Machine Learning 52 (2003) 239-281: s^2 (1 / F + n_test / n_train), n_test / n_train
      being 1 / (F - 1), is s^2 / F (1 + F / (F - 1)).
    """
    return 1 + shared_training(num_folds) if num_folds > 1 else 1.0


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not nan; nan where nothing is."""
    return ratio(np.nansum(values, axis=-1), np.asarray((~np.isnan(values)).sum(axis=-1)))


def _by_fold(logits: SeedLogits, cohort: Cohort) -> tuple[SeedLogits, list[Int[np.ndarray, " n"]]]:
    """The logits as float64 and the images of each fold; refuses shapes that do not belong together."""
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 3 or not len(logits) or not logits.shape[1] == len(cohort) > 0:
        raise ValueError(f"logits {logits.shape} are not [S, N, K] of a cohort of {len(cohort)} images")
    return logits, [np.flatnonzero(cohort.folds == fold) for fold in range(cohort.num_folds)]
