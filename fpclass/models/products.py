"""Products of matrices whose bfloat16 operands are summed in float32, forward and backward.

Accelerators sum so anyway. XLA on a CPU makes float32 of bfloat16 operands, and takes as long as for those, unless it
is asked for sums in float32: only then does it use the processor's own instructions (benchmarks/bfloat16.py).
Automatic differentiation asks for products of a float32 gradient with a bfloat16 operand, which have no such
instruction: hence the derivative is written out.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def matmul(x: Float[Array, "*d c"], kernel: Float[Array, "c f"]) -> Float[Array, "*d f"]:
    """`x @ kernel`, in the type of both."""
    if not is_narrow(x):
        return x @ kernel
    return einsum("nc,cf->nf", x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


def einsum(subscripts: str, x: Array, y: Array, *, wide: bool = False) -> Array:
    """`jnp.einsum` of two arrays of one type, every index of which is in the other one or in the result.

    Args:
      wide: the result is float32 or better; otherwise it has the type of the arrays.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32) if wide else x.dtype
    if not is_narrow(x):
        return jnp.einsum(subscripts, x, y, preferred_element_type=dtype)
    return cast(Array, _einsum(subscripts, x, y)).astype(dtype)


def dense_product(x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None) -> Array:
    """`matmul` as `flax.linen.Dense` calls its `dot_general`."""
    del dimension_numbers, precision  # last axis by first
    return matmul(x, kernel)


def is_narrow(x: Array) -> bool:
    """Whether sums of products have to be asked for in float32."""
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _einsum(subscripts: str, x: Array, y: Array) -> Array:
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _forward(subscripts: str, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return _einsum(subscripts, x, y), (x, y)


def _backward(subscripts: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (x, y), gradient = saved, gradient.astype(saved[0].dtype)
    inputs, of_result = subscripts.split("->")
    of_x, of_y = inputs.split(",")
    by_x = _einsum(f"{of_result},{of_y}->{of_x}", gradient, y)
    by_y = _einsum(f"{of_x},{of_result}->{of_y}", x, gradient)
    return by_x.astype(x.dtype), by_y.astype(y.dtype)


_einsum.defvjp(_forward, _backward)
