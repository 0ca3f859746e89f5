"""A person's images together: pooled log-probabilities, and how sure they may be.

Several images of one person (eye, plant, site) are several looks at one answer, and not independent ones: who adds up
their log-odds counts what they share as often as there are images, and becomes far too sure. With log-odds of equal
spread and a correlation r within a person, the best weight of the mean of n images is

    strength(n) = scale * n / (1 + (n - 1) * correlation)

of which the sum is the case r = 0 and the mean the case r = 1 (Fisher's discriminant of n equicorrelated normal
variables). Pooled log-probabilities are

    softmax(strength(n) * (mean log p - base) + prior + bias)

with base the class shares of the images (what a network trained on such images has in its odds, once an image), and
prior those of the people. Scale, correlation and bias are fitted by log-loss, on people who had no say in the network,
every person weighing the same; a normal prior of standard deviation 1 on log scale and bias keeps few people from being
followed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.errors import DataError
from fpclass.stats.decisions.thresholds import COST, OBJECTIVES, check_cost, fit_threshold
from fpclass.stats.metrics import Labels, Logits, log_softmax

POOLS = ("none", "mean", "calibrated")
SUBMISSION = "submission"
"""Rows to predict are pooled, calibrated, where their people are known; files of which nobody says so are not."""
MIN_PEOPLE = 20
"""People below whom nothing is fitted (chosen, as `fpclass.stats.decisions.rule.MIN_IMAGES`)."""
RIDGE = 1.0
"""Weight of the priors, in nats."""

Codes = Int[np.ndarray, " n"]
"""The person of each image: 0, 1, … in order of appearance, as `fpclass.stats.cohort.group_codes`."""


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How the images of a person become one answer.

    Attributes:
      method: one of `POOLS`; with "mean", strength is 1 and there is no prior.
      scale: strength of one image, above 0.
      correlation: of a person's images, in [0, 1].
      base: logarithm of each class's share of the images [K]; () for "mean".
      prior: that of its share of the people, or zeros where the answer is to be a likelihood ratio, [K].
      bias: added to each class, nats [K].
      thresholds: of the pooled probability of the second class, by objective, as of a `DecisionRule`.
      fitted_on: those people in words; "" where nothing was fitted.
      why_not: why nothing was fitted although that was asked for.
    """

    method: str
    scale: float = 1.0
    correlation: float = 1.0
    base: tuple[float, ...] = ()
    prior: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fitted_on: str = ""
    why_not: str = ""

    def __post_init__(self):
        values = (self.scale, self.correlation, *self.base, *self.prior, *self.bias, *self.thresholds.values())
        is_fine = all(map(math.isfinite, values)) and self.scale > 0 and 0 <= self.correlation <= 1
        if self.method not in POOLS or not is_fine or not len(self.base) == len(self.prior) == len(self.bias):
            raise DataError(
                f"pooling: method {self.method!r} with scale {self.scale} and correlation {self.correlation}; expected "
                f"one of {', '.join(POOLS)}, a scale above 0 and a correlation in [0, 1]; fit it again"
            )

    @classmethod
    def from_json(cls, values: Any, where: str) -> Pooling:
        """The pooling that `to_json` wrote.

        Raises:
          DataError: a key is missing or of another kind; `where` is what the message begins with.
        """
        try:
            arrays = {key: tuple(map(float, values[key])) for key in ("base", "prior", "bias")}
            numbers = {key: float(values[key]) for key in ("scale", "correlation")}
            words = {key: str(values[key]) for key in ("method", "fitted_on", "why_not")}
            thresholds = {str(name): float(value) for name, value in values["thresholds"].items()}
            return cls(**words, **numbers, **arrays, thresholds=thresholds)  # pyright: ignore[reportArgumentType]
        except (AttributeError, KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{where}: has no pooling ({error}); evaluate it again") from error

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold, for `from_json`."""
        values = dataclasses.asdict(self)
        return values | {key: list(values[key]) for key in ("base", "prior", "bias")}

    @property
    def words(self) -> str:
        """What it does, and by which people."""
        if self.method == "none":
            return "each image by itself"
        if self.method == "mean":
            why = f" (not calibrated: {self.why_not})" if self.why_not else ""
            return f"pooled over a person's images: the mean of their log-probabilities{why}"
        return (
            f"pooled over a person's images, calibrated by person (strength of one image {self.scale:.2f}, correlation "
            f"{self.correlation:.2f}, fitted on {self.fitted_on})"
        )

    @property
    def short(self) -> str:
        """What it does, for a column of a table."""
        return f"calibrated by person, fitted on {self.fitted_on}" if self.method == "calibrated" else self.method

    def strength(self, counts: np.ndarray) -> Float[np.ndarray, " g"]:
        """What the mean of so many images weighs."""
        return self.scale * counts / (1 + (counts - 1) * self.correlation)

    def of_people(self, log_probabilities: Logits, people: Codes) -> Logits:
        """Pooled log-probabilities of each person [G, K]; those of images [N, K] are calibrated as they were fitted."""
        means, counts = mean_of_people(log_probabilities, people)
        if self.method != "calibrated":
            return log_softmax(means)
        base, prior, bias = (np.array(values) for values in (self.base, self.prior, self.bias))
        return log_softmax(self.strength(counts)[:, None] * (means - base) + prior + bias)

    def apply(self, log_probabilities: Logits, people: Codes) -> Logits:
        """Log-probabilities [N, K] of images: those of the person; with "none" what came in."""
        if self.method == "none":
            return np.asarray(log_probabilities, np.float64)
        return self.of_people(log_probabilities, people)[people]


def mean_of_people(log_probabilities: Logits, people: Codes) -> tuple[Logits, Float[np.ndarray, " g"]]:
    """Mean log-probabilities of each person [G, K], and the number of images of each [G]."""
    log_probabilities = log_softmax(log_probabilities)
    counts = np.bincount(people).astype(np.float64)
    sums = np.stack([np.bincount(people, column) for column in log_probabilities.T], axis=1)
    return sums / counts[:, None], counts


def labels_of_people(labels: Labels, people: Codes) -> Labels | None:
    """The class of each person [G]; None where somebody has images of several."""
    first = np.unique(people, return_index=True)[1]
    of_person = labels[first]
    return of_person if (of_person[people] == labels).all() else None


def fit_pooling(
    log_probabilities: Logits, labels: Labels, people: Codes, fitted_on: str = "", *, as_ratio: bool = False
) -> Pooling:
    """Fits the calibrated pooling on people whom the network has not seen.

    Args:
      log_probabilities: of their images [N, K], calibrated as those are that it will be applied to.
      labels: class of each image [N]; a person is of one class only.
      as_ratio: leave the prior out and let every class weigh the same: of two classes the difference of the pooled
        log-probabilities is then the logarithm of a likelihood ratio, whatever the shares of the classes. That is the
        prior-weighted logistic regression of Brümmer and du Preez (2006), with effective prior one half.
    """
    from scipy.optimize import minimize

    means, counts = mean_of_people(log_probabilities, people)
    num_people, num_classes = means.shape
    of_person = labels_of_people(labels, people)
    if of_person is None:
        raise ValueError("a person has images of several classes")
    base, shares = (log_shares(of_each, num_classes) for of_each in (labels, of_person))
    prior = np.zeros(num_classes) if as_ratio else shares
    weights = np.ones(num_people)
    if as_ratio:
        present = np.bincount(of_person, minlength=num_classes)
        weights = num_people / (present > 0).sum() / present[of_person]
    evidence, wanted = means - base, np.eye(num_classes)[of_person]

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_scale, correlation, bias = parameters[0], parameters[1], parameters[2:]
        shared = 1 + (counts - 1) * correlation
        strength = np.exp(log_scale) * counts / shared
        pooled = log_softmax(strength[:, None] * evidence + prior + bias)
        loss = -weights @ pooled[np.arange(num_people), of_person]
        errors = (np.exp(pooled) - wanted) * weights[:, None]
        by_strength = (errors * evidence).sum(axis=1) * strength
        gradient = np.concatenate(
            [[by_strength.sum(), -(by_strength * (counts - 1) / shared).sum()], errors.sum(axis=0)]
        )
        gradient[0] += RIDGE * log_scale
        gradient[2:] += RIDGE * bias
        return (loss + RIDGE / 2 * (log_scale**2 + bias @ bias)) / num_people, gradient / num_people

    start = np.concatenate([[0.0, 0.5 if counts.max() > 1 else 1.0], np.zeros(num_classes)])
    bounds = [(-5.0, 5.0), (0.0, 1.0)] + [(None, None)] * num_classes
    best = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13})
    bias = best.x[2:]
    return Pooling(
        "calibrated",
        scale=float(np.exp(best.x[0])),
        correlation=float(best.x[1]),
        base=tuple(base.tolist()),
        prior=tuple(prior.tolist()),
        bias=tuple((bias - bias.mean()).tolist()),
        fitted_on=fitted_on,
    )


def method_of(pool: str) -> str:
    """The one of `POOLS` that is fitted for a value of `predict.pool`."""
    return "calibrated" if pool == SUBMISSION else pool


def make_pooling(method: str, log_probabilities: Logits, labels: Labels, people: Codes, fitted_on: str) -> Pooling:
    """The pooling that `predict.pool` asks for; the mean, with the reason, where too few people are there to fit on."""
    if method != "calibrated":
        return Pooling(method)
    num_people = len(np.unique(people))
    if num_people < MIN_PEOPLE:
        return Pooling("mean", why_not=f"{num_people} people to fit on, it takes {MIN_PEOPLE}")
    return fit_pooling(log_probabilities, labels, people, fitted_on)


def with_thresholds(
    pooling: Pooling, log_probabilities: Logits, labels: Labels, people: Codes, cost: Sequence[Sequence[float]] = ()
) -> Pooling:
    """The pooling with thresholds of two classes that suit people: single images' are of less sure probabilities.

    Arguments as `fit_pooling`; `cost` is a matrix as `check_cost` takes it.
    """
    of_person = labels_of_people(labels, people)
    if of_person is None or np.shape(log_probabilities)[1] != 2:
        return pooling
    pooled, matrix = pooling.of_people(log_probabilities, people), check_cost(cost, 2) if cost else None
    objectives = OBJECTIVES if matrix is None else (*OBJECTIVES, COST)
    fitted = {name: fit_threshold(pooled, of_person, name, matrix) for name in objectives}
    return dataclasses.replace(pooling, thresholds=fitted)


def independent_sum(log_probabilities: Logits, labels: Labels, people: Codes) -> Pooling:
    """What takes a person's images for independent, to show what that does: the sum, prior counted once."""
    num_classes = np.shape(log_probabilities)[1]
    base = log_shares(labels, num_classes)
    of_person = labels_of_people(labels, people)
    prior = log_shares(labels if of_person is None else of_person, num_classes)
    zeros = (0.0,) * num_classes
    return Pooling("calibrated", 1.0, 0.0, tuple(base.tolist()), tuple(prior.tolist()), zeros)


def log_shares(labels: Labels, num_classes: int) -> Float[np.ndarray, " k"]:
    """Logarithms of the classes' shares, half an image added to each: none is 0."""
    counts = np.bincount(labels, minlength=num_classes) + 0.5
    return np.log(counts / counts.sum())
