"""Batch norm and layer norm, with their derivatives written out.

Automatic differentiation goes over the maps about twice as often, keeps what is cheaply computed anew, and counts the
examples in a mask by summing it, spread out over all places.
"""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.at_hand import at_hand
from fpclass.models.plain import with_derivative


def batch_normalised(
    x: Float[Array, "n *d c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    weights: Float[Array, " n"],
    epsilon: float,
) -> tuple[Float[Array, "n *d c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalises every channel by the mean and the biased variance of the examples that count.

    Args:
      weights: 1 for an example that counts, 0 for one that does not; at least one does. Not differentiated by.

    Returns:
      The normalised maps, scaled and shifted; the mean; the variance.

    Source: Ioffe and Szegedy, ICML 2015, section 3.
    """
    return cast(tuple[Array, Array, Array], _normalised(x, scale, bias, weights, epsilon))


def _forward(x: Array, scale: Array, bias: Array, weights: Array, epsilon: float) -> tuple[tuple, tuple]:
    w = _spread(weights, x)
    count = jnp.sum(weights) * (x.size // (x.shape[0] * x.shape[-1]))
    mean = _over_places(x * w) / count
    variance = _over_places(jnp.square(x - mean) * w) / count
    inverse = lax.rsqrt(variance + epsilon)
    y = (x - mean) * (inverse * scale) + bias
    return (y, mean, variance), (x, scale, weights, count, mean, inverse)


def _backward(epsilon: float, saved: tuple, gradients: tuple) -> tuple:
    del epsilon
    (x, scale, weights, count, mean, inverse), (by_y, by_mean, by_variance) = saved, gradients
    factor = inverse * scale
    sum_y, sum_centred = _over_places(by_y), _over_places(by_y * (x - mean))
    # What the mean and the variance pass on, to every example that counts.
    of_mean = (by_mean - factor * sum_y) / count
    of_variance = (2 * by_variance - factor * jnp.square(inverse) * sum_centred) / count
    by_x = by_y * factor + _spread(weights, x) * (of_mean + (x - mean) * of_variance)
    # Products of matrices read it twice, one of them turned.
    return at_hand(by_x), sum_centred * inverse, sum_y, jnp.zeros_like(weights)


_normalised = with_derivative(_forward, _backward, (4,))


def _spread(weights: Array, x: Array) -> Array:
    """A weight per example, in the shape that broadcasts with its maps."""
    return weights.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)


def _over_places(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


def layer_normalised(
    x: Float[Array, "*d c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float
) -> Float[Array, "*d c"]:
    """Normalises every place by the mean and the biased variance of its channels, in float32 or better.

    Returns:
      The normalised maps, scaled and shifted, in the type of x.

    Source: Ba et al., Layer Normalization, 2016.
    """
    return cast(Array, _layer(x, scale, bias, epsilon))


def _layer_forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    # The fast variance E[x²] - E[x]² loses digits where the mean is large.
    inverse = lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True) + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _layer_backward(epsilon: float, saved: tuple, by_y: Array) -> tuple:
    del epsilon
    x, scale, mean, inverse = saved
    by_y = by_y.astype(mean.dtype)
    normal, by_normal = (x - mean) * inverse, by_y * scale
    of_mean, of_variance = (jnp.mean(each, axis=-1, keepdims=True) for each in (by_normal, by_normal * normal))
    by_x = inverse * (by_normal - of_mean - normal * of_variance)
    return by_x.astype(x.dtype), _over_places(by_y * normal), _over_places(by_y)


_layer = with_derivative(_layer_forward, _layer_backward, (3,))
