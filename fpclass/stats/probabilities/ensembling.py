"""Weighted averages of configs: the members' average, greedy weights, and an ensemble that is judged out of fold.

Source of the greedy ensemble: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models,
ICML 2004: forward selection with replacement, from the best model on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from fpclass.stats.cohort import Cohort, Rows
from fpclass.stats.comparison.scores import NEGLIGIBLE, SeedLogits
from fpclass.stats.comparison.selection import choose
from fpclass.stats.metrics import Labels, log_softmax
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.weighted_metrics import is_lower_better, metric_value

LogProbabilities = Float[np.ndarray, "n k"]
"""Logarithms of probabilities that sum to 1 over the classes."""
Average = Literal["probabilities", "logits"]
"""The arithmetic mean of the probabilities, or the mean of their logarithms, normalised again."""
AVERAGES = get_args(Average)


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


def average_members(logits: SeedLogits, how: Average) -> LogProbabilities:
    """Averages the seeds of one config; logits as log-probabilities, so that a member's offsets do not count."""
    equal = np.full(len(logits), 1 / len(logits))
    return _average([log_softmax(of_seed) for of_seed in logits], equal, how)


def weighted_average(
    log_probabilities: Mapping[str, LogProbabilities], weights: Mapping[str, float], how: Average
) -> LogProbabilities:
    """Averages configs by their weights, not negative and summing to 1; configs without one do not count."""
    names = [name for name, weight in weights.items() if weight > 0]
    return _average([log_probabilities[name] for name in names], np.array([weights[name] for name in names]), how)


def predict_by_fold(
    logits: Mapping[str, SeedLogits],
    num_folds: int,
    weights: Mapping[str, float],
    calibration: Calibration,
    how: Average,
) -> Float[np.ndarray, "f n k"]:
    """The ensemble's log-probabilities [F, N, K] of images that no fold holds, by each fold's members, calibrated.

    Fold by fold it is what was calibrated and judged out of fold: seeds averaged, configs weighted, calibrated.

    Args:
      logits: [M, N, K] of the M members of each config by name, all folds of the first seed, then of the next.
      num_folds: 1 where there are none.
    """
    of_folds = []
    for fold in range(num_folds):
        averaged = {name: average_members(members[fold::num_folds], how) for name, members in logits.items()}
        of_folds.append(calibration.apply(weighted_average(averaged, weights, how)))
    return np.stack(of_folds)


def greedy_weights(
    log_probabilities: Mapping[str, LogProbabilities],
    labels: Labels,
    *,
    metric: str = "log_loss",
    average: Average = "probabilities",
    max_rounds: int = 50,
) -> dict[str, float]:
    """Weight of every config by greedy forward selection with replacement: multiples of 1 / rounds, summing to 1.

    The best config comes first; each round adds the one, perhaps again, that makes the average best, and the search
    ends where none makes it better. On a tie the earlier name is taken.

    Args:
      log_probabilities: of each config by name, from `average_members`.
      metric: what is to become best, one of `fpclass.stats.weighted_metrics.OVERALL_METRICS`.
      max_rounds: configs in the average at most, at least 1.

    Raises:
      DataError: a log-probability is not finite.
      ValueError: there is no config, max_rounds < 1, or the metric is undefined for all.
    """
    if max_rounds < 1:
        raise ValueError(f"max_rounds is {max_rounds}, expected at least 1")
    counts = dict.fromkeys(log_probabilities, 0)
    ensemble, best = None, math.inf if is_lower_better(metric) else -math.inf
    for rounds in range(max_rounds):
        shares = np.array([rounds, 1]) / (rounds + 1)
        extended = {
            name: added if ensemble is None else _average([ensemble, added], shares, average)
            for name, added in log_probabilities.items()
        }
        scores = {name: metric_value(values, labels, metric) for name, values in extended.items()}
        name = choose(scores, metric)
        gain = best - scores[name] if is_lower_better(metric) else scores[name] - best
        if gain <= NEGLIGIBLE:
            break
        ensemble, best = extended[name], scores[name]
        counts[name] += 1
    num_rounds = sum(counts.values())
    return {name: count / num_rounds for name, count in counts.items()}


def cross_fitted_ensemble(
    logits: Mapping[str, SeedLogits],
    cohort: Cohort,
    *,
    metric: str = "log_loss",
    average: Average = "probabilities",
    max_rounds: int = 50,
) -> Ensemble:
    """A greedy ensemble whose reported predictions come from weights that the fold's people had no say in.

    Arguments as `greedy_weights`, but the logits are [S, N, K] of each config by name: its seeds are averaged first.
    `log_probabilities[None]` of the ensemble has the shape [1, N, K] of a config of one seed.

    Raises:
      As `greedy_weights`; DataError: there is a single fold.
    """
    averaged = {name: average_members(of_config, average) for name, of_config in logits.items()}

    def fit(rows: Rows) -> dict[str, float]:
        there = {name: values[rows] for name, values in averaged.items()}
        return greedy_weights(there, cohort.labels[rows], metric=metric, average=average, max_rounds=max_rounds)

    def apply(weights: dict[str, float], rows: Rows) -> LogProbabilities:
        return weighted_average(averaged, weights, average)[rows]

    out_of_fold, by_fold, weights = cohort.cross_fit(fit, apply, np.empty_like(next(iter(averaged.values()))))
    return Ensemble(weights, tuple(by_fold.values()), out_of_fold)


def _average(values: Sequence[LogProbabilities], weights: Float[np.ndarray, " m"], how: Average) -> LogProbabilities:
    from scipy import special

    if how not in AVERAGES:
        raise ValueError(f"average {how!r} is neither 'probabilities' nor 'logits'")
    stacked = np.stack(values)
    if how == "logits":
        return log_softmax(np.einsum("m,mnk->nk", weights, stacked))
    return log_softmax(special.logsumexp(stacked, axis=0, b=weights[:, None, None]))
