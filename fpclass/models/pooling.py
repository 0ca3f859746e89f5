"""Pooling as maxima and sums of shifted images, rows first: XLA's own window programs are several times slower on CPU.

Where values tie, the gradient of a maximum is divided among them; the originals give it to one of them. Behind a ReLU,
where ties are of zeros, neither lets any of it through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.plain import is_plain


def max_pool(x: Float[Array, "n h w c"], size: int, strides: int, padding: int = 0) -> Float[Array, "n h2 w2 c"]:
    """Largest value of every window; rows and columns of padding never win. All sizes are in pixels."""
    if is_plain():
        edges: Any = ((padding, padding), (padding, padding))
        return nn.max_pool(x, window_shape=(size, size), strides=(strides, strides), padding=edges)
    return _reduce(_pad(x, padding, -jnp.inf), size, strides, jnp.maximum)


def max_pool_apart(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    """Largest value of windows of `size` x `size` pixels side by side; what is left at the edges is dropped.

    The first of equals has all of the gradient, as in PyTorch and XLA: the gradient at zeros behind a ReLU is what some
    maps are made of. Differentiable in reverse mode; of the input only one byte per window is kept for it.
    """
    if is_plain():
        return nn.max_pool(x, window_shape=(size, size), strides=(size, size))  # by name, as jax2onnx reads them
    rows, columns = x.shape[1] // size, x.shape[2] // size
    return cast(Array, _largest(x[:, : rows * size, : columns * size], size))


def avg_pool(
    x: Float[Array, "n h w c"], size: int, strides: int, padding: int = 0, *, counts_padding: bool = True
) -> Float[Array, "n h2 w2 c"]:
    """Average of every window; the padding is zeros. All sizes are in pixels.

    Args:
      counts_padding: whether they count, as in PyTorch, or windows at the edge divide by fewer values, as in Keras.
    """
    total = _reduce(_pad(x, padding, 0), size, strides, jnp.add)
    if counts_padding or not padding:
        return total / size**2
    inside = _pad(jnp.ones((1, *x.shape[1:3], 1), x.dtype), padding, 0)
    return total / _reduce(inside, size, strides, jnp.add)


def _pad(x: Array, padding: int, value: float) -> Array:
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jnp.pad(x, edges, constant_values=value) if padding else x


def _reduce(x: Array, size: int, strides: int, combine: Callable[[Array, Array], Array]) -> Array:
    for axis in (1, 2):
        length = strides * ((x.shape[axis] - size) // strides) + 1
        parts = [x[(slice(None),) * axis + (slice(i, i + length, strides),)] for i in range(size)]
        x = parts[0]
        for part in parts[1:]:
            x = combine(x, part)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest(x: Array, size: int) -> Array:
    return _largest_and_place(x, size)[0]


def _largest_and_place(x: Array, size: int) -> tuple[Array, Array]:
    """Of every window the largest value, and the number of the first pixel, row by row, that has it."""
    n, height, width, channels = x.shape
    windows = x.reshape(n, height // size, size, width // size, size, channels)
    pixels = [windows[:, :, i, :, j] for i in range(size) for j in range(size)]
    # Chained rather than reduced: as slices they fuse into one pass.
    largest = functools.reduce(jnp.maximum, pixels)
    place: Any = len(pixels) - 1
    for i in reversed(range(len(pixels) - 1)):
        place = jnp.where(pixels[i] == largest, i, place)
    return largest, place.astype(jnp.uint8)


def _spread(size: int, place: Array, gradient: Array) -> tuple[Array]:
    """Each window's gradient at its place, and zeros."""
    numbers = jnp.arange(size**2, dtype=jnp.uint8).reshape(size, 1, size, 1)
    windows = jnp.where(place[:, :, None, :, None] == numbers, gradient[:, :, None, :, None], 0)
    n, rows, columns, channels = gradient.shape
    return (windows.reshape(n, rows * size, columns * size, channels),)


_largest.defvjp(_largest_and_place, _spread)
