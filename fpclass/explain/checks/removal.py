"""Deletion and insertion: how fast the score falls, or rises, as the pixels that a map marks go, or come.

Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.2. Theirs are pixels deleted to a constant, and inserted
  into a blurred image; here the constant is each image's own median colour, of a print its paper.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fpclass.explain.checks.maps import BATCH_SIZE, Function, in_batches, resized

NUM_STEPS = 16
"""Steps in which all pixels go."""
BLUR = 0.1
"""Standard deviation of the blur that an image begins with, of its shorter side."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Scores of each image, in [0, 1], after 0, 1/S, …, 1 of its pixels are deleted, or inserted."""

    deletion: Float[np.ndarray, "n s"]
    insertion: Float[np.ndarray, "n s"]


def area(curves: Float[np.ndarray, "n s"]) -> Float[np.ndarray, " n"]:
    """Area under each curve over the share of the pixels, in [0, 1]."""
    return np.trapezoid(curves, dx=1 / (curves.shape[1] - 1), axis=1)


def removal_curves(
    score: Function,
    images: Float[np.ndarray, "n h w c"],
    classes: Int[np.ndarray, " n"],
    maps: Float[np.ndarray, "n h2 w2"],
    *,
    seed: int,
    num_steps: int = NUM_STEPS,
    batch_size: int = BATCH_SIZE,
) -> Curves:
    """Deletes and inserts the pixels of images in the order of their maps, largest first.

    Args:
      score: probability [n] that a network gives the classes, of normalised images and classes.
      maps: finite; equal places of a map follow in random order.
    """
    order = pixel_order(maps, images.shape[1:3], seed)
    empty = np.broadcast_to(np.median(images, axis=(1, 2), keepdims=True), images.shape)

    compute = in_batches(lambda *arrays: score(_replaced(*arrays[:4]), arrays[4]), batch_size)

    def curve(come: np.ndarray, stay: np.ndarray) -> np.ndarray:
        shares = [np.full(len(images), share, np.float32) for share in np.linspace(0, 1, num_steps + 1)]
        return np.stack([compute(come, stay, order, share, classes) for share in shares], axis=1)

    return Curves(deletion=curve(empty, images), insertion=curve(images, _blurred(images)))


def pixel_order(
    maps: Float[np.ndarray, "n h2 w2"], image_size: tuple[int, int], seed: int
) -> Float[np.ndarray, "n h w"]:
    """When each pixel's turn is, as a share of all pixels in [0, 1): those where the map is largest first.

    Where a map is equal, as where it is cut off at 0, places follow by chance, each place of the map as a whole.
    """
    chance = np.random.default_rng(seed).random(maps.shape, np.float32)
    keys = [resized(of, image_size).reshape(len(maps), -1) for of in (chance, -maps)]
    turns = np.empty(keys[0].shape, np.float32)
    places = np.arange(turns.shape[1], dtype=np.float32) / turns.shape[1]
    for i in range(len(maps)):
        turns[i, np.lexsort((keys[0][i], keys[1][i]))] = places
    return turns.reshape(-1, *image_size)


@jax.jit
def _replaced(come: Array, stay: Array, order: Array, share: Array) -> Array:
    """Images whose first pixels are those of other images, by a share of all pixels of each."""
    return jnp.where((order < share[:, None, None])[..., None], come, stay)


def _blurred(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
    from scipy import ndimage

    sigma = BLUR * min(images.shape[1:3])
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")
