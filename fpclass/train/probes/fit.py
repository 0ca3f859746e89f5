"""Fitting of probes: L2-regularised logistic regression on pooled features of a frozen network.

The regression is scikit-learn's, to convergence. Its strength is chosen by cross-validation within the training rows,
which never divides a group, and whose regressions are fitted together; their out-of-fold logits are what a calibration
can be fitted on.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from fpclass.data.splits import partition
from fpclass.errors import DataError
from fpclass.models.layers import merge_logits
from fpclass.models.probe import ProbeHead
from fpclass.stats.metrics import log_softmax
from fpclass.train.probes.logistic import TOLERANCE, fit_all, make_rows
from fpclass.train.probes.scaling import compressed, expanded, factors_of, standardising

STRENGTHS = tuple(float(f"{10.0**exponent:.3g}") for exponent in np.arange(-5.0, 2.01, 0.5))
"""C of scikit-learn, the inverse of the L2 penalty, from the stiffest on."""
BALANCES = (0.0, 1.0)
"""What stages weigh in the penalty: 0, every feature the same, so that the last stage, the widest, has most say; 1,
every stage the same. Photographs of what the network was taught want the first, ridges and textures the second."""
USUAL_STRENGTH = 1e-3
"""Where nothing can be cross-validated: what it mostly comes to with a thousand features and more."""
PATIENCE = 2
"""So many strengths in a row without a lower loss end the search: weaker ones only take longer to converge."""
TOGETHER = (5, 2, 2, 2, 2, 2)
"""Strengths that are fitted at once, the stiff ones first, which take few steps: with the first ones weaker ones that
nobody needs in the end would take most of the time."""
NUM_PARTS = 5
"""Parts of the inner cross-validation, fewer where a class has fewer groups."""
ENOUGH = 5000
"""Groups that were judged from which on the parts that are left are not: they would choose the same strength."""
THREADED = 10**7
"""Numbers in the features from which on several threads pay; for fewer of them threads mostly wait for each other."""
SINGLE = 5 * 10**6
"""Numbers in what a regression is fitted to from which on they are float32: half the memory and half the time."""
NEVER = -1e3
"""Logit of a class of which there is no training image."""
Layer = tuple[Float[np.ndarray, "d w"], Float[np.ndarray, " w"]]
"""Kernel and bias of `layers.Logits`."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A strength that was tried: mean log loss (nats) and accuracy out of fold, weighted as the fit is."""

    strength: float
    balance: float
    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
      params: of its `ProbeHead`, float32.
      chosen: position in `trials`.
      trials: the strengths that were tried, of each balance from the stiffest on; one with a loss of nan where nothing
        could be cross-validated.
      num_parts: of the inner cross-validation; 0 where there was none.
      num_judged: how many of them were judged, all but in large data.
      inner: positions of the rows that it judged, among those that were given.
      inner_logits: their logits out of fold at the chosen strength, float32.
    """

    params: dict[str, Any]
    chosen: int
    trials: tuple[Trial, ...]
    num_parts: int
    num_judged: int
    inner: Int[np.ndarray, " m"]
    inner_logits: Float[np.ndarray, "m K"]

    @property
    def best(self) -> Trial:
        """The trial that was chosen."""
        return self.trials[self.chosen]


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is to be learnt: classes, what the layer learns of them, weights of images, parts of the inner folds.

    Attributes:
      num_judged: parts that are judged, the first ones.
    """

    labels: Int[np.ndarray, " n"]
    learnt: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]
    parts: Int[np.ndarray, " n"]
    num_judged: int

    @property
    def is_judged(self) -> Bool[np.ndarray, " n"]:
        """Whether an image is in a part that is judged."""
        return (self.parts >= 0) & (self.parts < self.num_judged)


@dataclasses.dataclass(frozen=True)
class _Search:
    """The strengths of one balance.

    Attributes:
      factors: of the standardised features.
      x: coordinates of the images, as of `compressed`.
      chosen: position of the best trial.
      logits: those of the best, out of fold.
    """

    factors: Float[np.ndarray, " d"]
    x: Float[np.ndarray, "n r"]
    trials: list[Trial]
    chosen: int
    logits: Float[np.ndarray, "n K"]

    @property
    def loss(self) -> float:
        return self.trials[self.chosen].loss


def logits_of(head: ProbeHead, params: dict[str, Any], features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
    """Logits of pooled features, float32: those that the whole network gives for these images."""
    return np.asarray(head.apply({"params": params}, jnp.asarray(features), method="classify"))


def fit_probe(
    head: ProbeHead,
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    groups: np.ndarray,
    *,
    seed: str,
    widths: Sequence[int] = (),
    weights: Float[np.ndarray, " n"] | None = None,
    sublabels: Int[np.ndarray, " n"] | None = None,
    trusted: Bool[np.ndarray, " n"] | None = None,
) -> Probe:
    """Fits a probe to some images.

    Args:
      labels: class of each.
      groups: who or what must not be divided by the inner cross-validation, by name.
      seed: of its parts.
      widths: how many features each stage has, as `models.probe.widths` says; (): they are of one.
      weights: of each image in the loss; None: all the same.
      sublabels: subclass of each, where `head.subclasses` are learnt.
      trusted: whose labels may judge in the inner cross-validation; the others always train. None: all.

    Raises:
      DataError: images of one class only.
    """
    learnt = labels if sublabels is None else sublabels
    if len(np.unique(learnt)) < 2:
        raise DataError(f"a probe learns from images of two classes or more, and all {len(labels)} are of one")
    weights = np.ones(len(labels)) if weights is None else weights
    with threadpool_limits(1 if features.size < THREADED else None):
        mean, scale = standardising(features, widths)
        kind = _kind(features.size) if len(features) >= features.shape[1] else np.float64
        standard = (features.astype(kind) - mean.astype(kind)) * scale.astype(kind)
        trusted = np.ones(len(labels), bool) if trusted is None else trusted
        parts = np.full(len(labels), -1)
        parts[trusted], num_parts = inner_parts(labels[trusted], groups[trusted], head.num_classes, seed)
        num_judged = _num_judged(parts[trusted], groups[trusted], num_parts)
        task = _Task(labels, learnt, weights, parts, num_judged)
        balances = BALANCES if num_parts and len(widths) > 1 else BALANCES[:1]
        searches = [_search(head, task, standard, widths, balance) for balance in balances]
        best = min(searches, key=lambda search: search.loss)
        kernel, bias = _fit(best.trials[best.chosen].strength, best.x, learnt, weights, head)
        if best.x.shape[1] < standard.shape[1]:
            kernel = best.factors[:, None] * expanded(kernel, best.x, standard)
    layer = {"kernel": kernel, "bias": bias}
    params = jax.tree.map(np.float32, {"mean": mean, "scale": scale * best.factors, "logits": layer})
    trials = tuple(trial for search in searches for trial in search.trials)
    chosen = trials.index(best.trials[best.chosen])
    inner = np.flatnonzero(task.is_judged)
    return Probe(params, chosen, trials, num_parts, task.num_judged, inner, best.logits[inner].astype(np.float32))


def _kind(size: int) -> type:
    """The type of so many numbers that a regression is fitted to."""
    return np.float32 if size >= SINGLE else np.float64


def judged_share(num_groups: int) -> float:
    """The share of its parts that an inner cross-validation judges, of so many groups."""
    return min(1.0, math.ceil(NUM_PARTS * ENOUGH / max(num_groups, 1)) / NUM_PARTS)


def _num_judged(parts: Int[np.ndarray, " n"], groups: np.ndarray, num_parts: int) -> int:
    """How many parts of the inner cross-validation are judged, from the first on."""
    _, first = np.unique(groups, return_index=True)  # a group is in one part
    of_groups = parts[first]
    counts = np.cumsum(np.bincount(of_groups[of_groups >= 0], minlength=num_parts))
    return min(int(np.searchsorted(counts, ENOUGH)) + 1, num_parts)


def inner_parts(
    labels: Int[np.ndarray, " n"], groups: np.ndarray, num_classes: int, seed: str
) -> tuple[Int[np.ndarray, " n"], int]:
    """Divides training images for the inner cross-validation, class by class, never dividing a group.

    Returns:
      The part of each image, -1 for one that always trains, because its class has a single group; and how many parts
      there are, 0 where there are too few groups for any.
    """
    pairs = np.unique(np.stack([np.unique(groups, return_inverse=True)[1], labels]), axis=1)
    is_rare = np.bincount(pairs[1], minlength=num_classes) < 2
    judged = ~np.isin(groups, groups[is_rare[labels]])
    pairs = np.unique(np.stack([np.unique(groups[judged], return_inverse=True)[1], labels[judged]]), axis=1)
    counts = np.unique(pairs[1], return_counts=True)[1]
    parts = np.full(len(labels), -1)
    num_parts = min([NUM_PARTS, *counts.tolist()])
    if num_parts < 2 or len(counts) < 2:
        return parts, 0
    names = tuple(map(str, range(num_classes)))
    parts[judged] = partition(groups[judged], labels[judged], [1 / num_parts] * num_parts, f"{seed}/probe", names)
    return parts, num_parts


def _search(
    head: ProbeHead, task: _Task, standard: Float[np.ndarray, "n d"], widths: Sequence[int], balance: float
) -> _Search:
    """Tries strengths from the stiffest on, on standardised features."""
    factors = factors_of(widths, balance, standard.shape[1])
    x = compressed(standard * factors.astype(standard.dtype))
    x = x.astype(_kind(x.size), copy=False)
    best, best_logits = 0, np.zeros((len(x), head.num_classes))
    if not task.num_judged:
        return _Search(factors, x, [Trial(USUAL_STRENGTH, balance, np.nan, np.nan)], best, best_logits)
    trials: list[Trial] = []
    judged = task.is_judged
    for strength, logits in zip(STRENGTHS, _out_of_fold(head, task, x), strict=True):
        losses = -log_softmax(logits)[np.arange(len(x)), task.labels]
        correct = logits.argmax(axis=1) == task.labels
        scores = [float(np.average(each[judged], weights=task.weights[judged])) for each in (losses, correct)]
        trials.append(Trial(strength, balance, *scores))
        if trials[-1].loss <= trials[best].loss:
            best, best_logits = len(trials) - 1, logits
        elif len(trials) - 1 - best >= PATIENCE:
            break
    return _Search(factors, x, trials, best, best_logits)


def _out_of_fold(head: ProbeHead, task: _Task, x: Float[np.ndarray, "n r"]) -> Iterator[Float[np.ndarray, "n K"]]:
    """Logits of the parts that are judged, by regressions on the others, of one strength after the other.

    A few are fitted at once, each begun where the weakest of those before has ended.
    """
    learnt, labels = np.unique(task.learnt, return_inverse=True)
    judged = task.parts == np.arange(task.num_judged)[:, None]
    rows, weights = make_rows(x), task.weights * ~judged
    start, first = None, 0
    for num in TOGETHER:
        fits = fit_all(rows, labels, weights, judged, STRENGTHS[first : first + num], start)
        start, first = fits.weights, first + num
        for z in fits.logits:
            logits = np.zeros((len(x), head.num_classes))
            logits[task.is_judged] = _class_logits(head, np.add(*_layer(head, learnt, z[:, task.is_judged].T)))
            yield logits


def _fit(
    strength: float,
    x: Float[np.ndarray, "n d"],
    learnt: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    head: ProbeHead,
) -> Layer:
    """Fits a regression; kernel and bias of the `layers.Logits` that computes the same."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=strength, tol=TOLERANCE, max_iter=10_000)
    with warnings.catch_warnings():
        # Where rounding ends a line search before the tolerance is met, the loss is as low as it can be told.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(x, learnt, sample_weight=weights)
    return _layer(head, regression.classes_, regression.coef_.T, regression.intercept_)


def _layer(
    head: ProbeHead,
    learnt: Int[np.ndarray, " c"],
    kernel: Float[np.ndarray, "d c"],
    bias: Float[np.ndarray, " c"] | float = 0.0,
) -> Layer:
    """Kernel and bias of `layers.Logits` from those of the classes learnt, of two of them of the second one's log-odds.

    What is linear in a kernel, as the logits of some images, can be given in its place.
    """
    bias = np.broadcast_to(bias, kernel.shape[1])
    if head.output == "sigmoid":
        return kernel, bias
    if kernel.shape[1] == 1:
        kernel, bias = kernel * [-0.5, 0.5], bias * np.array([-0.5, 0.5])
    width = sum(head.subclasses) or head.num_classes
    whole = np.zeros((len(kernel), width)), np.full(width, NEVER)
    whole[0][:, learnt], whole[1][learnt] = kernel, bias
    return whole


def _class_logits(head: ProbeHead, z: Float[np.ndarray, "n w"]) -> Float[np.ndarray, "n K"]:
    """Logits of classes from what the layer gives, as `layers.Logits` makes them."""
    if head.output == "sigmoid":
        return np.concatenate([-z / 2, z / 2], axis=1)
    return np.asarray(merge_logits(jnp.asarray(z), head.subclasses))
