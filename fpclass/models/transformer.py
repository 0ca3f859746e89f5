"""Parts of transformers and their relatives: layer norm, dense layers, MLP and self-attention over the last axes."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.network import Mode
from fpclass.models.products import dense_product, einsum

Tokens = Float[Array, "n t c"]
small_normal = nn.initializers.normal(0.02)
"""What torchvision's trunc_normal_(std=0.02) is: it truncates at ±2, not at two standard deviations."""


def layer_norm(x: Float[Array, "*d c"], name: str, epsilon: float = 1e-6) -> Float[Array, "*d c"]:
    """Layer norm over the last axis; statistics in float32 or better, the result has the type of the input."""
    # The fast variance E[x²] - E[x]² loses digits where the mean is large.
    return nn.LayerNorm(epsilon, dtype=x.dtype, use_fast_variance=False, name=name)(x)


def linear(
    x: Float[Array, "*d c"],
    features: int,
    name: str,
    kernel_init: nn.initializers.Initializer = small_normal,
    *,
    use_bias: bool = True,
) -> Float[Array, "*d f"]:
    """A dense layer over the last axis that computes in the type of the input."""
    return nn.Dense(features, use_bias, x.dtype, kernel_init=kernel_init, dot_general=dense_product, name=name)(x)


class Norm(nn.Module):
    """Layer norm over the last axis, as a stage."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*d c"], mode: Mode) -> Float[Array, "*d c"]:
        return layer_norm(x, "norm", self.epsilon)


def gelu(x: Array) -> Array:
    """GELU itself, not the approximation by a tanh."""
    return nn.gelu(x, approximate=False)


class MLP(nn.Module):
    """Dense layer, activation, dense layer back to as many features as came in; the hidden one is `ratio` as wide."""

    ratio: int = 4
    kernel_init: nn.initializers.Initializer = small_normal
    activation: Callable[[Array], Array] = gelu

    @nn.compact
    def __call__(self, x: Float[Array, "*d c"]) -> Float[Array, "*d c"]:
        y = linear(x, self.ratio * x.shape[-1], "expand", self.kernel_init)
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
    logits = einsum("...qhd,...khd->...hqk", query * query.shape[-1] ** -0.5, key)
    weights = nn.softmax(logits if bias is None else logits + bias).astype(query.dtype)
    y = einsum("...hqk,...khd->...qhd", weights, value).astype(query.dtype)
    return y.reshape(*y.shape[:-2], -1)


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
        qkv = linear(x, 3 * channels, "qkv", self.kernel_init)
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
