"""Geometric operations one by one: flips, rotation, scale, elastic deformation.

`fill` is the intensity of what comes from outside. `fpclass.augment.geometry` has those that are composed into one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from fpclass.augment.geometry import sample
from fpclass.augment.intensity import Image, Scalar

_REACH = 3  # standard deviations at which the Gaussian of the elastic deformation is cut off


def flip(key: Key[Array, ""], image: Image, *, probability: float) -> Image:
    """Mirrors left and right with a probability. Source: torchvision.transforms.RandomHorizontalFlip."""
    return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)


def vertical_flip(key: Key[Array, ""], image: Image, *, probability: float) -> Image:
    """Mirrors top and bottom with a probability. Source: torchvision.transforms.RandomVerticalFlip."""
    return jnp.where(jax.random.uniform(key) < probability, image[::-1], image)


def rotate_by(image: Image, angle_deg: Scalar, fill: float) -> Image:
    """Rotates about the image centre by degrees, counter-clockwise positive, by nearest neighbour.

    Source: torchvision.transforms.functional.rotate of a tensor, interpolation nearest, expand False: centre at
      (size - 1) / 2, source coordinates rounded half to even. Where a source coordinate lies half-way between two
      pixels to within float32, either neighbour is right and the two libraries may differ.
    """
    height, width, _ = image.shape
    angle = jnp.deg2rad(jnp.asarray(angle_deg, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2)[:, None]
    x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    row = jnp.round(sin * x + cos * y + (height - 1) / 2).astype(jnp.int32)
    column = jnp.round(cos * x - sin * y + (width - 1) / 2).astype(jnp.int32)
    return image.at[row, column].get(mode="fill", fill_value=fill, wrap_negative_indices=False)


def rotate(key: Key[Array, ""], image: Image, *, max_angle_deg: float, fill: float) -> Image:
    """Rotates about the centre, by nearest neighbour, by an angle drawn uniformly from +-max_angle_deg (at most 180).

    Source: torchvision.transforms.RandomRotation(max_angle_deg, fill=fill).
    """
    return rotate_by(image, draw_angle(key, max_angle_deg), fill)


def draw_angle(key: Key[Array, ""], max_angle_deg: float) -> Float[Array, ""]:
    """The angle of `rotate`: degrees, uniform in +-max_angle_deg."""
    return jax.random.uniform(key, minval=-max_angle_deg, maxval=max_angle_deg)


def scale_by(image: Image, factor: Scalar, fill: float) -> Image:
    """Scales about the image centre, linearly interpolated, anti-aliased where it shrinks (factor below 1).

    Source: jax.image.scale_and_translate, which is two matrix products: no gather, and as fast at any factor.
    """
    height, width, _ = image.shape
    factors = jnp.broadcast_to(jnp.asarray(factor, image.dtype), (2,))
    centre = jnp.asarray([height / 2, width / 2], image.dtype)
    # Outside of the image it takes 0: hence what lies above the fill is scaled, which is linear.
    scaled = jax.image.scale_and_translate(
        image - fill, image.shape, (0, 1), factors, centre * (1 - factors), method="linear"
    )
    return scaled + fill


def scale(key: Key[Array, ""], image: Image, *, factor_range: Sequence[float], fill: float) -> Image:
    """Scales about the image centre by a random factor, uniform on a log scale over `factor_range`."""
    return scale_by(image, draw_factor(key, factor_range), fill)


def draw_factor(key: Key[Array, ""], factor_range: Sequence[float]) -> Float[Array, ""]:
    """The factor of `scale`: uniform in the range on a log scale."""
    low, high = (math.log(factor) for factor in factor_range)
    return jnp.exp(jax.random.uniform(key, minval=low, maxval=high))


def displace(image: Image, shift_px: Float[Array, "2 h w"], fill: float) -> Image:
    """Warps by a displacement field, (down, right) to where each value comes from, bilinearly interpolated.

    Source: scipy.ndimage.map_coordinates, order 1, mode grid-constant.
    """
    height, width, _ = image.shape
    row = jnp.arange(height, dtype=image.dtype)[:, None] + shift_px[0]
    column = jnp.arange(width, dtype=image.dtype) + shift_px[1]
    return sample(image, row, column, fill=fill, fill_mode="constant", interpolation="bilinear")


def draw_shift(
    key: Key[Array, ""], image_size: tuple[int, int], *, alpha_px: float, sigma_px: float
) -> Float[Array, "2 h w"]:
    """Draws a smooth displacement field of an elastic deformation: white noise, smoothed by a Gaussian.

    The noise lies on a grid of `sigma_px`, which after smoothing cannot be told from noise on every pixel (its
    deviation ripples by less than 1e-4 between grid points) and saves most of the random numbers. Smoothing is two
    matrix products. Values d apart correlate by exp(-d^2 / (4 sigma_px^2)).

    Args:
      alpha_px: root mean square of the shift along either axis, the same at every pixel.
      sigma_px: standard deviation of the Gaussian.

    Source: Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003, whose noise is uniform and
      whose alpha is the amplitude before smoothing.
    """
    rows, columns = (_smoothing(size, sigma_px) for size in image_size)
    noise = jax.random.normal(key, (2, rows.shape[1], columns.shape[1]))
    return alpha_px * jnp.einsum("hi,aij,wj->ahw", rows, noise, columns, precision=lax.Precision.HIGHEST)


def elastic(key: Key[Array, ""], image: Image, *, alpha_px: float, sigma_px: float, fill: float) -> Image:
    """Deforms elastically, by a displacement field of `draw_shift`, bilinearly interpolated.

    Source: Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003.
    """
    height, width, _ = image.shape
    return displace(image, draw_shift(key, (height, width), alpha_px=alpha_px, sigma_px=sigma_px), fill)


def _smoothing(size: int, sigma_px: float) -> Float[np.ndarray, "size n"]:
    """The matrix from unit white noise on a grid of `sigma_px` to `size` pixels of variance 1."""
    pixels = np.arange(size) / sigma_px
    grid = np.arange(-_REACH, math.ceil(pixels[-1]) + _REACH + 1)
    weights = np.exp(-((pixels[:, None] - grid) ** 2) / 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
