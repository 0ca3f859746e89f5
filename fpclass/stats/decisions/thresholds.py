"""From probabilities to decisions: thresholds, costs, risk and coverage, and sets of classes, all fitted out of fold.

What is fitted (a threshold, a conformal quantile) is fitted for fold k on the other folds and judged on fold k; the one
for new images is fitted on all. Logits may be calibrated first (`probabilities.calibration`); costs need that, the rest
only gains from it. From which confidence on to decide at all: `risk_control`.

Conformal sets hold the true class with a promised probability. The images of one person resemble each other, so
people, not images, are exchangeable: each person weighs the same, and the promise is about a random image of a new
person. It is exact for a network fixed beforehand. Across folds, whose networks differ, it is an approximation, which
is why the coverage reached is reported too. Marginal sets promise it for all classes together, and may miss a rare one
much more often; sets by class promise it for the people of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.errors import ConfigError
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.draws import MAX_DISTINCT, Weights, coarse_ranks, sums_by_rank
from fpclass.stats.metrics import Labels, Logits, PerImage, check_predictions, log_softmax, ratio

OBJECTIVES = ("accuracy", "f1", "balanced_accuracy")
COST = "cost"
MARGINAL, BY_CLASS = SETS = "marginal", "class"
"""What conformal sets promise: coverage of all classes together, or of each."""
CURVE_POINTS = 100
"""Coverages at which the risk-coverage curve is given: 1 %, 2 %, … 100 %."""

Cost = Float[np.ndarray, "k k"]
"""Cost of each decision (column) for each true class (row), zero or more."""
Decisions = Int[np.ndarray, " n"]


def check_cost(cost: Any, num_classes: int) -> Cost:
    """The cost matrix as float64 [K, K]; ConfigError where it is of another shape, or such costs make no sense."""
    try:
        matrix = np.asarray(cost, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    problem = None
    if matrix.shape != (num_classes, num_classes):
        problem = f"is not {num_classes} rows (true class) of {num_classes} numbers (decided class)"
    elif not (np.isfinite(matrix) & (matrix >= 0)).all():
        problem = "holds something else than finite numbers of zero or more"
    elif (matrix.diagonal()[:, None] > matrix).any():
        problem = "makes a right decision cost more than a wrong one; the diagonal must be the smallest of its row"
    if problem:
        raise ConfigError(f"cost matrix {cost!r} {problem}; rows are true classes, columns are decisions")
    return matrix


def cost_decisions(probabilities: Float[np.ndarray, "n k"], cost: Any) -> Decisions:
    """The decision of least expected cost for each image [N], the first on a tie.

    Args:
      probabilities: calibrated [N, K].
      cost: [K, K], rows true classes, columns decisions.

    Raises:
      ConfigError: as `check_cost`.
    """
    return (probabilities @ check_cost(cost, probabilities.shape[1])).argmin(axis=1)


def binary_score(
    counts: Float[np.ndarray, "b 2 2"], objective: str, cost: Cost | None = None
) -> Float[np.ndarray, " b"]:
    """What a threshold is chosen for, larger is better; nan where undefined.

    Args:
      counts: confusion matrices [B, 2, 2], rows true, columns decided.
      objective: one of `OBJECTIVES`, f1 being that of class 1; or "cost", minus the mean cost.
    """
    right, total = counts[:, [0, 1], [0, 1]], counts.sum(axis=(1, 2))
    if objective == "accuracy":
        return ratio(right.sum(axis=1), total)
    if objective == "balanced_accuracy":
        return ratio(right, counts.sum(axis=2)).mean(axis=1)
    if objective == "f1":
        support, called = counts[:, 1].sum(axis=1), counts[:, :, 1].sum(axis=1)
        return ratio(2 * right[:, 1], (support + called) * (support > 0))
    if objective == COST and cost is not None:
        return -ratio((counts * cost).sum(axis=(1, 2)), total)
    raise ValueError(f"objective {objective!r}, known are {(*OBJECTIVES, COST)}; cost needs its matrix")


def name_objective(objective: str) -> str:
    """What a threshold is for, in words: F1 is that of the class whose threshold it is."""
    return "its f1" if objective == "f1" else objective.replace("_", " ")


def name_threshold(objective: str, cohort: Cohort) -> str:
    """A threshold in words: it is that of the second class."""
    of_which = repr(cohort.class_names[1]) if cohort.class_names else "the second class"
    return f"threshold of {of_which} for {name_objective(objective)}"


def fit_threshold(logits: Logits, labels: Labels, objective: str, cost: Cost | None = None) -> float:
    """The threshold t in [0, 1] for which "class 1 where its probability is above t" is best, as `binary_score` has it.

    Every split of the images is tried. Of equal ones the threshold nearest to 0.5 is taken, and 0.5 where no other is
    better.
    """
    logits, labels = check_predictions(logits, labels)
    scores = _second_class(logits)
    levels = np.unique(scores)
    # Rounding must not lift the middle of two neighbouring numbers to the upper one.
    middles = np.minimum((levels[:-1] + levels[1:]) / 2, np.nextafter(levels[1:], 0))
    thresholds = np.unique(np.concatenate([[0.0, 0.5, 1.0], middles]))
    counts = np.empty((len(thresholds), 2, 2))
    for k in (0, 1):
        of_class = np.sort(scores[labels == k])
        counts[:, k, 0] = np.searchsorted(of_class, thresholds, side="right")
        counts[:, k, 1] = len(of_class) - counts[:, k, 0]
    values = np.nan_to_num(binary_score(counts, objective, cost), nan=-np.inf)
    best = thresholds[values >= values.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def cross_fitted_threshold(
    logits: Logits, cohort: Cohort, objective: str, cost: Cost | None = None
) -> tuple[Decisions, dict[int, float], float]:
    """Decisions [N], each fold's threshold (fitted on the others), and the one of all images, for new ones."""
    logits = cohort.check(logits)
    return cohort.cross_fit(
        lambda rows: fit_threshold(logits[rows], cohort.labels[rows], objective, cost),
        lambda threshold, rows: _second_class(logits[rows]) > threshold,
        np.empty(len(cohort), np.int64),
    )


def risk_coverage(logits: Logits, labels: Labels) -> Callable[[Weights], dict[str, np.ndarray]]:
    """Error rate among the most confident share of the images, for any weighting of them.

    The share of images is as exact as equal confidences allow: those enter in the order of chance for the curve, and
    together for its area, as a threshold on confidence lets them. Many weightings of more than `MAX_DISTINCT` images
    take confidences of one part of so many for equal.

    Returns:
      A function from weights [B, N] to risk [B, `CURVE_POINTS`], the error rate at each coverage, and aurc [B], its
      mean over coverages; the error rate if confidences are unrelated to errors.

    Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
    """
    logits, labels = check_predictions(logits, labels)
    is_wrong = logits.argmax(axis=1) != labels

    @functools.cache
    def by_level(is_coarse: bool) -> Any:
        levels = -confidences_of(logits)
        return sums_by_rank(np.unique(coarse_ranks(levels) if is_coarse else levels, return_inverse=True)[1], is_wrong)

    coverages = np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS

    def evaluate(weights: Weights) -> dict[str, np.ndarray]:
        wrong, right = np.split(weights @ by_level(len(weights) > 1 and len(labels) > MAX_DISTINCT), 2, axis=1)
        entering, errors = wrong + right, wrong.cumsum(axis=1)
        accepted = entering.cumsum(axis=1)
        share = accepted / accepted[:, -1:]
        aurc = (entering * np.nan_to_num(ratio(errors, accepted))).sum(axis=1) / accepted[:, -1]
        risk = np.empty((len(weights), CURVE_POINTS))
        for b in range(len(weights)):
            at = np.interp(coverages, np.append(0, share[b]), np.append(0, errors[b] / accepted[b, -1]))
            risk[b] = at / coverages
        return {"risk": risk, "aurc": aurc}

    return evaluate


def conformal_quantile(scores: PerImage, groups: Sequence[Hashable] | np.ndarray, miss_rate: float) -> float:
    """The score that a random image of a new person does not exceed with probability 1 - miss_rate or more.

    Each of G people weighs 1 / (G + 1), shared by their images; the new one, who may be worse than all, the rest. The
    quantile is 1, which lets every class in, where there are too few people for the promise.

    Args:
      scores: 1 - p(true class) of each image [N], in [0, 1].
      groups: person of each image [N]; all "" gives the quantile of split-conformal prediction for single images.
      miss_rate: in (0, 1).

    Source: Dunn, Wasserman and Ramdas, Distribution-Free Prediction Sets for Two-Layer Hierarchical Models, JASA 2022;
    weights as Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023; score (LAC) of
    Sadinle, Lei and Wasserman, JASA 2019.
    """
    codes = group_codes(groups)
    images_of = np.bincount(codes)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1 / images_of[codes[order]])
    reached = np.searchsorted(mass, (1 - miss_rate) * (len(images_of) + 1) - 1e-9)
    return float(scores[order][reached]) if reached < len(scores) else 1.0


def set_quantiles(
    scores: Float[np.ndarray, "n k"], labels: Labels, groups: np.ndarray, miss_rate: float, kind: str
) -> Float[np.ndarray, " k"]:
    """The quantile of each class [K], which lets it into a set: the same for all where sets are marginal.

    By class, each is `conformal_quantile` of that class's images and people; 1, always in, where these are too few.

    Args:
      scores: 1 - p of every class [N, K].
      kind: one of `SETS`.

    Source: Vovk, Conditional Validity of Inductive Conformal Predictors, Machine Learning 92 (2013), on the sets by
    class, there label-conditional or Mondrian.
    """
    num_classes = scores.shape[1]
    true_scores = scores[np.arange(len(labels)), labels]
    if kind == MARGINAL:
        return np.full(num_classes, conformal_quantile(true_scores, groups, miss_rate))
    of_class = (labels == k for k in range(num_classes))
    return np.array([conformal_quantile(true_scores[rows], groups[rows], miss_rate) for rows in of_class])


def cross_fitted_sets(
    logits: Logits, cohort: Cohort, miss_rate: float, kind: str = MARGINAL
) -> tuple[Bool[np.ndarray, "n k"], dict[int, np.ndarray], np.ndarray]:
    """Which classes are in each image's set [N, K], each fold's quantiles [K], and those of all images, for new ones.

    A class is in where 1 - p is at most its quantile; `kind` is one of `SETS`.
    """
    scores = set_scores(cohort.check(logits))
    return cohort.cross_fit(
        lambda rows: set_quantiles(scores[rows], cohort.labels[rows], cohort.groups[rows], miss_rate, kind),
        lambda quantiles, rows: scores[rows] <= quantiles,
        np.empty(scores.shape, bool),
    )


def set_scores(logits: Logits) -> Float[np.ndarray, "n k"]:
    """How strange each class is for each image: 1 - p."""
    return 1 - np.exp(log_softmax(logits))


def _second_class(logits: Logits) -> PerImage:
    """Probability of class 1 of two."""
    return np.exp(log_softmax(logits)[:, 1])


def confidences_of(logits: Logits) -> PerImage:
    """Probability of the predicted class."""
    return np.exp(log_softmax(logits).max(axis=1))
