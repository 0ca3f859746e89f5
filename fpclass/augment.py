"""Image operations for training, and the one normalisation that training and prediction share.

Each operation works on one image [H, W, C] and is meant to be vmapped; nothing here knows about batches. It
comes in two parts: a deterministic core with explicit parameters (`adjust_contrast`, `erase_box` …), equal in value
to the function of torchvision that its docstring names, and a random operation `(key, image, …) -> image` that draws
those parameters, equal in distribution to torchvision's transform. `fpclass.warp` has the geometric ones.

The values are those of torchvision's *float tensor* functions. Its PIL route, which the reference takes for flip
and jitter, computes in uint8 and truncates after every operation: jittered images differ by up to 2.2 grey levels
of 255 (largest met in 400 random images, brightness and contrast 0.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from fpclass.errors import ConfigError
from fpclass.warp import elastic, rotate, scale

Image = Float[Array, "h w c"]
Scalar = float | Float[Array, ""]

# Address of each operation's randomness below the image's key. Never renumber: switching one operation on or off,
# or adding another, must leave the draws of the rest as they were.
_FLIP, _JITTER, _ROTATE, _ERASE, _SCALE, _ELASTIC = range(6)

_GREY_WEIGHTS = {1: (1.0,), 3: (0.2989, 0.587, 0.114)}  # ITU-R BT.601 luma, in torchvision's four digits
_ERASE_ATTEMPTS = 10  # torchvision's; then the image stays whole


def unit_intensities(image: UInt8[Array, "*n h w c"] | Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
    """Intensities in [0, 1]: uint8 divided by 255, floats returned as they are.

    Args:
      image: uint8 in [0, 255], or floats that already lie in [0, 1].

    Returns:
      float32, shape unchanged.
    """
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255
    return image


def normalise(
    image: UInt8[Array, "*n h w c"] | Float[Array, "*n h w c"],
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> Float[Array, "*n h w c"]:
    """What every model sees: intensities in [0, 1], minus the mean, over the standard deviation.

    Args:
      image: one image or any batch of them, uint8 in [0, 255], or floats in [0, 1].
      mean: subtracted from the intensities in [0, 1]; one number, or one per channel.
      std: what the difference is divided by; likewise.

    Returns:
      float32, shape unchanged.

    Raises:
      ConfigError: mean or std is neither one number nor one per channel.

    Source: torchvision.transforms.ToTensor followed by Normalize.
    """
    unit = unit_intensities(image)
    for name, values in (("mean", mean), ("std", std)):
        # Unchecked, three means would broadcast a grey image into a colour one.
        if np.shape(values) not in ((), (1,), unit.shape[-1:]):
            met = f"config.data.{name} is {values}, but images have {unit.shape[-1]} channels"
            raise ConfigError(f"{met}; give one number, or one per channel")
    return (unit - jnp.asarray(mean, unit.dtype)) / jnp.asarray(std, unit.dtype)


def flip(key: Key[Array, ""], image: Image, *, probability: float) -> Image:
    """Mirrors left and right with this probability.

    Args:
      key: JAX random key; one per image.
      image: any intensities.
      probability: in [0, 1].

    Returns:
      The image or its mirror image, shape unchanged.

    Source: torchvision.transforms.RandomHorizontalFlip.
    """
    return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)


def adjust_brightness(image: Image, factor: Scalar) -> Image:
    """Multiplies the intensities and clamps them to [0, 1].

    Args:
      image: intensities in [0, 1].
      factor: not negative; 0 gives black, 1 the image itself.

    Returns:
      Intensities in [0, 1], shape unchanged.

    Source: torchvision.transforms.functional.adjust_brightness.
    """
    return jnp.clip(factor * image, 0, 1)


def adjust_contrast(image: Image, factor: Scalar) -> Image:
    """Moves the intensities away from (or to) the mean of the grey image, and clamps them to [0, 1].

    Args:
      image: intensities in [0, 1], 1 channel or 3 (RGB).
      factor: not negative; 0 gives the mean grey everywhere, 1 the image itself.

    Returns:
      Intensities in [0, 1], shape unchanged.

    Raises:
      ValueError: the image has neither 1 nor 3 channels.

    Source: torchvision.transforms.functional.adjust_contrast.
    """
    channels = image.shape[-1]
    if channels not in _GREY_WEIGHTS:
        raise ValueError(f"contrast needs an image of 1 or 3 channels, got {channels}")
    # Rows first: one running float32 sum over a large image would lose digits.
    channel_means = image.mean(axis=1).mean(axis=0)
    # A plain sum of products: matrix products may round their operands on accelerators.
    grey = (channel_means * jnp.asarray(_GREY_WEIGHTS[channels], image.dtype)).sum()
    return jnp.clip(factor * image + (1 - factor) * grey, 0, 1)


def jitter(key: Key[Array, ""], image: Image, *, brightness: float, contrast: float) -> Image:
    """Changes brightness and contrast by random factors, in random order.

    Args:
      key: JAX random key; one per image.
      image: intensities in [0, 1], 1 channel or 3 (RGB).
      brightness: x of the factor's range [max(0, 1 - x), 1 + x]; 0 turns brightness off.
      contrast: likewise for contrast.

    Returns:
      Intensities in [0, 1], shape unchanged.

    Source: torchvision.transforms.ColorJitter(brightness, contrast).
    """
    draws = jax.random.uniform(key, (3,))
    brightness_factor = _between(max(0.0, 1 - brightness), 1 + brightness, draws[0])
    contrast_factor = _between(max(0.0, 1 - contrast), 1 + contrast, draws[1])
    if not contrast:
        return adjust_brightness(image, brightness_factor)
    if not brightness:
        return adjust_contrast(image, contrast_factor)
    # Factor 1 leaves an image in [0, 1] as it is. Brightness on both sides, one of them 1, is therefore either order
    # at the price of one mean; choosing between two finished images would compute both.
    brightness_first = draws[2] < 0.5
    image = adjust_brightness(image, jnp.where(brightness_first, brightness_factor, 1))
    image = adjust_contrast(image, contrast_factor)
    return adjust_brightness(image, jnp.where(brightness_first, 1, brightness_factor))


def erase_box(
    image: Image,
    top: int | Int[Array, ""],
    left: int | Int[Array, ""],
    height: int | Int[Array, ""],
    width: int | Int[Array, ""],
    value: float,
) -> Image:
    """Overwrites a box with one value.

    Args:
      image: any intensities.
      top: first row of the box, pixels.
      left: first column of the box, pixels.
      height: rows of the box, pixels; 0 erases nothing.
      width: columns of the box, pixels; 0 erases nothing.
      value: intensity inside the box.

    Returns:
      The image with the box, shape unchanged.

    Source: torchvision.transforms.functional.erase.
    """
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
      key: JAX random key; one per image.
      image_size: (height, width), pixels.
      probability: of drawing a box at all, in [0, 1].
      area: smallest and largest share of the image, uniform between them.
      aspect: smallest and largest height / width, uniform between them on a log scale.

    Returns:
      top, left, height, width in pixels, int32; all sizes 0 where nothing is to be erased.

    Source: torchvision.transforms.RandomErasing.get_params; Zhong et al., Random Erasing Data Augmentation, 2020.
    """
    image_height, image_width = image_size
    draws = jax.random.uniform(key, (3 + 2 * _ERASE_ATTEMPTS,))
    area_draws, aspect_draws = draws[3:].reshape(2, _ERASE_ATTEMPTS)
    box_area = image_height * image_width * _between(area[0], area[1], area_draws)
    ratio = jnp.exp(_between(math.log(aspect[0]), math.log(aspect[1]), aspect_draws))
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
    """Overwrites a random box with one value, with this probability.

    Args:
      key: JAX random key; one per image.
      image: any intensities.
      probability: in [0, 1].
      area: smallest and largest share of the image that the box covers.
      aspect: smallest and largest height / width of the box.
      value: intensity inside the box.

    Returns:
      The image, with the box where one was drawn, shape unchanged.

    Source: torchvision.transforms.RandomErasing.
    """
    height, width, _ = image.shape
    box = draw_box(key, (height, width), probability=probability, area=area, aspect=aspect)
    return erase_box(image, *box, value)


def make_augment(
    augment_config: ConfigDict, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> Callable[[Key[Array, ""], UInt8[Array, "h w c"] | Image], Image]:
    """Makes the training counterpart of `normalise`: as the config says, flip, jitter, normalise, rotate, scale,
    deform, erase.

    What the config turns off is not traced. The geometric operations come after normalising, in whose terms their
    fill is stated; they only copy or average pixels, so that they would give the same picture before.

    Args:
      augment_config: the section `config.augment`.
      mean: as `normalise` takes it.
      std: as `normalise` takes it.

    Returns:
      A function of one key and one image, uint8 or floats in [0, 1], to the normalised float32 image of that
      shape. Every operation folds a constant of its own into the key, so that its draws depend on no other one.

    Raises:
      ConfigError: a probability outside [0, 1], a negative strength, or a range that is not one.
    """
    check_augment(augment_config)
    config = SimpleNamespace(**augment_config.to_dict())  # a copy: what is traced later is what was checked

    def augment(key: Key[Array, ""], image: UInt8[Array, "h w c"] | Image) -> Image:
        image = unit_intensities(image)
        if config.flip_probability:
            image = flip(jax.random.fold_in(key, _FLIP), image, probability=config.flip_probability)
        if config.brightness or config.contrast:
            image = jitter(
                jax.random.fold_in(key, _JITTER),
                image,
                brightness=config.brightness,
                contrast=config.contrast,
            )
        image = normalise(image, mean, std)
        if config.max_rotation_deg:
            image = rotate(
                jax.random.fold_in(key, _ROTATE),
                image,
                max_angle_deg=config.max_rotation_deg,
                fill=config.rotation_fill,
            )
        if tuple(config.scale) != (1, 1):
            image = scale(jax.random.fold_in(key, _SCALE), image, factor_range=config.scale, fill=config.rotation_fill)
        if config.elastic_alpha_px:
            image = elastic(
                jax.random.fold_in(key, _ELASTIC),
                image,
                alpha_px=config.elastic_alpha_px,
                sigma_px=config.elastic_sigma_px,
                fill=config.rotation_fill,
            )
        if config.erasing_probability:
            image = erase(
                jax.random.fold_in(key, _ERASE),
                image,
                probability=config.erasing_probability,
                area=config.erasing_area,
                aspect=config.erasing_aspect,
                value=config.erasing_value,
            )
        return image

    return augment


def check_augment(augment_config: ConfigDict) -> None:
    """Checks the values of the config section that `make_augment` and `make_mixing` read.

    Args:
      augment_config: the section `config.augment`.

    Raises:
      ConfigError: a probability outside [0, 1], a negative strength, or a range that is not one.
    """
    config = augment_config.to_dict()
    numbers = {
        "flip_probability": (0.0, 1.0),
        "brightness": (0.0, float("inf")),
        "contrast": (0.0, float("inf")),
        "max_rotation_deg": (0.0, 180.0),
        "elastic_alpha_px": (0.0, float("inf")),
        "elastic_sigma_px": (1.0, float("inf")),  # smaller, and neighbouring pixels would move apart at random
        "mixup_alpha": (0.0, float("inf")),
        "cutmix_alpha": (0.0, float("inf")),
        "erasing_probability": (0.0, 1.0),
    }
    for name, (low, high) in numbers.items():
        value = config[name]
        if not low <= value <= high:
            raise ConfigError(f"config.augment.{name} is {value}; give a number from {low:g} to {high:g}")
    ranges = {"erasing_area": (0.0, 1.0), "erasing_aspect": (1e-3, 1e3), "scale": (0.1, 10.0)}
    for name, (low, high) in ranges.items():
        values = tuple(config[name])
        if len(values) != 2 or not low <= values[0] <= values[1] <= high:
            expected = f"give (smallest, largest), both from {low:g} to {high:g}"
            raise ConfigError(f"config.augment.{name} is {values}; {expected}")


def _between(low: Scalar, high: Scalar, share: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Maps [0, 1) to [low, high)."""
    return low + (high - low) * share
