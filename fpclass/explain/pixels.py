"""Maps of pixels by the gradient of the input: integrated gradients and SmoothGrad."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from fpclass.explain.parts import at_once, in_parts, scores
from fpclass.explain.targets import AnyTarget, Target, as_target


def integrated_gradients(
    model: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    target: AnyTarget,
    *,
    baseline: float | Float[Array, " c"] = 0.0,
    num_steps: int = 50,
) -> Float[Array, "n h w"]:
    """Integrated gradients: the difference between an image and a plain one, divided among the pixels.

    Args:
      images: normalised.
      baseline: intensities of the plain image, normalised, of each channel; 0 is the mean colour. A pixel that has this
        colour gets nothing, whatever it means.
      num_steps: points on the straight line between the two at which gradients are taken (Gauss-Legendre).

    Returns:
      Raw maps of the size of the image, channels added up, in units of the target. They have both signs, and sum to the
      target of the image less that of the plain one, up to the error of the integration.

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, equation 1.
    """
    fill = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), images.shape[-1:])
    return _integrated(model, variables, images, as_target(target), fill, num_steps)


def smooth_grad(
    model: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    target: AnyTarget,
    *,
    noise: float = 0.15,
    num_samples: int = 50,
    seed: int = 0,
) -> Float[Array, "n h w"]:
    """SmoothGrad: the gradient by the pixels, averaged over noisy copies; of the channels the largest.

    Args:
      images: normalised.
      noise: standard deviation of the noise, in shares of what lies between the image's darkest and brightest value.
      seed: of the noise, the same for every image, so that no map depends on other images.

    Returns:
      Raw maps of the size of the image, at least 0, in units of the target by those of the normalised image: where the
      network is sensitive, not what speaks for a class.

    Source: Smilkov et al., SmoothGrad, arXiv:1706.03825; maximum over channels: Simonyan et al., arXiv:1312.6034.
    """
    draws = noise_draws(seed, num_samples, images.shape[1:])
    return _smooth(model, variables, images, as_target(target), draws, noise)


def noise_draws(seed: int, num_samples: int, image_shape: tuple[int, ...]) -> Float[Array, "s h w c"]:
    """The standard normal noise of SmoothGrad."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(num_samples))
    return jax.vmap(lambda key: jax.random.normal(key, image_shape))(keys)


def gradients(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: Target
) -> Float[Array, "n h w c"]:
    """The gradient of the target by each pixel; one target for all images, or one for each."""
    return jax.grad(lambda x: scores(model, variables, x, target).sum())(images)


@partial(jax.jit, static_argnames=("model", "num_steps"))
def _integrated(
    model: nn.Module, variables: dict[str, Any], images: Array, target: Target, fill: Array, num_steps: int
) -> Array:
    points, weights = (jnp.asarray(values, jnp.float32) / 2 for values in np.polynomial.legendre.leggauss(num_steps))
    size = at_once(images.shape[1:], variables)

    def of_image(row: tuple[Array, Target]) -> Array:
        image, of = row
        difference = image - fill

        def weighted(part: tuple[Array, Array]) -> Array:
            share, weight = (values[:, None, None, None] for values in part)
            return weight * gradients(model, variables, fill + share * difference, of)

        total = in_parts(weighted, (0.5 + points, weights), size).sum(axis=0)
        return (total * difference).sum(axis=-1)

    return lax.map(of_image, (images, target))


@partial(jax.jit, static_argnames="model")
def _smooth(
    model: nn.Module, variables: dict[str, Any], images: Array, target: Target, draws: Array, noise: Array
) -> Array:
    size = at_once(images.shape[1:], variables)

    def of_image(row: tuple[Array, Target]) -> Array:
        image, of = row
        scale = noise * jnp.ptp(image)

        def gradient(part: Array) -> Array:
            return gradients(model, variables, image + scale * part, of)

        return jnp.abs(in_parts(gradient, draws, size).mean(axis=0)).max(axis=-1)

    return lax.map(of_image, (images, target))
