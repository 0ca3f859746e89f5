"""Depthwise convolution for CPUs: sums of shifted images, forward and backward.

XLA's program for grouped convolutions on CPU is 10 to 50 times slower than this (benchmarks/backbones.py rests on it).
The derivative is written out because the automatic one writes a padded copy of the image for every tap of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.at_hand import at_hand

Padding = tuple[tuple[int, int], tuple[int, int]]


def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw 1 c"], strides: int, padding: Padding
) -> Float[Array, "n h2 w2 c"]:
    """Convolves every channel by itself, as `lax.conv_general_dilated` with as many groups as channels does.

    bfloat16 is computed in float32, which takes a third of the time on a CPU.

    Args:
      padding: zeros ((top, bottom), (left, right)), pixels.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return cast(Array, _depthwise(x.astype(wide), kernel.astype(wide), strides, padding)).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, strides: int, padding: Padding) -> Array:
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    y: Any = 0
    for (i, j), part in _taps(padded, kernel.shape[:2], strides):
        y = y + part * kernel[i, j, 0]
    return at_hand(y)  # a layer norm would add it up wherever it reads it


def _taps(padded: Array, kernel_size: Sequence[int], strides: int) -> list[tuple[tuple[int, int], Array]]:
    """What each tap of the kernel sees: its (row, column), and the image shifted and thinned out, [..., h2, w2, c]."""
    rows, columns = ((n - k) // strides + 1 for n, k in zip(padded.shape[-3:-1], kernel_size, strict=True))
    taps = []
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            bottom, right = i + strides * (rows - 1) + 1, j + strides * (columns - 1) + 1
            taps.append(((i, j), padded[..., i:bottom:strides, j:right:strides, :]))
    return taps


def _forward(x: Array, kernel: Array, strides: int, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, kernel, strides, padding), (x, kernel)


def _backward(strides: int, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # By the image: the turned kernel over the gradient, spread out by the strides.
    config: list[tuple[int, int, int]] = [(0, 0, 0)]
    for size, taps, before, length in zip(
        x.shape[1:3], kernel.shape[:2], (p[0] for p in padding), gradient.shape[1:3], strict=True
    ):
        first = taps - 1 - before
        config.append((first, size + taps - 1 - first - ((length - 1) * strides + 1), strides - 1))
    spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*config, (0, 0, 0)])
    by_image = cast(Array, _depthwise(spread, kernel[::-1, ::-1], 1, ((0, 0), (0, 0))))

    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = [at_hand(row).sum((0, 1)) for row in _by_rows_of_kernel(padded, gradient, kernel.shape[:2], strides)]
    return by_image, jnp.stack(rows)[:, :, None]


def _by_rows_of_kernel(padded: Array, gradient: Array, kernel_size: Sequence[int], strides: int) -> Iterator[Array]:
    """For each row of the kernel the gradient by its taps, [n, h2, kw, c]: of every row of the map by itself.

    A sum over columns, written out; over all places at once XLA would write down what every tap sees.
    """
    height, width = gradient.shape[1:3]
    for i in range(kernel_size[0]):
        seen = padded[:, i : i + strides * (height - 1) + 1 : strides]
        total: Any = 0
        for j in range(width):
            total = total + seen[:, :, strides * j : strides * j + kernel_size[1]] * gradient[:, :, j : j + 1]
        yield total


_depthwise.defvjp(_forward, _backward)
