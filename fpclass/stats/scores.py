"""How good one config is: the score of its members, with an interval that resamples groups.

All configs of a study predict the same N labelled images in the same F folds of people. A member is one training:
(fold, seed); it scores on the images of its own fold, whose people it never saw. On a split that was there before, F is
1: all members learn from its training images, and score on all of its validation images. What is estimated is

    the score of one training of this config on a study's training share of people, on new people like these,

by the mean over the members. Its bootstrap draws people, because a person's images are alike, and seeds where there
are several, so that the noise of training is in the interval. It takes the trained members as given: what another
training set of people would have changed is not in it, so the interval is too narrow where there are few people for
what is to be learnt: in the simulations of tests/stats/test_comparison.py nominal 95 % covers 85 to 93 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fpclass.stats.cohort import Cohort, Folds
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval, num_groups_behind
from fpclass.stats.metrics import ratio
from fpclass.stats.weighted_metrics import LOWER_IS_BETTER, make_weighted_metrics, metric_value

SeedLogits = Float[np.ndarray, "s n k"]
"""Unnormalised log-probabilities of S seeds: each image's by the member whose fold holds it; finite."""

NEGLIGIBLE = 1e-12
"""Differences of scores below this are rounding."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How good one config is: mean over members (folds x seeds), with its bootstrap interval, and standard deviation.

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
      difference: random minus grouped, with its bootstrap interval; negative for a leak in log-loss and Brier score.
    """

    random: float | None
    grouped: float | None
    difference: Interval

    def record(self) -> dict[str, float | None]:
        """What results.json holds."""
        difference, low, high = dataclasses.astuple(self.difference)
        return {"random": self.random, "grouped": self.grouped, "difference": difference, "low": low, "high": high}


def member_scores(logits: SeedLogits, cohort: Cohort, metric: str) -> Float[np.ndarray, "f s"]:
    """The metric of each member on its own fold [F, S]; nan where undefined.

    Raises:
      DataError: a logit is not finite or a label out of range.
      ValueError: shapes do not agree, or the metric is unknown.
    """
    logits, rows_of_fold = _by_fold(logits, cohort)
    return np.array(
        [[metric_value(of_seed[rows], cohort.labels[rows], metric) for of_seed in logits] for rows in rows_of_fold]
    )


def resampled_fold_scores(
    logits: SeedLogits, cohort: Cohort, metric: str, bootstrap: Bootstrap, *, draws_seeds: bool = True
) -> Float[np.ndarray, "b f"]:
    """Bootstrap replicates of each fold's score, the mean over its seeds [B, F]; errors as `member_scores`.

    A replicate draws as many groups as there are, over all folds at once, and where there is more than one seed also
    S of the S seeds, the same ones in every fold; without `draws_seeds` every seed counts once. The draws depend on the
    groups, S and the bootstrap's seed alone: replicates of configs of one study are paired. nan where the metric is
    undefined in that resample of the fold.
    """
    return _resample(logits, cohort, [metric], bootstrap, draws_seeds=draws_seeds)[metric]


def _resample(
    logits: SeedLogits, cohort: Cohort, metrics: Sequence[str], bootstrap: Bootstrap, *, draws_seeds: bool = True
) -> dict[str, Float[np.ndarray, "b f"]]:
    """`resampled_fold_scores` of several metrics, from the same resamples."""
    logits, rows_of_fold = _by_fold(logits, cohort)
    members = [
        [make_weighted_metrics(of_seed[rows], cohort.labels[rows], metrics) for of_seed in logits]
        for rows in rows_of_fold
    ]

    def evaluate(weights: np.ndarray) -> Float[np.ndarray, "b m f s"]:
        of_folds = []
        for rows, evaluators in zip(rows_of_fold, members, strict=True):
            of_fold = [of_seed(weights[:, rows]) for of_seed in evaluators]
            values = [np.stack([of_seed[metric] for of_seed in of_fold], axis=1) for metric in metrics]
            of_folds.append(np.stack(values, axis=1))
        return np.stack(of_folds, axis=2)

    num_seeds = len(logits)
    times_drawn = np.random.default_rng([bootstrap.seed, num_seeds]).multinomial(
        num_seeds, np.full(num_seeds, 1 / num_seeds), size=bootstrap.num_resamples
    )
    shares = times_drawn / num_seeds if draws_seeds else np.full(times_drawn.shape, 1 / num_seeds)
    drawn = np.moveaxis(bootstrap.resample(evaluate, cohort), 1, 0)
    return {m: np.einsum("bfs,bs->bf", of_m.copy(), shares) for m, of_m in zip(metrics, drawn, strict=True)}


def resampled_scores(
    logits: SeedLogits, cohort: Cohort, metric: str, bootstrap: Bootstrap, *, draws_seeds: bool = True
) -> Float[np.ndarray, " b"]:
    """Bootstrap replicates of a config's score, the mean over its members, [B]; as `resampled_fold_scores`.

    Members whose metric is undefined in a resample are left out of its mean; nan where all are.
    """
    # Whether a metric is defined depends on the weights and labels, not on the logits: all seeds of a fold or none.
    return mean_of_defined(resampled_fold_scores(logits, cohort, metric, bootstrap, draws_seeds=draws_seeds))


def score_config(logits: SeedLogits, cohort: Cohort, metric: str, bootstrap: Bootstrap) -> Score:
    """Mean and standard deviation over members, with the interval of the mean; as `resampled_fold_scores`."""
    return score_config_by(logits, cohort, [metric], bootstrap)[metric]


def score_config_by(
    logits: SeedLogits, cohort: Cohort, metrics: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Score]:
    """`score_config` by several metrics, from the same resamples."""
    resampled, result = _resample(logits, cohort, metrics, bootstrap), {}
    for metric in metrics:
        scores, replicates = member_scores(logits, cohort, metric), mean_of_defined(resampled[metric])
        defined = scores[~np.isnan(scores)]
        mean = float(defined.mean()) if defined.size else math.nan
        result[metric] = Score(
            mean=score_interval(mean, replicates, cohort, metric, bootstrap),
            sd=float(defined.std(ddof=1)) if defined.size > 1 else None,
            num_members=scores.size,
        )
    return result


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
    person-grouped folds of the cohort, whose groups are drawn for both at once.
    """
    points, replicates = [], []
    for logits, of_folds in ((random_logits, cohort.with_folds(random_folds)), (grouped_logits, cohort)):
        points.append(float(mean_of_defined(member_scores(logits, of_folds, metric).ravel())))
        replicates.append(resampled_scores(logits, of_folds, metric, bootstrap))
    difference = score_interval(
        points[0] - points[1], replicates[0] - replicates[1], cohort, metric, bootstrap, is_difference=True
    )
    random, grouped = (None if math.isnan(point) else point for point in points)
    return Inflation(random, grouped, difference)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not nan; nan where nothing is."""
    return ratio(np.nansum(values, axis=-1), np.asarray((~np.isnan(values)).sum(axis=-1)))


def score_interval(
    value: float,
    replicates: Float[np.ndarray, " b"],
    cohort: Cohort,
    metric: str,
    bootstrap: Bootstrap,
    is_difference: bool = False,
) -> Interval:
    """A score, or a difference of scores, with its interval by the rules of `fpclass.stats.intervals`.

    Value and replicates are nan where undefined. The rules for proportions do not apply to a difference.
    """
    is_proportion = metric not in LOWER_IS_BETTER and not is_difference
    return bootstrap.interval(value, replicates, num_groups_behind(metric, cohort), is_proportion)


def _by_fold(logits: SeedLogits, cohort: Cohort) -> tuple[SeedLogits, list[Int[np.ndarray, " n"]]]:
    """The logits as float64 and the images of each fold; refuses shapes that do not belong together."""
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 3 or not len(logits) or not logits.shape[1] == len(cohort) > 0:
        raise ValueError(f"logits {logits.shape} are not [S, N, K] of a cohort of {len(cohort)} images")
    return logits, [np.flatnonzero(cohort.folds == fold) for fold in range(cohort.num_folds)]
