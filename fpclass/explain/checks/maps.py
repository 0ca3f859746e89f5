"""Maps as arrays: functions that make them, references that need no network, and how alike two of them are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fpclass.common.parallel import launch_each

MapFunction: TypeAlias = Callable[[Float[Array, "n h w c"], Int[Array, " n"]], Float[Array, "n h2 w2"]]
"""Raw maps of normalised images, for a class of each; what speaks most for the class is largest."""
Function: TypeAlias = Callable[..., Array]
BATCH_SIZE = 16
"""Images at once: few enough for the images of a fold, and for any network."""


def in_batches(function: Function, batch_size: int) -> Callable[..., np.ndarray]:
    """The same function of arrays [n, …], computed batch by batch.

    The last batch is filled up with copies of its last row: another number of rows compiles nothing.
    """

    def compute(*arrays: np.ndarray) -> np.ndarray:
        num_rows = len(arrays[0])

        def of_batch(i: int) -> Any:
            rows = np.minimum(np.arange(i * batch_size, (i + 1) * batch_size), num_rows - 1)
            return function(*(jnp.asarray(array[rows]) for array in arrays))

        parts = launch_each(of_batch, math.ceil(num_rows / batch_size))
        return np.concatenate([np.asarray(part) for part in parts])[:num_rows]

    return compute


def rank_correlation(maps: Float[np.ndarray, "n h w"], others: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    """Spearman's correlation over the places of each pair of maps; 0 where one is the same everywhere."""
    from scipy import stats

    ranks = [stats.rankdata(of.reshape(len(of), -1), axis=1) for of in (maps, others)]
    centred = [of - of.mean(axis=1, keepdims=True) for of in ranks]
    lengths = [np.sqrt((of**2).sum(axis=1)) for of in centred]
    product = lengths[0] * lengths[1]
    return (centred[0] * centred[1]).sum(axis=1) / np.where(product > 0, product, 1)


def is_blank(maps: Float[np.ndarray, "n h w"]) -> np.ndarray:
    """Whether each map is the same everywhere, or not finite: bool [n]."""
    flat = maps.reshape(len(maps), -1)
    return ~np.isfinite(flat).all(axis=1) | (np.ptp(flat, axis=1) == 0)


def resized(maps: Float[np.ndarray, "n h w"], size: tuple[int, int]) -> Float[np.ndarray, "n H W"]:
    """Maps at another (height, width): linear, averaged where it is smaller."""
    return np.asarray(jax.image.resize(jnp.asarray(maps, jnp.float32), (len(maps), *size), "linear"))


def moved(maps: Float[np.ndarray, "n h w"], seed: int) -> Float[np.ndarray, "n h w"]:
    """A random map for each that is as smooth and as uneven as it: itself, mirrored and moved round by chance.

    Independent noise would be no fair comparison: single pixels that are taken away here and there disturb a network
    more than any region does.
    """
    rng = np.random.default_rng(seed)
    result = np.empty_like(maps)
    for i, heat in enumerate(maps):
        steps = tuple(int(rng.integers(side)) for side in heat.shape)
        mirrored = heat[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        result[i] = np.roll(mirrored, steps, axis=(0, 1))
    return result


def edges(images: Float[Array, "n h w c"], classes: Int[Array, " n"]) -> Float[Array, "n h w"]:
    """Edges (Sobel) of the channels' mean, a map that knows nothing of any network."""
    grey = jnp.pad(images.mean(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = grey[:, 2:] - grey[:, :-2]
    right = grey[:, :, 2:] - grey[:, :, :-2]
    dy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    dx = right[:, :-2] + 2 * right[:, 1:-1] + right[:, 2:]
    return jnp.hypot(dx, dy)
