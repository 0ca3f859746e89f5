"""L2-regularised logistic regression by L-BFGS: many strengths, on many parts of the rows, in one compiled program.

One after the other such regressions wait for memory: a step reads all features for one column of weights. Together they
read them once for all columns, which is a product of matrices.

Source: Nocedal and Wright, Numerical Optimization, 2nd edition 2006, algorithm 7.4, its products by the Gram matrix of
the memory (Chen, Wang and Zhou, Large-scale L-BFGS using MapReduce, NeurIPS 2014).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

MEMORY = 10
"""Steps that an L-BFGS direction is made of."""
LINE_STEPS = 4
"""Steps of Newton's method along a direction: logits are linear there, so that they cost no product."""
MAX_STEPS = 500
"""Weak penalties converge slowly, and are not those that are chosen."""
MULTIPLE = 128
"""Rows and columns are filled up with zeros to a multiple of it, so that folds of nearly one size share a program."""
ROOM = 2**30
"""Bytes that problems which are solved at once may take, about; one takes what it takes."""
TOLERANCE = 1e-5
"""Largest derivative of the mean loss at convergence, by weights of the features as they came; of the intercept it is
less. Ten times as large, probabilities are off by up to 0.003."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """What regressions are fitted to, on the device.

    Attributes:
      x: features, scaled so that a row is about 1 long, zeros, and a constant one in the last column, float32.
      scale: what the features were divided by.
      num: rows that are none of zeros.
    """

    x: Float[Array, "n d"]
    scale: float
    num: int


class Fits(NamedTuple):
    """Regressions of Q parts and S strengths.

    Attributes:
      weights: of the last strength, in the coordinates of their `Rows`: a row of them for each class, where there are
        two for the second alone.
      logits: of each row by the part that judges it; 0 of a row that none does.
      num_steps: that it took, at most.
    """

    weights: Float[Array, "Q C d"]
    logits: Float[np.ndarray, "S C n"]
    num_steps: int


class _State(NamedTuple):
    """Of an iteration, for P problems; memory: the last steps, then the changes of the gradient that they made."""

    step: Int[Array, ""]
    weights: Float[Array, "P C d"]
    logits: Float[Array, "P C n"]
    gradient: Float[Array, "P C d"]
    memory: Float[Array, "P M w"]
    gram: Float[Array, "P M M"]
    scale: Float[Array, " P"]
    is_done: Bool[Array, " P"]


def make_rows(x: Float[np.ndarray, "n d"]) -> Rows:
    """Puts features onto the device."""
    scale = float(np.sqrt(np.mean(np.einsum("nd,nd->n", x, x)))) or 1.0
    num, width = x.shape
    filled = np.zeros((_filled(num), _filled(width + 1)), np.float32)
    np.multiply(x, 1 / scale, out=filled[:num, :width], casting="same_kind")
    filled[:num, -1] = 1
    return Rows(jnp.asarray(filled), scale, num)


def fit_all(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, "Q n"],
    judged: Bool[np.ndarray, "Q n"],
    strengths: Sequence[float],
    start: Float[Array, "Q C d"] | None = None,
) -> Fits:
    """Fits a regression for each of Q weightings of the rows, and for each strength.

    What is least is the sum of the losses, weighted, times the strength (C of scikit-learn), and half the sum of
    squares of the weights; the intercept is free. A class without a row of some weight gets a very negative one.

    Args:
      labels: from 0 without gaps.
      weights: of each row in each of the Q fits.
      judged: whose logits are wanted of each of them.
      start: weights of other fits, to begin with.
    """
    num_classes = int(labels.max()) + 1
    classes = np.arange(num_classes) if num_classes > 2 else np.array([1])
    targets = np.zeros((len(classes), len(rows.x)), np.float32)
    targets[:, : rows.num] = labels == classes[:, None]
    sums = weights.sum(axis=1)
    shares = np.zeros((len(weights), len(rows.x)), np.float32)
    shares[:, : rows.num] = weights / sums[:, None]
    penalties = 1 / (np.asarray(strengths)[:, None] * sums * rows.scale**2)
    if start is None:
        start = jnp.zeros((len(weights), len(classes), rows.x.shape[1]))
    problems = [(i, part) for i in range(len(strengths)) for part in range(len(weights))]
    of_one = 4 * len(classes) * (4 * MEMORY * rows.x.shape[1] + 6 * len(rows.x))  # with what comes between
    at_once, num_steps = max(1, ROOM // of_one), 0
    logits = np.zeros((len(strengths), len(classes), rows.num), np.float32)
    fitted, tolerance = start[:0], np.float32(TOLERANCE / rows.scale)
    for first in range(0, len(problems), at_once):
        i, part = np.array(problems[first : first + at_once]).T
        found = _minimise(rows.x, targets, np.float32(penalties[i, part]), shares[part], start[part], tolerance)
        for at, by, of_problem in zip(i, part, np.asarray(found.logits), strict=True):
            logits[at][:, judged[by]] = of_problem[:, : rows.num][:, judged[by]]
        fitted = jnp.concatenate([fitted, found.weights])[-len(weights) :]
        num_steps = max(num_steps, int(found.step))
    return Fits(fitted, logits, num_steps)


def _filled(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE


class _Problems(NamedTuple):
    """P of them: the mean loss by shares that add up to 1, and half the penalty times the squares of the weights."""

    x: Float[Array, "n d"]
    targets: Float[Array, "C n"]
    penalty: Float[Array, "P 1 d"]
    shares: Float[Array, "P 1 n"]

    def logits_of(self, weights: Float[Array, "P C d"]) -> Float[Array, "P C n"]:
        """Logits of all rows."""
        num, num_classes, width = weights.shape
        return _product(weights.reshape(-1, width), self.x.T).reshape(num, num_classes, -1)

    def probabilities(self, logits: Float[Array, "P C n"]) -> Float[Array, "P C n"]:
        """Of the classes, of two of them of the second one."""
        return jax.nn.sigmoid(logits) if len(self.targets) == 1 else jax.nn.softmax(logits, axis=1)

    def gradient_at(self, weights: Float[Array, "P C d"], logits: Float[Array, "P C n"]) -> Float[Array, "P C d"]:
        """By the weights."""
        error = (self.probabilities(logits) - self.targets) * self.shares
        return _product(error.reshape(-1, len(self.x)), self.x).reshape(weights.shape) + self.penalty * weights

    def length_along(
        self, state: _State, direction: Float[Array, "P C d"], slope: Float[Array, "P C n"]
    ) -> Float[Array, " P"]:
        """How far to go: Newton's method for the root of the derivative, which rises, between bounds; 0: nowhere."""
        of_weights = _dot(self.penalty * state.weights, direction), _dot(self.penalty * direction, direction)

        def derivatives(length: Float[Array, " P"]) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
            p = self.probabilities(state.logits + length[:, None, None] * slope)
            first = _dot(self.shares * (p - self.targets), slope) + of_weights[0] + length * of_weights[1]
            mean = jnp.sum(p * slope, axis=1, keepdims=True)  # of one class the second is 0 by 0, with 1 - p
            return first, _dot(self.shares * p * (slope - mean), slope) + of_weights[1]

        def closer(_: int, at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            length, low, high = at
            first, second = derivatives(length)
            low, high = jnp.where(first < 0, length, low), jnp.where(first < 0, high, length)
            newton = jnp.minimum(length - first / second, 2 * length + 2)
            between = 0.5 * (low + jnp.minimum(high, 2 * low + 2))
            return jnp.where((newton > low) & (newton < high), newton, between), low, high

        zeros = jnp.zeros(len(direction))
        length, low, _ = lax.fori_loop(0, LINE_STEPS, closer, (zeros + 1, zeros, zeros + jnp.inf))
        at_start = _dot(state.gradient, direction)
        is_there = jnp.abs(derivatives(length)[0]) < 0.5 * jnp.abs(at_start)
        return jnp.where(at_start < 0, jnp.where(is_there, length, low), 0)  # up to `low` it goes down all the way


@jax.jit
def _minimise(
    x: Float[Array, "n d"],
    targets: Float[Array, "C n"],
    penalties: Float[Array, " P"],
    shares: Float[Array, "P n"],
    start: Float[Array, "P C d"],
    tolerance: Float[Array, ""],
) -> _State:
    """Where problems end that begin with some weights."""
    num, _, width = start.shape
    is_free = jnp.arange(width) == width - 1
    penalty = jnp.where(is_free, 0, penalties[:, None])[:, None]
    problems = _Problems(x, targets, penalty, shares[:, None])
    logits = problems.logits_of(start)
    gradient = problems.gradient_at(start, logits)
    memory, gram = jnp.zeros((num, 2 * MEMORY, start[0].size)), jnp.zeros((num, 2 * MEMORY, 2 * MEMORY))
    is_done = jnp.abs(gradient).max(axis=(1, 2)) < tolerance
    state = _State(jnp.array(0), start, logits, gradient, memory, gram, jnp.ones(num), is_done)
    return lax.while_loop(
        lambda at: (at.step < MAX_STEPS) & ~at.is_done.all(), lambda at: _step(problems, at, tolerance), state
    )


def _step(problems: _Problems, state: _State, tolerance: Float[Array, ""]) -> _State:
    direction = _direction(state)
    slope = problems.logits_of(direction)
    length = jnp.where(state.is_done, 0, problems.length_along(state, direction, slope))[:, None, None]
    weights, logits = state.weights + length * direction, state.logits + length * slope
    gradient = problems.gradient_at(weights, logits)
    at = state.step % MEMORY
    new = jnp.stack([length * direction, gradient - state.gradient], axis=1).reshape(len(length), 2, -1)
    where = jnp.array([at, at + MEMORY])
    memory = state.memory.at[:, where].set(new)
    products = _product(state.memory, new.mT).at[:, where].set(_product(new, new.mT))
    gram = state.gram.at[:, :, where].set(products).at[:, where].set(products.mT)
    curved, changed = gram[:, at, at + MEMORY], gram[:, at + MEMORY, at + MEMORY]
    scale = jnp.where(curved > 0, curved / jnp.where(changed > 0, changed, 1), state.scale)
    # A direction that leads nowhere is that of a memory to be forgotten; without one, rounding leaves no way down.
    is_stuck = length[:, 0, 0] == 0
    has_ended = is_stuck & (state.gram == 0).all(axis=(1, 2))
    gram, scale = jnp.where(is_stuck[:, None, None], 0, gram), jnp.where(is_stuck, 1, scale)
    is_done = state.is_done | has_ended | (jnp.abs(gradient).max(axis=(1, 2)) < tolerance)
    return _State(state.step + 1, weights, logits, gradient, memory, gram, scale, is_done)


def _direction(state: _State) -> Float[Array, "P C d"]:
    """Minus the gradient, times the inverse of the curvature that the memory knows of: the two loops, on coefficients.

    An entry that is still empty, or whose curvature is lost in rounding, counts for nothing.
    """
    gram, memory = state.gram, state.memory
    along = _product(memory, state.gradient.reshape(len(memory), -1, 1))[..., 0]
    newest_first = [(state.step - 1 - i) % MEMORY for i in range(MEMORY)]
    curved = [gram[:, at, at + MEMORY] for at in newest_first]
    inverse = [jnp.where(each > 0, 1 / jnp.where(each > 0, each, 1), 0) for each in curved]
    of_steps = of_changes = jnp.zeros((len(memory), MEMORY))
    alphas = []
    for at, rho in zip(newest_first, inverse, strict=True):
        alphas.append(rho * (along[:, at] - jnp.sum(gram[:, at, MEMORY:] * of_changes, axis=1)))
        of_changes = of_changes.at[:, at].set(alphas[-1])
    for at, rho, alpha in zip(newest_first[::-1], inverse[::-1], alphas[::-1], strict=True):
        products = gram[:, at + MEMORY]
        scaled = state.scale * (along[:, at + MEMORY] - jnp.sum(products[:, MEMORY:] * of_changes, axis=1))
        beta = rho * (scaled + jnp.sum(products[:, :MEMORY] * of_steps, axis=1))
        of_steps = of_steps.at[:, at].set(alpha - beta)
    coefficients = jnp.concatenate([of_steps, -state.scale[:, None] * of_changes], axis=1)
    of_memory = _product(coefficients[:, None], memory).reshape(state.gradient.shape)
    return -(state.scale[:, None, None] * state.gradient + of_memory)


_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
"""Accelerators would multiply float32 in fewer digits, which an L-BFGS direction does not survive."""


def _dot(a: Float[Array, "P C n"], b: Float[Array, "P C n"]) -> Float[Array, " P"]:
    return jnp.sum(a * b, axis=(1, 2))
