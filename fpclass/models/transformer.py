"""Parts of transformers and their relatives: layer norm, dense layers, MLP and self-attention over the last axes.

The derivatives of GELU, attention and layer norm are written out: they keep what they begin with and what a product
reads, where automatic differentiation keeps most of what is between, of which a CPU has to write every byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.at_hand import gradient_at_hand
from fpclass.models.network import Mode
from fpclass.models.normalisation import layer_normalised
from fpclass.models.plain import with_derivative
from fpclass.models.products import dense_product, einsum, wide_bias, widened

Tokens = Float[Array, "n t c"]
small_normal = nn.initializers.normal(0.02)
"""What torchvision's trunc_normal_(std=0.02) is: it truncates at ±2, not at two standard deviations."""


class LayerNorm(nn.Module):
    """Layer norm over the last axis; statistics in float32 or better, the result has the type of the input."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*d c"]) -> Float[Array, "*d c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return layer_normalised(x, scale, bias, self.epsilon)


def layer_norm(x: Float[Array, "*d c"], name: str, epsilon: float = 1e-6) -> Float[Array, "*d c"]:
    """`LayerNorm` by a name."""
    return LayerNorm(epsilon, name=name)(x)


def linear(
    x: Float[Array, "*d c"],
    features: int,
    name: str,
    kernel_init: nn.initializers.Initializer = small_normal,
    *,
    use_bias: bool = True,
) -> Float[Array, "*d f"]:
    """A dense layer over the last axis that computes in the type of the input."""
    dense = nn.Dense(
        features,
        use_bias,
        x.dtype,
        kernel_init=kernel_init,
        dot_general=dense_product,
        promote_dtype=wide_bias,
        name=name,
    )
    return dense(x).astype(x.dtype)


class Norm(nn.Module):
    """Layer norm over the last axis, as a stage."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*d c"], mode: Mode) -> Float[Array, "*d c"]:
        return layer_norm(x, "norm", self.epsilon)


def gelu(x: Array) -> Array:
    """GELU itself, not the approximation by a tanh. Source: Hendrycks and Gimpel, 2016, equation 1."""
    return cast(Array, _gelu(x))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    wide = widened(x)
    return (0.5 * wide * (1 + lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype), x


def _gelu_backward(narrow: Array, gradient: Array) -> tuple[Array]:
    x = widened(narrow)
    # By erf(-u), as XLA would compute the forward pass' erf(u) once, and keep it until here.
    below = 0.5 - 0.5 * lax.erf(x * -math.sqrt(0.5))
    density = jnp.exp(-0.5 * jnp.square(x)) / math.sqrt(2 * math.pi)
    return ((gradient * (below + x * density)).astype(narrow.dtype),)


_gelu = with_derivative(_gelu_forward, _gelu_backward)


class MLP(nn.Module):
    """Dense layer, activation, dense layer back to as many features as came in; the hidden one is `ratio` as wide."""

    ratio: int = 4
    kernel_init: nn.initializers.Initializer = small_normal
    activation: Callable[[Array], Array] = gelu

    @nn.compact
    def __call__(self, x: Float[Array, "*d c"]) -> Float[Array, "*d c"]:
        y = gradient_at_hand(linear(x, self.ratio * x.shape[-1], "expand", self.kernel_init))
        return linear(self.activation(y), x.shape[-1], "project", self.kernel_init)


def attention(
    query: Float[Array, "*n q h f"],
    key: Float[Array, "*n t h f"],
    value: Float[Array, "*n t h f"],
    bias: Float[Array, "*#n #h q t"] | None = None,
) -> Float[Array, "*n q c"]:
    """Scaled dot-product attention of h heads, side by side; `bias` is added to the logits [head, query, key].

    The softmax is in float32 or better.

    Source: Vaswani et al., Attention Is All You Need, NIPS 2017, section 3.2.
    """
    query, key, value = (jnp.swapaxes(x, -3, -2) for x in (query, key, value))  # heads first
    y = jnp.swapaxes(cast(Array, _attend(query, key, value, bias)), -3, -2)
    return y.reshape(*y.shape[:-2], -1)


def _attend_forward(query: Array, key: Array, value: Array, bias: Array | None) -> tuple[Array, tuple]:
    logits = einsum("...qf,...tf->...qt", query * query.shape[-1] ** -0.5, key)
    weights = nn.softmax(logits if bias is None else logits + bias).astype(query.dtype)
    y = einsum("...qt,...tf->...qf", weights, value).astype(query.dtype)
    return y, (query, key, value, bias, weights, y)


def _attend_backward(saved: tuple, gradient: Array) -> tuple[Array, Array, Array, Array | None]:
    query, key, value, bias, weights, y = saved
    dtype, scale = query.dtype, query.shape[-1] ** -0.5
    by_value = einsum("...qt,...qf->...tf", weights, gradient)
    by_weights = einsum("...qf,...tf->...qt", gradient, value)
    # What a softmax takes off all logits of a query alike: the sum over t of weights * by_weights, in fewer products.
    alike = jnp.sum((gradient * y).astype(by_weights.dtype), axis=-1, keepdims=True)
    by_logits = weights * (by_weights - alike)
    narrow = by_logits.astype(dtype)
    by_query = scale * einsum("...qt,...tf->...qf", narrow, key)
    by_key = scale * einsum("...qt,...qf->...tf", narrow, query)
    by_bias = None if bias is None else _summed_to(by_logits, bias)
    return by_query.astype(dtype), by_key.astype(dtype), by_value.astype(dtype), by_bias


def _summed_to(gradient: Array, bias: Array) -> Array:
    """The gradient by what was broadcast to the gradient's shape."""
    lead = gradient.ndim - bias.ndim
    axes = [lead + i for i, size in enumerate(bias.shape) if size == 1]
    return gradient.sum((*range(lead), *axes)).reshape(bias.shape).astype(bias.dtype)


_attend = with_derivative(_attend_forward, _attend_backward)


class SelfAttention(nn.Module):
    """Multi-head self-attention among the tokens of the second last axis.

    Attributes:
      kernel_init: of both kernels; queries, keys and values have one in common.
    """

    num_heads: int
    kernel_init: nn.initializers.Initializer = small_normal

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n t c"], bias: Float[Array, "*#n #heads t t"] | None = None
    ) -> Float[Array, "*n t c"]:
        """Attends; `bias` as for `attention`."""
        channels = x.shape[-1]
        qkv = gradient_at_hand(linear(x, 3 * channels, "qkv", self.kernel_init))
        qkv = qkv.reshape(*x.shape[:-1], 3, self.num_heads, channels // self.num_heads)
        query, key, value = jnp.moveaxis(qkv, -3, 0)
        return linear(attention(query, key, value, bias), channels, "project", self.kernel_init)


def numbered_scales(num_blocks: tuple[int, ...], downsampling: str) -> dict[str, str]:
    """Our stages with torchvision's names, which count stem, blocks, downsampling, blocks … as features.0, .1 …"""
    stages = {"stem": "features.0"}
    for scale, number in enumerate(num_blocks, start=1):
        if scale > 1:
            stages[f"{downsampling}{scale}"] = f"features.{2 * scale - 2}"
        stages |= {f"stage{scale}_{block}": f"features.{2 * scale - 1}.{block}" for block in range(number)}
    return stages
