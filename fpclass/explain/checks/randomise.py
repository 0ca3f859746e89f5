"""The randomised-weights check: a map that shows what was learnt changes when what was learnt is destroyed.

From the head down to the first stage, more and more stages get the weights that a training might begin with; after
each, the maps are compared with those of the trained network.

Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3 (cascading randomisation). Unlike
  theirs, the batch norms of random stages get the statistics of what they now see: with those of the trained network
  nearly every network is dead, and a map of nothing passes any check.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fpclass.explain.checks.maps import BATCH_SIZE, in_batches, is_blank, rank_correlation
from fpclass.models.network import Network

MAX_STEPS = 8
"""Steps from the trained network to a random one, at most."""
NUM_DRAWS = 3
"""Random networks of each step: in about every other one nothing speaks for the class, and a map that is cut off at 0
shows nothing."""
BATCH = 64
"""Images that statistics are taken from, at most."""


@dataclasses.dataclass(frozen=True)
class Cascade:
    """How alike maps are to those of the trained network.

    Attributes:
      stages: the last one to lose its weights, of each step.
      correlations: rank correlation of the maps' sizes (signs left out), by step and image: mean over the random
        networks that give a map; nan where none does, or the trained network's is the same everywhere.
      blank: share of the random networks whose map is the same everywhere, by step and image.
    """

    stages: tuple[str, ...]
    correlations: Float[np.ndarray, "t n"]
    blank: Float[np.ndarray, "t n"]


def cascade(
    make_maps: Callable[[dict[str, Any], Array, Array], Array],
    variables: dict[str, Any],
    stages: Sequence[str],
    randomise: Callable[[Sequence[str], int], dict[str, Any]],
    images: Float[np.ndarray, "n h w c"],
    classes: Int[np.ndarray, " n"],
    *,
    batch_size: int = BATCH_SIZE,
) -> Cascade:
    """Maps of ever more random networks against those of the trained one.

    Args:
      make_maps: maps of a network with these variables, of normalised images and classes.
      stages: in the order of the data flow, as `weighted_stages`.
      randomise: variables of which some stages are random, by the number of the draw; as `Randomiser`.
    """

    def maps_of(of: dict[str, Any]) -> np.ndarray:
        return np.abs(in_batches(lambda x, k: make_maps(of, x, k), batch_size)(images, classes))

    trained = maps_of(variables)
    downwards = stages[::-1]
    ends = np.unique(np.linspace(1, len(downwards), min(MAX_STEPS, len(downwards))).round().astype(int))
    shape = len(ends), NUM_DRAWS, len(images)
    correlations, blank = np.empty(shape), np.empty(shape, bool)
    for step, end in enumerate(ends.tolist()):
        for draw in range(NUM_DRAWS):
            maps = maps_of(randomise(downwards[:end], draw))
            blank[step, draw] = is_blank(maps)
            alike = rank_correlation(np.nan_to_num(trained), np.nan_to_num(maps))
            correlations[step, draw] = np.where(is_blank(maps) | is_blank(trained), np.nan, alike)
    num_compared = np.isfinite(correlations).sum(axis=1)
    means = np.where(num_compared > 0, np.nansum(correlations, axis=1) / np.maximum(num_compared, 1), np.nan)
    last: tuple[str, ...] = tuple(str(downwards[end - 1]) for end in ends)
    return Cascade(last, means, blank.mean(axis=1))


def weighted_stages(model: nn.Module, image_shape: tuple[int, ...]) -> list[str]:
    """What has parameters directly below `params`, in the order of the data flow, for images of [h, w, c]."""
    names: list[str] = []

    def trace(images: Array) -> None:
        # What leaves a traced function is sorted by name; in here it still is in the order in which it was made.
        variables: Any = model.init(jax.random.key(0), images, train=False)
        names.extend(variables.get("params", {}))

    jax.eval_shape(trace, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return names


class Randomiser:
    """Variables of a trained network, some of whose stages are as before a training."""

    def __init__(self, model: nn.Module, variables: dict[str, Any], images: Float[np.ndarray, "n h w c"], seed: int):
        """Takes the trained variables, and normalised images from which batch norms take their statistics."""
        self._variables, self._seed = variables, seed
        self._images = jnp.asarray(images[:BATCH])
        self._learning = model.clone(batch_norm="train_all") if isinstance(model, Network) else model

    def __call__(self, stages: Sequence[str], draw: int) -> dict[str, Any]:
        """The variables with fresh parameters below some stages; a draw gives a stage the same ones whatever others."""
        fresh = {
            stage: _fresh(self._variables["params"][stage], [self._seed, draw, *stage.encode()]) for stage in stages
        }
        mixed = {**self._variables, "params": {**self._variables["params"], **fresh}}
        statistics = self._variables.get("batch_stats", {})
        seen = self._statistics(mixed) if statistics.keys() & set(stages) else {}
        return {**mixed, "batch_stats": {**statistics, **{name: seen[name] for name in stages if name in seen}}}

    def _statistics(self, variables: dict[str, Any]) -> dict[str, Any]:
        """What batch norms meet in these images, whatever their momentum m: from s they go to (1 - m) s + m batch."""

        def step_from(value: float) -> Any:
            start = jax.tree.map(lambda x: jnp.full_like(x, value), variables["batch_stats"])
            return _updated(self._learning, {**variables, "batch_stats": start}, self._images)

        def solve(from_0: Array, from_1: Array, trained: Array) -> Array:
            momentum = 1 - (from_1 - from_0)
            return jnp.where(momentum > 0, from_0 / jnp.where(momentum > 0, momentum, 1), trained)

        return jax.tree.map(solve, step_from(0.0), step_from(1.0), variables["batch_stats"])


@partial(jax.jit, static_argnames=("model",))
def _updated(model: nn.Module, variables: dict[str, Any], images: Array) -> Any:
    """The statistics of batch norms after a step of training."""
    dropout = {"dropout": jax.random.key(0)}
    return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=dropout)[1]["batch_stats"]


def _fresh(params: Any, seed: list[int]) -> Any:
    """Parameters as at the beginning: kernels drawn for layers with ReLU (He et al., ICCV 2015), biases 0, scales 1.

    Not by the initialisers of the network, which take minutes to compile where there are many.
    """
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Array) -> Array:
        if leaf.ndim > 1:
            deviation = np.sqrt(2 / max(1, math.prod(leaf.shape[:-1])))
            return jnp.asarray(rng.normal(0, deviation, leaf.shape), leaf.dtype)
        is_shift = any(word in str(path[-1]) for word in ("bias", "mean")) if path else False
        return jnp.full_like(leaf, 0.0 if is_shift else 1.0)

    return jax.tree_util.tree_map_with_path(draw, params)
