"""Choosing among configs, and weighting them in an ensemble, on people who do not report how good the choice is.

The best of several scores is too good: part of what made it the best is luck that new people will not repeat. Cross-
fitting takes that part away. For each fold the choice is made from the scores of the other folds' people and scored on
the people of the fold, who had no say in it; the mean over folds is what to expect of the procedure "choose the best".

The members of the other folds were trained on the people of the fold that reports, as always in cross-validation; what
is kept apart is the choosing from the reporting. So a little of the bias remains: a config that suits the people of a
fold does better elsewhere for having learnt from them. `pytest -m slow -n 0 -s tests/test_selection.py` prints
how little.

Source of the greedy ensemble: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models,
ICML 2004: forward selection with replacement, from the best model on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from fpclass.stats.intervals import make_weighted_metrics
from fpclass.stats.metrics import Labels, log_softmax
from fpclass.stats.scores import (
    LOWER_IS_BETTER,
    NEGLIGIBLE,
    Folds,
    SeedLogits,
    mean_of_defined,
    member_scores,
    resampled_fold_scores,
    score_interval,
)

LogProbabilities = Float[np.ndarray, "n k"]
"""Logarithms of probabilities that sum to 1 over the classes."""
Average = Literal["probabilities", "logits"]
"""The arithmetic mean of the probabilities, or the mean of their logarithms, normalised again."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best of several configs and what to expect of it. Bounds are None where there is no interval.

    Attributes:
      chosen: name of the config that is best on all folds, the one to use.
      chosen_per_fold: name of the config that the other folds chose for each fold, F.
      optimistic: score of the chosen config on the data that chose it.
      optimistic_low: of its bootstrap interval, which does not know of the choice.
      optimistic_high: likewise.
      cross_fitted: score of the choice on people who had no say in it.
      cross_fitted_low: of its bootstrap interval.
      cross_fitted_high: likewise.
      optimism: by how much optimistic looks better than cross_fitted; above 0 is flattery, for every metric.
    """

    chosen: str
    chosen_per_fold: tuple[str, ...]
    optimistic: float
    optimistic_low: float | None
    optimistic_high: float | None
    cross_fitted: float
    cross_fitted_low: float | None
    cross_fitted_high: float | None
    optimism: float


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A weighted average of configs and its predictions for people who had no say in the weights.

    Attributes:
      weights: of each config, summing to 1, from all folds: the ones to use.
      weights_per_fold: from the other folds, for each fold, F.
      log_probabilities: [N, K], each image's by the weights of its fold; these report how good the ensemble is.
    """

    weights: dict[str, float]
    weights_per_fold: tuple[dict[str, float], ...]
    log_probabilities: LogProbabilities


def choose(scores: Mapping[str, np.ndarray], metric: str) -> str:
    """The config with the best mean score, the first of them on a tie.

    Args:
      scores: of each config by name, any shape, for example [F, S] of its members; nan is left out.
      metric: what they are; of log-loss and Brier score the smallest is best.

    Returns:
      Its name.

    Raises:
      ValueError: there is no config, or none has a defined score.
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1
    means = {name: sign * float(mean_of_defined(np.ravel(of_config))) for name, of_config in scores.items()}
    best, best_mean = None, -math.inf
    for name, mean in means.items():
        if mean > best_mean + NEGLIGIBLE:  # false for nan
            best, best_mean = name, mean
    if best is None:
        raise ValueError(f"no defined {metric} among {list(scores)}")
    return best


def cross_fitted_choice(
    logits: Mapping[str, SeedLogits],
    labels: Labels,
    folds: Folds,
    units: Sequence[Hashable],
    metric: str,
    *,
    num_resamples: int,
    confidence: float,
    seed: int = 0,
) -> Selection:
    """Chooses the best config, and estimates how good such a choice is on people who had no say in it.

    Args:
      logits: [S, N, K] of each config by name; S may differ. Configs that failed are left out.
      labels: class index of each image [N].
      folds: fold of each image [N]; at least two, a person is in one only.
      units: the person of each image [N].
      metric: one of `fpclass.stats.intervals.OVERALL_METRICS`.
      num_resamples: of the bootstrap.
      confidence: of the intervals, in (0, 1).
      seed: of the bootstrap.

    Returns:
      The choice, its optimistic and its cross-fitted score with their intervals.

    Raises:
      DataError: a logit is not finite or a label out of range.
      ValueError: as `choose`; shapes do not agree; or there is a single fold.
    """
    num_folds = int(np.max(folds)) + 1
    _check_folds(num_folds)
    scores = {name: member_scores(of_config, labels, folds, metric) for name, of_config in logits.items()}
    chosen = choose(scores, metric)
    chosen_per_fold = tuple(
        choose({name: np.delete(of_config, fold, axis=0) for name, of_config in scores.items()}, metric)
        for fold in range(num_folds)
    )
    replicates = {
        name: resampled_fold_scores(logits[name], labels, folds, units, metric, num_resamples=num_resamples, seed=seed)
        for name in {chosen, *chosen_per_fold}
    }

    def estimate(names: Sequence[str]) -> tuple[float, float | None, float | None]:
        """Score and interval of the config of this name on each fold."""
        by_fold = np.array([scores[name][fold].mean() for fold, name in enumerate(names)])
        resampled = np.stack([replicates[name][:, fold] for fold, name in enumerate(names)], axis=1)
        low, high = score_interval(mean_of_defined(resampled), labels, units, metric, confidence)
        return float(mean_of_defined(by_fold)), low, high

    optimistic, optimistic_low, optimistic_high = estimate([chosen] * num_folds)
    cross_fitted, cross_fitted_low, cross_fitted_high = estimate(chosen_per_fold)
    return Selection(
        chosen=chosen,
        chosen_per_fold=chosen_per_fold,
        optimistic=optimistic,
        optimistic_low=optimistic_low,
        optimistic_high=optimistic_high,
        cross_fitted=cross_fitted,
        cross_fitted_low=cross_fitted_low,
        cross_fitted_high=cross_fitted_high,
        optimism=(cross_fitted - optimistic) if metric in LOWER_IS_BETTER else (optimistic - cross_fitted),
    )


def average_members(logits: SeedLogits, how: Average) -> LogProbabilities:
    """Averages what the seeds of one config say of each image.

    Args:
      logits: [S, N, K]; finite.
      how: see `Average`; the mean of logits is that of log-probabilities, so that a member's offsets do not count.

    Returns:
      Log-probabilities [N, K]; as logits they go into every function that takes logits.
    """
    equal = np.full(len(logits), 1 / len(logits))
    return _average([log_softmax(of_seed) for of_seed in logits], equal, how)


def weighted_average(
    log_probabilities: Mapping[str, LogProbabilities], weights: Mapping[str, float], how: Average
) -> LogProbabilities:
    """The ensemble's log-probabilities [N, K].

    Args:
      log_probabilities: [N, K] of each config by name, from `average_members`.
      weights: by name, not negative, summing to 1; configs without one do not count.
      how: see `Average`.
    """
    names = [name for name, weight in weights.items() if weight > 0]
    return _average([log_probabilities[name] for name in names], np.array([weights[name] for name in names]), how)


def greedy_weights(
    log_probabilities: Mapping[str, LogProbabilities],
    labels: Labels,
    *,
    metric: str = "log_loss",
    average: Average = "probabilities",
    max_rounds: int = 50,
) -> dict[str, float]:
    """Weights by greedy forward selection with replacement.

    The best config comes first; each round adds the one, perhaps again, that makes the average best, and the search
    ends where none makes it better. On a tie the earlier name is taken.

    Args:
      log_probabilities: [N, K] of each config by name, from `average_members`.
      labels: class index of each image [N].
      metric: what is to become best, one of `fpclass.stats.intervals.OVERALL_METRICS`.
      average: what is averaged.
      max_rounds: configs in the average at most, at least 1.

    Returns:
      Weight of every config by name, multiples of 1 / rounds, summing to 1.

    Raises:
      DataError: a log-probability is not finite.
      ValueError: there is no config, max_rounds < 1, or the metric is undefined for all.
    """
    if max_rounds < 1:
        raise ValueError(f"max_rounds is {max_rounds}, expected at least 1")
    everyone_once = np.ones((1, len(labels)))
    counts = dict.fromkeys(log_probabilities, 0)
    ensemble, best = None, math.inf if metric in LOWER_IS_BETTER else -math.inf
    for rounds in range(max_rounds):
        shares = np.array([rounds, 1]) / (rounds + 1)
        extended = {
            name: added if ensemble is None else _average([ensemble, added], shares, average)
            for name, added in log_probabilities.items()
        }
        scores = {
            name: make_weighted_metrics(values, labels, [metric])(everyone_once)[metric]
            for name, values in extended.items()
        }
        name = choose(scores, metric)
        gain = best - scores[name][0] if metric in LOWER_IS_BETTER else scores[name][0] - best
        if gain <= NEGLIGIBLE:
            break
        ensemble, best = extended[name], scores[name][0]
        counts[name] += 1
    num_rounds = sum(counts.values())
    return {name: count / num_rounds for name, count in counts.items()}


def cross_fitted_ensemble(
    logits: Mapping[str, SeedLogits],
    labels: Labels,
    folds: Folds,
    *,
    metric: str = "log_loss",
    average: Average = "probabilities",
    max_rounds: int = 50,
) -> Ensemble:
    """A greedy ensemble whose reported predictions come from weights that the fold's people had no say in.

    Args:
      logits: [S, N, K] of each config by name; the seeds of a config are averaged first.
      labels: class index of each image [N].
      folds: fold of each image [N]; at least two, a person is in one only.
      metric: what the weights make best, see `greedy_weights`.
      average: what is averaged, over seeds and over configs.
      max_rounds: see `greedy_weights`.

    Returns:
      Weights to use, weights per fold, and out-of-fold log-probabilities: `log_probabilities[None]` has the shape
      [1, N, K] of a config of one seed.

    Raises:
      As `greedy_weights`; ValueError: there is a single fold.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    num_folds = int(folds.max()) + 1
    _check_folds(num_folds)
    averaged = {name: average_members(of_config, average) for name, of_config in logits.items()}
    out_of_fold = np.empty_like(next(iter(averaged.values())))
    per_fold = []
    for fold in range(num_folds):
        is_here = folds == fold
        elsewhere = {name: values[~is_here] for name, values in averaged.items()}
        weights = greedy_weights(elsewhere, labels[~is_here], metric=metric, average=average, max_rounds=max_rounds)
        per_fold.append(weights)
        out_of_fold[is_here] = weighted_average(averaged, weights, average)[is_here]
    weights = greedy_weights(averaged, labels, metric=metric, average=average, max_rounds=max_rounds)
    return Ensemble(weights, tuple(per_fold), out_of_fold)


def _average(values: Sequence[LogProbabilities], weights: Float[np.ndarray, " m"], how: Average) -> LogProbabilities:
    from scipy import special

    if how not in ("probabilities", "logits"):
        raise ValueError(f"average {how!r} is neither 'probabilities' nor 'logits'")
    stacked = np.stack(values)
    if how == "logits":
        return log_softmax(np.einsum("m,mnk->nk", weights, stacked))
    return log_softmax(special.logsumexp(stacked, axis=0, b=weights[:, None, None]))


def _check_folds(num_folds: int) -> None:
    if num_folds < 2:
        raise ValueError("cross-fitting needs at least two folds")
