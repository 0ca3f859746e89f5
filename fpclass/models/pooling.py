"""Pooling as maxima and sums of shifted images, rows first: XLA's own window programs are several times slower on CPU.

Where values tie, the gradient of a maximum is divided among them; the originals give it to one of them. Behind a ReLU,
where ties are of zeros, neither lets any of it through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.plain import is_plain


def max_pool(
    x: Float[Array, "n h w c"], size: int, strides: int, padding: int = 0, *, to_first: bool = False
) -> Float[Array, "n h2 w2 c"]:
    """Largest value of every window; rows and columns of padding never win. All sizes are in pixels.

    Args:
      to_first: whether the first of equals has all of the gradient, as in PyTorch and XLA: the gradient at zeros
        behind a ReLU is what some maps are made of.
    """
    if is_plain():
        edges: Any = ((padding, padding), (padding, padding))
        return nn.max_pool(x, window_shape=(size, size), strides=(strides, strides), padding=edges)
    return _reduce(_pad(x, padding, -jnp.inf), size, strides, _larger_or_first if to_first else jnp.maximum)


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


def _larger_or_first(x: Array, other: Array) -> Array:
    return jnp.where((other > x) | jnp.isnan(other), other, x)


def _reduce(x: Array, size: int, strides: int, combine: Callable[[Array, Array], Array]) -> Array:
    for axis in (1, 2):
        length = strides * ((x.shape[axis] - size) // strides) + 1
        parts = [x[(slice(None),) * axis + (slice(i, i + length, strides),)] for i in range(size)]
        x = parts[0]
        for part in parts[1:]:
            x = combine(x, part)
    return x
