"""Intensity operations: normalising, brightness, contrast, colour, sharpness, blur, noise.

The values are those of torchvision's *float tensor* functions. Its PIL route, which the reference takes for flip
and jitter, computes in uint8 and truncates after every operation: jittered images differ by up to 2.2 grey levels
of 255 (largest met in 400 random images, brightness and contrast 0.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, UInt8

from fpclass.errors import ConfigError

Image = Float[Array, "h w c"]
Scalar = float | Float[Array, ""]

_GREY_WEIGHTS = {1: (1.0,), 3: (0.2989, 0.587, 0.114)}  # ITU-R BT.601 luma, in torchvision's four digits
BLUR_REACH = 3
"""Standard deviations at which the Gaussian of the blur is cut off."""


def unit_intensities(image: UInt8[Array, "*n h w c"] | Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
    """Intensities in [0, 1]: uint8 divided by 255, as float32; floats, which lie there already, as they are."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255
    return image


def normalise(
    image: UInt8[Array, "*n h w c"] | Float[Array, "*n h w c"],
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> Float[Array, "*n h w c"]:
    """Normalises intensities in [0, 1] by mean and standard deviation, to float32: what every model sees.

    Args:
      image: one image or any batch of them, uint8 in [0, 255], or floats in [0, 1].
      mean: subtracted from the intensities in [0, 1]; one number, or one per channel, as is `std`.

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


def adjust_brightness(image: Image, factor: Scalar) -> Image:
    """Multiplies intensities by a factor of at least 0 (0: black, 1: the image itself), clamped to [0, 1].

    Source: torchvision.transforms.functional.adjust_brightness.
    """
    return jnp.clip(factor * image, 0, 1)


def adjust_contrast(image: Image, factor: Scalar) -> Image:
    """Adjusts the contrast: away from (or towards) the mean of the grey image, clamped to [0, 1].

    Args:
      factor: not negative; 0 gives the mean grey everywhere, 1 the image itself.

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
    return _blend(image, grey, factor)


def jitter(key: Key[Array, ""], image: Image, *, brightness: float, contrast: float) -> Image:
    """Changes brightness and contrast by random factors, in random order.

    Args:
      brightness: x of the factor's range [max(0, 1 - x), 1 + x]; 0 turns it off; likewise `contrast`.

    Source: torchvision.transforms.ColorJitter(brightness, contrast).
    """
    draws = jax.random.uniform(key, (3,))
    brightness_factor = _factor(brightness, draws[0])
    contrast_factor = _factor(contrast, draws[1])
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


def adjust_saturation(image: Image, factor: Scalar) -> Image:
    """Adjusts the saturation: away from (or towards) the grey of the same pixel, clamped to [0, 1].

    Args:
      factor: not negative; 0 gives a grey image, 1 the image itself.

    Raises:
      ValueError: the image is not RGB.

    Source: torchvision.transforms.functional.adjust_saturation.
    """
    _require_rgb(image, "saturation")
    grey = (image * jnp.asarray(_GREY_WEIGHTS[3], image.dtype)).sum(-1, keepdims=True)
    return _blend(image, grey, factor)


def adjust_hue(image: Image, shift: Scalar) -> Image:
    """Shifts the hue; the largest and the smallest intensity of each pixel stay as they are.

    Args:
      shift: in turns, [-0.5, 0.5]; 1/3 makes red green; 0 gives the image itself.

    Raises:
      ValueError: the image is not RGB.

    Source: torchvision.transforms.functional.adjust_hue; keras.layers.RandomHue with twice this factor. The way back
      from hue, value and chroma is the formula of https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative.
    """
    _require_rgb(image, "hue")
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value, chroma = image.max(-1), image.max(-1) - image.min(-1)
    divisor = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    sixths = jnp.where(value == red, (green - blue) / divisor, sixths)
    turned = sixths + 6 * shift

    def channel(n: int) -> Array:
        k = (n + turned) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def change_colour(key: Key[Array, ""], image: Image, *, saturation: float, hue: float) -> Image:
    """Changes saturation, then hue, by random amounts.

    Args:
      saturation: x of the factor's range [max(0, 1 - x), 1 + x]; 0 turns it off.
      hue: x of the shift's range [-x, x], in turns; 0 turns it off.

    Raises:
      ValueError: the image is not RGB.

    Source: torchvision.transforms.ColorJitter(saturation, hue), which has them in random order.
    """
    draws = jax.random.uniform(key, (2,))
    if saturation:
        image = adjust_saturation(image, _factor(saturation, draws[0]))
    return adjust_hue(image, between(-hue, hue, draws[1])) if hue else image


def shift_intensity(image: Image, shift: Scalar | Float[Array, " c"]) -> Image:
    """Adds one number, or one per channel, clamped to [0, 1].

    Source: keras.layers.RandomBrightness(value_range=(0, 1)), whose draw this is.
    """
    return jnp.clip(image + shift, 0, 1)


def shift_brightness(key: Key[Array, ""], image: Image, *, limit: float) -> Image:
    """Adds one random number from [-limit, limit] to all channels.

    Source: keras.layers.RandomBrightness(limit, value_range=(0, 1)).
    """
    return shift_intensity(image, jax.random.uniform(key, minval=-limit, maxval=limit))


def shift_channels(key: Key[Array, ""], image: Image, *, limit: float) -> Image:
    """Adds a random number from [-limit, limit] to every channel, each its own."""
    return shift_intensity(image, jax.random.uniform(key, image.shape[-1:], minval=-limit, maxval=limit))


def adjust_sharpness(image: Image, factor: Scalar) -> Image:
    """Adjusts the sharpness: away from (or towards) the smoothed image, clamped to [0, 1]; the border stays.

    Factors are not negative: 0 gives the smoothed image, 1 the image itself, 2 a sharpened one. Source:
    torchvision.transforms.functional.adjust_sharpness.
    """
    height, width, _ = image.shape
    # XLA would compute whatever made the image again for each of the nine neighbours.
    image = lax.optimization_barrier(image)
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image) / 13
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    is_inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return _blend(image, jnp.where(is_inside[..., None], smooth, image), factor)


def sharpen(key: Key[Array, ""], image: Image, *, sharpness: float) -> Image:
    """Changes the sharpness by a random factor from [max(0, 1 - sharpness), 1 + sharpness]."""
    return adjust_sharpness(image, _factor(sharpness, jax.random.uniform(key)))


def blur_by(image: Image, sigma_px: Scalar, reach_px: int) -> Image:
    """Smooths any intensities by a Gaussian; beyond the border lies the mirror image, without the border pixel.

    Args:
      sigma_px: standard deviation, pixels; 0 gives the image itself.
      reach_px: pixels on either side that the Gaussian is cut off at.

    Source: torchvision.transforms.functional.gaussian_blur, kernel_size 2 reach_px + 1.
    """
    offsets = jnp.arange(-reach_px, reach_px + 1)
    weights = jnp.exp(-((offsets / jnp.maximum(sigma_px, 1e-3)) ** 2) / 2)
    weights /= weights.sum()
    for axis in (0, 1):
        size = image.shape[axis]
        around = [(reach_px, reach_px) if axis == a else (0, 0) for a in range(3)]
        padded = jnp.pad(image, around, mode="reflect")
        image = sum(
            (weights[k] * lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(1, 2 * reach_px + 1)),
            weights[0] * lax.slice_in_dim(padded, 0, size, axis=axis),
        )
    return image


def blur(key: Key[Array, ""], image: Image, *, max_sigma_px: float) -> Image:
    """Gaussian blur, standard deviation drawn from [0, max_sigma_px]. Source: torchvision.transforms.GaussianBlur."""
    sigma_px = jax.random.uniform(key, maxval=max_sigma_px)
    return blur_by(image, sigma_px, math.ceil(BLUR_REACH * max_sigma_px))


def add_noise(key: Key[Array, ""], image: Image, *, std: float | Float[Array, " c"]) -> Image:
    """Adds Gaussian noise to any intensities, every pixel and channel its own; they are not clamped.

    `std` is in the unit of the intensities; one number, or one per channel. Source: keras.layers.GaussianNoise.
    """
    return image + std * jax.random.normal(key, image.shape, image.dtype)


def between(low: Scalar, high: Scalar, share: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Maps [0, 1) to [low, high)."""
    return low + (high - low) * share


def _factor(strength: float, share: Float[Array, ""]) -> Float[Array, ""]:
    """A factor from [max(0, 1 - strength), 1 + strength]."""
    return between(max(0.0, 1 - strength), 1 + strength, share)


def _blend(image: Image, other: Array, factor: Scalar) -> Image:
    """Away from another image (factor above 1) or towards it, within [0, 1]."""
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def _require_rgb(image: Image, what: str) -> None:
    if image.shape[-1] != 3:
        raise ValueError(f"{what} needs an RGB image of 3 channels, got {image.shape[-1]}")
