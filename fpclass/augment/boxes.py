"""Random erasing and cutout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from fpclass.augment.intensity import Image, between

_ERASE_ATTEMPTS = 10  # torchvision's; then the image stays whole


def erase_box(
    image: Image,
    top: int | Int[Array, ""],
    left: int | Int[Array, ""],
    height: int | Int[Array, ""],
    width: int | Int[Array, ""],
    value: float,
) -> Image:
    """Overwrites a box (pixels; of size 0: nothing) with one value. Source: torchvision.transforms.functional.erase."""
    row, column = jnp.arange(image.shape[0]), jnp.arange(image.shape[1])
    row_mask = (row >= top) & (row < top + height)
    column_mask = (column >= left) & (column < left + width)
    return jnp.where((row_mask[:, None] & column_mask)[..., None], value, image)


def draw_box(
    key: Key[Array, ""],
    image_size: tuple[int, int],
    *,
    probability: float,
    area: Sequence[float],
    aspect: Sequence[float],
) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
    """Draws the box of random erasing.

    A size is drawn up to ten times, until one is smaller than the image in both directions; where none is, nothing
    gets erased. All ten are drawn at once, so that the program has one shape.

    Args:
      area: smallest and largest share of the image, uniform between them.
      aspect: smallest and largest height / width, uniform between them on a log scale.

    Returns:
      top, left, height, width in pixels, int32; all sizes 0 where nothing is to be erased.

    Source: torchvision.transforms.RandomErasing.get_params; Zhong et al., Random Erasing Data Augmentation, 2020.
    """
    image_height, image_width = image_size
    draws = jax.random.uniform(key, (3 + 2 * _ERASE_ATTEMPTS,))
    area_draws, aspect_draws = draws[3:].reshape(2, _ERASE_ATTEMPTS)
    box_area = image_height * image_width * between(area[0], area[1], area_draws)
    ratio = jnp.exp(between(math.log(aspect[0]), math.log(aspect[1]), aspect_draws))
    heights = jnp.round(jnp.sqrt(box_area * ratio)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(box_area / ratio)).astype(jnp.int32)
    fits = (heights < image_height) & (widths < image_width)
    first = jnp.argmax(fits)
    erases = (draws[0] < probability) & fits[first]
    height, width = jnp.where(erases, heights[first], 0), jnp.where(erases, widths[first], 0)
    top = jnp.floor(draws[1] * (image_height - height + 1)).astype(jnp.int32)
    left = jnp.floor(draws[2] * (image_width - width + 1)).astype(jnp.int32)
    return top, left, height, width


def erase(
    key: Key[Array, ""],
    image: Image,
    *,
    probability: float,
    area: Sequence[float],
    aspect: Sequence[float],
    value: float,
) -> Image:
    """Random erasing: overwrites a box from `draw_box` with one value. Source: torchvision.transforms.RandomErasing."""
    height, width, _ = image.shape
    box = draw_box(key, (height, width), probability=probability, area=area, aspect=aspect)
    return erase_box(image, *box, value)


def cutout(key: Key[Array, ""], image: Image, *, side_px: int, value: float) -> Image:
    """Cutout: overwrites a square, centred on any pixel and cut at the border, with one value.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    top, left = centre - side_px // 2
    return erase_box(image, top, left, side_px, side_px, value)
