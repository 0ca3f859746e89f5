"""Maps of many images, or of many versions of one, in parts that memory and cache hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree

from fpclass.common.parallel import launch_each
from fpclass.common.threads import num_cores
from fpclass.explain.targets import Target
from fpclass.models.parts import EVAL_BATCH, eval_batch, part_size


def in_shares(function: Callable[[Any], Array], rows: PyTree) -> Float[np.ndarray, "n ..."]:
    """A compiled function of rows, each core of a CPU at a share of them; the result is that of all rows, float32.

    Args:
      rows: NumPy arrays with the same first axis [n, …]. Shares are equal, so that one program serves them: the last
        one begins earlier where they do not divide.
    """
    num_rows = len(jax.tree.leaves(rows)[0])
    size = math.ceil(num_rows / num_cores()) if jax.default_backend() == "cpu" else num_rows
    shares = [slice(start := min(end, num_rows) - size, start + size) for end in range(size, num_rows + size, size)]
    results = list(launch_each(lambda i: function(jax.tree.map(lambda x: x[shares[i]], rows)), len(shares)))
    found = np.empty((num_rows, *results[0].shape[1:]), np.float32)
    for share, result in zip(shares, results, strict=True):
        found[share] = result
    return found


def in_parts(function: Callable[[Any], Array], rows: PyTree, size: int) -> Array:
    """A function of rows, applied to so many of them at once; the result is that of all rows.

    Args:
      rows: arrays with the same first axis [n, …]; the last part is filled up with the first rows.
    """
    num_rows = len(jax.tree.leaves(rows)[0])
    size = min(size, num_rows)
    missing = -num_rows % size
    parts = jax.tree.map(lambda x: jnp.concatenate((x, x[:missing])).reshape(-1, size, *x.shape[1:]), rows)
    result = lax.map(function, parts)
    return result.reshape(-1, *result.shape[2:])[:num_rows]


def at_once(image_shape: tuple[int, ...], variables: dict[str, Any]) -> int:
    """Images [h, w, c] that go through a network at once."""
    shape = (1, *image_shape)
    return part_size(eval_batch(shape, EVAL_BATCH), shape, variables["params"])


def scores(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: Target
) -> Float[Array, " n"]:
    """What the network says of images, by a target of each, or by one for all of them."""
    logits: Any = model.apply(variables, images, train=False)
    return target.of(logits)
