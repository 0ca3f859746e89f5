"""Arrays that XLA on a CPU computes once, and not in every operation that reads them."""

from __future__ import annotations

from typing import cast

import jax
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.plain import is_plain


def at_hand(x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
    """The same, computed in operations of its own; elsewhere than on a CPU nothing happens.

    XLA computes what is cheap wherever it is read, be it a sum of 49 images or a map that is also read turned. What a
    loop begins with is computed once; this one writes two channels over themselves.
    """
    return _written_again(x) if _is_needed() else x


def gradient_at_hand(x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
    """The same, and its gradient is `at_hand`: behind dense layers, whose own gradients read it two or three times."""
    return cast(Array, _gradient_at_hand(x)) if _is_needed() else x


def _is_needed() -> bool:
    return jax.default_backend() == "cpu" and not is_plain()


def _written_again(x: Array) -> Array:
    def write(i: Array, values: Array) -> Array:
        return lax.dynamic_update_index_in_dim(values, lax.dynamic_index_in_dim(values, i, axis=-1), i, -1)

    return lax.fori_loop(0, min(2, x.shape[-1]), write, x)


@jax.custom_vjp
def _gradient_at_hand(x: Array) -> Array:
    return x


_gradient_at_hand.defvjp(lambda x: (x, None), lambda _, gradient: (_written_again(gradient),))
