"""How good one config is: the score of its members, with an interval that resamples people.

All configs of a study predict the same N labelled images in the same F folds of people. A member is one training:
(fold, seed); it scores on the images of its own fold, whose people it never saw. What is estimated is

    the score of one training of this config on a study's training share of people, on new people like these,

by the mean over the members. Its bootstrap draws people, because a person's images are alike, and seeds where there
are several, so that the noise of training is in the interval. It takes the trained members as given: what another
training set of people would have changed is not in it, so the interval is too narrow where there are few people for
what is to be learnt: in the simulations of tests/test_comparison.py nominal 95 % covers 85 to 93 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int

from fpclass.stats.intervals import (
    group_codes,
    group_resamples,
    make_weighted_metrics,
    num_groups_behind,
    percentile_interval,
)
from fpclass.stats.metrics import Labels, ratio

SeedLogits = Float[np.ndarray, "s n k"]
"""Unnormalised log-probabilities of S seeds: each image's by the member whose fold holds it; finite."""
Folds = Int[np.ndarray, " n"]
"""Fold of each image, in [0, F); every fold has images."""

LOWER_IS_BETTER = ("log_loss", "brier")
NEGLIGIBLE = 1e-12
"""Differences of scores below this are rounding."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How good one config is. None where undefined.

    Attributes:
      mean: over members (folds x seeds).
      sd: standard deviation over members.
      low: of the bootstrap interval of the mean.
      high: likewise.
      num_members: folds x seeds.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    num_members: int


@dataclasses.dataclass(frozen=True)
class Inflation:
    """What image-random folds claim above person-grouped ones, in units of the metric. None where undefined.

    Attributes:
      random: mean score with folds that split people.
      grouped: mean score with folds that keep them together.
      difference: random minus grouped; for log-loss and Brier score a leak makes it negative.
      low: of the bootstrap interval of the difference.
      high: likewise.
    """

    random: float | None
    grouped: float | None
    difference: float | None
    low: float | None
    high: float | None


def member_scores(logits: SeedLogits, labels: Labels, folds: Folds, metric: str) -> Float[np.ndarray, "f s"]:
    """The metric of each member on its own fold.

    Args:
      logits: [S, N, K]; finite.
      labels: class index of each image [N], in [0, K).
      folds: fold of each image [N].
      metric: one of `fpclass.stats.intervals.OVERALL_METRICS`.

    Returns:
      [F, S]; nan where undefined.

    Raises:
      DataError: a logit is not finite or a label out of range.
      ValueError: shapes do not agree, a fold is empty, or the metric is unknown.
    """
    logits, labels, folds = _check(logits, labels, folds)
    scores = np.empty((int(folds.max()) + 1, len(logits)))
    for fold in range(len(scores)):
        rows = np.flatnonzero(folds == fold)
        everyone_once = np.ones((1, len(rows)))
        for s, of_seed in enumerate(logits):
            scores[fold, s] = make_weighted_metrics(of_seed[rows], labels[rows], [metric])(everyone_once)[metric][0]
    return scores


def resampled_fold_scores(
    logits: SeedLogits,
    labels: Labels,
    folds: Folds,
    units: Sequence[Hashable],
    metric: str,
    *,
    num_resamples: int,
    seed: int = 0,
) -> Float[np.ndarray, "b f"]:
    """Bootstrap replicates of each fold's score, the mean over its seeds.

    A replicate draws as many people as there are, over all folds at once, and where there is more than one seed also
    S of the S seeds, the same ones in every fold. The draws depend on the people, S and `seed` alone: replicates of
    configs of one study are paired.

    Args:
      logits: [S, N, K]; finite.
      labels: class index of each image [N].
      folds: fold of each image [N].
      units: what is drawn, the person of each image [N]; "" makes the image a unit of its own.
      metric: one of `fpclass.stats.intervals.OVERALL_METRICS`.
      num_resamples: how many replicates, B.
      seed: of the drawing.

    Returns:
      [B, F]; nan where the metric is undefined in that resample of the fold.

    Raises:
      As `member_scores`.
    """
    logits, labels, folds = _check(logits, labels, folds)
    codes = group_codes(units)
    if len(codes) != len(labels):
        raise ValueError(f"{len(codes)} units for {len(labels)} images")
    rows_of_fold = [np.flatnonzero(folds == fold) for fold in range(int(folds.max()) + 1)]
    members = [
        [make_weighted_metrics(of_seed[rows], labels[rows], [metric]) for of_seed in logits] for rows in rows_of_fold
    ]
    num_seeds = len(logits)
    chunks = [np.empty((0, len(rows_of_fold), num_seeds))]
    for weights in group_resamples(codes, num_resamples, seed):
        columns = []
        for rows, evaluators in zip(rows_of_fold, members, strict=True):
            fold_weights = weights[:, rows]
            columns.append(np.stack([evaluate(fold_weights)[metric] for evaluate in evaluators], axis=1))
        chunks.append(np.stack(columns, axis=1))
    times_drawn = np.random.default_rng([seed, num_seeds]).multinomial(
        num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_resamples
    )
    return np.einsum("bfs,bs->bf", np.concatenate(chunks), times_drawn / num_seeds)


def resampled_scores(
    logits: SeedLogits,
    labels: Labels,
    folds: Folds,
    units: Sequence[Hashable],
    metric: str,
    *,
    num_resamples: int,
    seed: int = 0,
) -> Float[np.ndarray, " b"]:
    """Bootstrap replicates of a config's score, the mean over its members, [B]; as `resampled_fold_scores`.

    Members whose metric is undefined in a resample are left out of its mean; nan where all are.
    """
    # Whether a metric is defined depends on the weights and labels, not on the logits: all seeds of a fold or none.
    return mean_of_defined(
        resampled_fold_scores(logits, labels, folds, units, metric, num_resamples=num_resamples, seed=seed)
    )


def score_config(
    logits: SeedLogits,
    labels: Labels,
    folds: Folds,
    units: Sequence[Hashable],
    metric: str,
    *,
    num_resamples: int,
    confidence: float,
    seed: int = 0,
) -> Score:
    """Mean and standard deviation over members, with the percentile interval of the mean.

    Args and Raises:
      As `resampled_fold_scores`; confidence: coverage of the interval, in (0, 1).
    """
    scores = member_scores(logits, labels, folds, metric)
    defined = scores[~np.isnan(scores)]
    replicates = resampled_scores(logits, labels, folds, units, metric, num_resamples=num_resamples, seed=seed)
    low, high = score_interval(replicates, labels, units, metric, confidence)
    return Score(
        mean=float(defined.mean()) if defined.size else None,
        sd=float(defined.std(ddof=1)) if defined.size > 1 else None,
        low=low,
        high=high,
        num_members=scores.size,
    )


def inflation(
    random_logits: SeedLogits,
    random_folds: Folds,
    grouped_logits: SeedLogits,
    grouped_folds: Folds,
    labels: Labels,
    units: Sequence[Hashable],
    metric: str,
    *,
    num_resamples: int,
    confidence: float,
    seed: int = 0,
) -> Inflation:
    """What a config's score gains when a person's images fall on both sides of a split.

    Args:
      random_logits: [S, N, K] of members of image-random folds.
      random_folds: those folds [N].
      grouped_logits: [S, N, K] of members of person-grouped folds.
      grouped_folds: those folds [N].
      labels: class index of each image [N].
      units: the person of each image [N]; drawn for both at once.
      metric: one of `fpclass.stats.intervals.OVERALL_METRICS`.
      num_resamples: of the bootstrap.
      confidence: of the interval, in (0, 1).
      seed: of the bootstrap.

    Returns:
      Both scores and their difference with its interval.

    Raises:
      As `member_scores`.
    """
    points, replicates = [], []
    for logits, folds in ((random_logits, random_folds), (grouped_logits, grouped_folds)):
        points.append(float(mean_of_defined(member_scores(logits, labels, folds, metric).ravel())))
        replicates.append(
            resampled_scores(logits, labels, folds, units, metric, num_resamples=num_resamples, seed=seed)
        )
    low, high = score_interval(replicates[0] - replicates[1], labels, units, metric, confidence, is_difference=True)
    random, grouped, difference = (None if math.isnan(v) else v for v in (*points, points[0] - points[1]))
    return Inflation(random=random, grouped=grouped, difference=difference, low=low, high=high)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not nan; nan where nothing is."""
    return ratio(np.nansum(values, axis=-1), np.asarray((~np.isnan(values)).sum(axis=-1)))


def score_interval(
    replicates: Float[np.ndarray, " b"],
    labels: Labels,
    units: Sequence[Hashable],
    metric: str,
    confidence: float,
    is_difference: bool = False,
) -> tuple[float, float] | tuple[None, None]:
    """Percentile interval of a score, or of a difference of scores, by the rules of `fpclass.stats.intervals`.

    Args:
      replicates: bootstrap replicates [B]; nan where undefined.
      labels: class index of each image [N].
      units: the person of each image [N].
      metric: one of `fpclass.stats.intervals.OVERALL_METRICS`.
      confidence: coverage, in (0, 1).
      is_difference: of scores, not a score: the rules for proportions do not apply.

    Returns:
      (low, high), both None where there is no interval.
    """
    num_groups = num_groups_behind(metric, np.asarray(labels), group_codes(units))
    is_proportion = metric not in LOWER_IS_BETTER and not is_difference
    return percentile_interval(replicates, confidence, num_groups, is_proportion) or (None, None)


def _check(logits: SeedLogits, labels: Labels, folds: Folds) -> tuple[SeedLogits, Labels, Folds]:
    """Refuses shapes that do not belong together, and folds without images."""
    logits, labels, folds = np.asarray(logits, np.float64), np.asarray(labels), np.asarray(folds)
    if logits.ndim != 3 or not len(logits) or not logits.shape[1] == len(labels) == len(folds) > 0:
        raise ValueError(
            f"logits {logits.shape}, labels {labels.shape} and folds {folds.shape} are not [S, N, K], [N], [N]"
        )
    if folds.min() < 0 or not np.bincount(folds).all():
        raise ValueError(f"folds {sorted(set(folds.tolist()))} are not numbered 0, 1, … without a gap")
    return logits, labels, folds
