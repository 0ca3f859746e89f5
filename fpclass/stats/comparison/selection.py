"""Choosing among configs on people who do not report how good the choice is.

The best of several scores is too good: part of what made it the best is luck that new people will not repeat. Cross-
fitting takes that part away. For each fold the choice is made from the scores of the other folds' people and scored on
the people of the fold; the mean over folds is what to expect of the procedure "choose the best".

A little of the bias remains, as always in cross-validation: the members of the other folds were trained on the people
of the fold that reports, and a config that suits these does better elsewhere for having learnt from them.
`pytest -m slow -n 0 -s tests/stats/comparison/test_selection.py` prints how little.

What one fold reports chooses for the others, so the folds of a cross-fitted score err together: its variance is up to
twice that of a single config's (`variance_of_choosing`), most where the configs are equally good.

On one split there are no folds to cross-fit by. The validation people, whom no member learnt from, are then divided in
parts, and each part is scored by what the others chose: `cross_fitted_choice_in_parts`. Nothing of the bias remains,
but the trained members are taken as given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.stats.bounds import shared_training, support_of
from fpclass.stats.cohort import Cohort, Folds, Rows
from fpclass.stats.comparison.scores import (
    NEGLIGIBLE,
    Resampled,
    SeedLogits,
    mean_interval,
    mean_of_defined,
    resample_configs,
    resample_scores,
    training_noise,
)
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.weighted_metrics import is_lower_better, metric_value


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best of several configs and what to expect of it. Bounds are None where there is no interval.

    Attributes:
      chosen: name of the config that is best on all folds, the one to use.
      chosen_per_fold: name of the config that the other folds (on one split: parts) chose for each, F.
      optimistic: score of the chosen config on the data that chose it; its interval does not know of the choice.
      cross_fitted: score of the choice on people who had no say in it.
      optimism: by how much optimistic looks better than cross_fitted; above 0 is flattery, for every metric.
    """

    chosen: str
    chosen_per_fold: tuple[str, ...]
    optimistic: Interval
    cross_fitted: Interval
    optimism: float

    def record(self) -> dict[str, Any]:
        """What results.json holds."""
        return {
            "chosen": self.chosen,
            "chosen_per_fold": self.chosen_per_fold,
            **self.optimistic.columns("optimistic"),
            **self.cross_fitted.columns("cross_fitted"),
            "optimism": self.optimism,
        }


def choose(scores: Mapping[str, np.ndarray | float], metric: str) -> str:
    """Name of the config with the best mean score (of log-loss and Brier score the smallest), the first on a tie.

    The scores of a config have any shape, for example [F, S] of its members; nan is left out.

    Raises:
      ValueError: there is no config, or none has a defined score.
    """
    sign = -1 if is_lower_better(metric) else 1
    means = {name: sign * float(mean_of_defined(np.ravel(of_config))) for name, of_config in scores.items()}
    best, best_mean = None, -math.inf
    for name, mean in means.items():
        if mean > best_mean + NEGLIGIBLE:  # false for nan
            best, best_mean = name, mean
    if best is None:
        raise ValueError(f"no defined {metric} among {list(scores)}")
    return best


def cross_fitted_choice(resampled: Mapping[str, Resampled]) -> Selection:
    """Chooses the best of the configs that did not fail, and estimates how good such a choice is on other people.

    Args:
      resampled: of each config by name, by one metric and from the same resamples of one cohort.

    Raises:
      DataError: there is a single fold.
      ValueError: as `choose`.
    """
    of_any = next(iter(resampled.values()))
    cohort, metric, confidence = of_any.cohort, of_any.metric, of_any.confidence
    cohort.check_folds()
    scores = {name: of_config.members for name, of_config in resampled.items()}
    chosen = choose(scores, metric)
    chosen_per_fold = tuple(
        choose({name: np.delete(of_config, fold, axis=0) for name, of_config in scores.items()}, metric)
        for fold in range(cohort.num_folds)
    )
    replicates = {name: of_config.folds for name, of_config in resampled.items()}
    choosing = variance_of_choosing(scores, replicates, cohort, metric)

    def estimate(names: Sequence[str], choosing: float = 1.0) -> Interval:
        """Score of the config of this name on each fold."""
        of_folds = [scores[name][fold] for fold, name in enumerate(names)]
        has_as_many = len({len(of_fold) for of_fold in of_folds}) == 1
        by_fold = np.stack([of_fold if has_as_many else of_fold.mean(keepdims=True) for of_fold in of_folds])
        drawn = np.stack([replicates[name][:, fold] for fold, name in enumerate(names)], axis=1)
        return mean_interval(by_fold, mean_of_defined(drawn), cohort, metric, confidence, choosing)

    optimistic, cross_fitted = estimate([chosen] * cohort.num_folds), estimate(chosen_per_fold, choosing)
    return _selection(chosen, chosen_per_fold, optimistic, cross_fitted, metric)


def variance_of_choosing(
    scores: Mapping[str, Float[np.ndarray, "f s"]],
    replicates: Mapping[str, Float[np.ndarray, "b f"]],
    cohort: Cohort,
    metric: str,
) -> float:
    """By how much the variance of a cross-fitted score exceeds that of a config that nobody chose; at least 1.

    The choice is made again in every resample of people, with noise of training drawn anew, among configs whose means
    are as far apart as they are beyond what people and noise explain of it (the variance between them, less theirs).
    nan where a fold has no score counts as what was observed.

    Args:
      scores: of the members of each config.
      replicates: of its fold scores, paired between the configs.
    """
    support, num_folds = support_of(metric, cohort, cohort.num_folds), cohort.num_folds
    observed = np.stack([mean_of_defined(of_config) for of_config in scores.values()])
    drawn = np.stack(list(replicates.values()))
    is_scored = np.asarray(~np.isnan(observed).any(axis=0))
    if len(observed) < 2 or is_scored.sum() < 2 or not drawn.shape[1]:
        return 1.0
    observed, drawn = observed[:, is_scored], drawn[:, :, is_scored]
    people = np.nan_to_num(drawn - observed[:, None]) * math.sqrt(support.correction * shared_training(num_folds))
    noises = [
        training_noise(of_config, float(of_people.mean(axis=1).var()), floor=True).variance
        for of_config, of_people in zip(scores.values(), people, strict=True)
    ]
    noise, means = float(np.mean(noises)), observed.mean(axis=1)
    explained = float(people.mean(axis=2).var(axis=0, ddof=1).mean()) + noise
    between = float(means.var(ddof=1))
    apart = math.sqrt(max(0.0, 1 - explained / between)) if between > NEGLIGIBLE**2 else 0.0
    rng = np.random.default_rng(0)
    again = people + math.sqrt(noise * len(is_scored)) * rng.normal(size=people.shape)
    again += (apart * (means - means.mean()))[:, None, None]
    others = again.sum(axis=2, keepdims=True) - again
    best = (-others if is_lower_better(metric) else others).argmax(axis=0)
    chosen = np.take_along_axis(again, best[None], axis=0)[0].mean(axis=1).var()
    fixed = again.mean(axis=2).var(axis=1).mean()
    return max(1.0, float(chosen / fixed)) if fixed > NEGLIGIBLE**2 else 1.0


def cross_fitted_choice_in_parts(
    logits: Mapping[str, SeedLogits], resampled: Mapping[str, Resampled], parts: Folds, bootstrap: Bootstrap
) -> Selection:
    """`cross_fitted_choice` where all members judge all images: for each part of them the others choose.

    Args:
      logits: [S, N, K] of each config by name, S the same for all.
      resampled: of the same, by one metric, of a cohort without folds.
      parts: part of each image [N], as folds are numbered; a group is in one only.
      bootstrap: that `resampled` come from.

    Raises:
      As `cross_fitted_choice`.
    """
    of_any = next(iter(resampled.values()))
    cohort, metric = of_any.cohort, of_any.metric

    def fit(rows: Rows) -> str:
        labels = cohort.labels[rows]
        scores = {
            name: np.array([metric_value(of_seed[rows], labels, metric) for of_seed in of_config])
            for name, of_config in logits.items()
        }
        return choose(scores, metric)

    def apply(name: str, rows: Rows) -> np.ndarray:
        return np.moveaxis(logits[name][:, rows], 0, 1)

    out = np.moveaxis(np.empty_like(next(iter(logits.values())), np.float64), 0, 1)
    in_parts = cohort.with_folds(parts)
    judged, by_part, chosen = in_parts.cross_fit(fit, apply, out)
    of_parts = resample_configs(logits, in_parts, metric, bootstrap)
    scores = {name: of_config.members.mean(axis=1, keepdims=True) for name, of_config in of_parts.items()}
    replicates = {name: of_config.folds for name, of_config in of_parts.items()}
    choosing = variance_of_choosing(scores, replicates, in_parts, metric)
    composed = resample_scores(np.moveaxis(judged, 1, 0), cohort, metric, bootstrap)
    cross_fitted = mean_interval(composed.members, composed.replicates, cohort, metric, bootstrap.confidence, choosing)
    return _selection(chosen, tuple(by_part.values()), resampled[chosen].score.mean, cross_fitted, metric)


def _selection(
    chosen: str, chosen_per_fold: tuple[str, ...], optimistic: Interval, cross_fitted: Interval, metric: str
) -> Selection:
    flattery = math.nan
    if optimistic.value is not None and cross_fitted.value is not None:
        flattery = (optimistic.value - cross_fitted.value) * (-1 if is_lower_better(metric) else 1)
    return Selection(chosen, chosen_per_fold, optimistic, cross_fitted, flattery)
