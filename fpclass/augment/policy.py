"""RandAugment: a few operations of equal strength, drawn for every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from fpclass.augment.geometry import Map, compose, rotation_map, shear_map, translation_map
from fpclass.augment.intensity import Image, adjust_brightness, adjust_contrast, adjust_saturation, adjust_sharpness

MAX_MAGNITUDE = 10.0
"""The strongest that AutoAugment has, as in the authors' code; the operations below are at their limit there."""

# Strength in [-1, 1], the sign drawn, to what happens.
_GEOMETRY: dict[str, Callable[[Array, tuple[int, int]], Map]] = {
    "rotate": lambda level, size: rotation_map(30 * level),
    "shear_x": lambda level, size: shear_map(0.0, 0.3 * level, size),
    "shear_y": lambda level, size: shear_map(0.3 * level, 0.0, size),
    "translate_x": lambda level, size: translation_map(0.0, 150 / 331 * level, size),
    "translate_y": lambda level, size: translation_map(150 / 331 * level, 0.0, size),
}
_INTENSITY: dict[str, Callable[[Image, Array], Image]] = {
    "brightness": lambda image, level: adjust_brightness(image, 1 + 0.9 * level),
    "contrast": lambda image, level: adjust_contrast(image, 1 + 0.9 * level),
    "colour": lambda image, level: adjust_saturation(image, 1 + 0.9 * level),
    "sharpness": lambda image, level: adjust_sharpness(image, 1 + 0.9 * level),
    "posterize": lambda image, level: posterize(image, 8 - jnp.round(4 * jnp.abs(level))),
    "solarize": lambda image, level: solarize(image, 1 - jnp.abs(level)),
    "autocontrast": lambda image, level: autocontrast(image),
}
OPERATIONS = ("identity", *_GEOMETRY, *_INTENSITY)
"""What may be drawn; `colour` needs RGB. The paper's list but for equalize, which would sort every image."""


def posterize(image: Image, bits: float | Float[Array, ""]) -> Image:
    """Keeps so many leading bits, 0 to 8, of 8-bit intensities. Source: PIL.ImageOps.posterize."""
    step = 2.0 ** (8 - bits)
    return jnp.floor(jnp.round(image * 255) / step) * step / 255


def solarize(image: Image, threshold: float | Float[Array, ""]) -> Image:
    """Inverts intensities from a threshold in [0, 1] on. Source: torchvision.transforms.functional.solarize."""
    return jnp.where(image >= threshold, 1 - image, image)


def autocontrast(image: Image) -> Image:
    """Stretches every channel that varies to [0, 1]. Source: torchvision.transforms.functional.autocontrast."""
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def default_operations(channels: int) -> tuple[str, ...]:
    """All operations that work on images of so many channels."""
    return tuple(name for name in OPERATIONS if channels == 3 or name != "colour")


def draw_policy(
    key: Key[Array, ""], *, num_operations: int, num_names: int
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Draws operations, as positions in a list of `num_names` (one may come again), and signs, -1 or 1.

    Source: Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, 2020.
    """
    which_key, sign_key = jax.random.split(key)
    which = jax.random.randint(which_key, (num_operations,), 0, num_names)
    return which, jax.random.rademacher(sign_key, (num_operations,), jnp.float32)


def change_intensity(image: Image, which: Int[Array, " n"], level: Float[Array, " n"], names: Sequence[str]) -> Image:
    """Applies those of the operations, positions in `names`, that change intensities, by levels in [-1, 1]."""
    branches = [_INTENSITY.get(name, lambda image, level: image) for name in names]
    for i in range(len(which)):
        image = lax.switch(which[i], branches, image, level[i])
    return image


def geometry_of(
    which: Int[Array, " n"], level: Float[Array, " n"], names: Sequence[str], image_size: tuple[int, int]
) -> Map:
    """The map of those of the drawn operations that move pixels; arguments as for `change_intensity`."""
    maps = jnp.stack([jnp.eye(3)] * len(which))
    for position, name in enumerate(names):
        if name in _GEOMETRY:
            moved = jax.vmap(lambda one, name=name: _GEOMETRY[name](one, image_size))(level)
            maps = jnp.where((which == position)[:, None, None], moved, maps)
    return compose(*maps)
