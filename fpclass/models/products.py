"""Products of matrices whose bfloat16 operands are summed in float32.

Accelerators sum so anyway. XLA on a CPU makes float32 of bfloat16 operands, which gains nothing, unless it is asked for
sums in float32: only then does it use the processor's own instructions (benchmarks/bfloat16.py). Automatic
differentiation would hand it a float32 gradient with a bfloat16 operand, for which there are none: hence the derivative
is written out.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float


def matmul(x: Float[Array, "*d c"], kernel: Float[Array, "c f"]) -> Float[Array, "*d f"]:
    """`x @ kernel`, in the type of both."""
    if not (is_narrow(x) and has_instructions()):
        return x @ kernel
    return cast(Array, _matmul(x.reshape(-1, x.shape[-1]), kernel)).reshape(*x.shape[:-1], -1)


def dense_product(x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None) -> Array:
    """`matmul` as `flax.linen.Dense` calls its `dot_general`."""
    del dimension_numbers, precision  # last axis by first
    return matmul(x, kernel)


def wide_bias(*arrays: Array | None, dtype: Any = None, inexact: bool = True) -> list[Array | None]:
    """`flax.linen.Dense`'s `promote_dtype` that leaves the bias in float32 or better, as the sum that is its gradient.

    Of bfloat16 XLA on a CPU computes that sum in windows, which took a quarter of a step.
    """
    x, kernel, bias = arrays
    return [*promote_dtype(x, kernel, dtype=dtype, inexact=inexact), None if bias is None else widened(bias)]


def scaled(x: Float[Array, "*d c"], scale: Array) -> Float[Array, "*d c"]:
    """`x * scale` in the type of `x`, multiplied, and summed for the gradient by the scale, as `wide_bias` is."""
    return (x * widened(scale)).astype(x.dtype)


def widened(x: Array) -> Array:
    """`x` in float32 or better."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def einsum(subscripts: str, x: Array, y: Array) -> Array:
    """`jnp.einsum` of two arrays of one type, in float32 or better."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if is_narrow(x):  # XLA refuses some products of more than two axes
        x, y = x.astype(wide), y.astype(wide)
    return jnp.einsum(subscripts, x, y, preferred_element_type=wide)


def is_narrow(x: Array) -> bool:
    """Whether these are numbers whose products need care: bfloat16 on a CPU."""
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


@functools.cache
def has_instructions() -> bool:
    """Whether this processor says that it multiplies bfloat16."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512_bf16" in cpuinfo.read_text()


@jax.custom_vjp
def _matmul(x: Float[Array, "n c"], kernel: Float[Array, "c f"]) -> Float[Array, "n f"]:
    return jnp.matmul(x, kernel, preferred_element_type=jnp.float32).astype(x.dtype)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if x.shape[1] <= gradient.shape[1]:  # the smaller one is turned
        by_kernel = _matmul(_turned(x), gradient)
    else:
        by_kernel = _matmul(_turned(gradient), x).T
    return _matmul(gradient, _turned(kernel)), by_kernel


_matmul.defvjp(_forward, _backward)


def _turned(x: Float[Array, "a b"]) -> Float[Array, "b a"]:
    """`x.T`, column by column.

    Of a product that sees a transposed operand XLA makes one of float32, which takes twice the time.
    """
    a, b = x.shape
    columns = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(1,), start_index_map=(1,))
    return lax.gather(x, jnp.arange(b)[:, None], columns, (a, 1), mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
