"""Composes what the section `augment` of a config switches on into one function of an image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from fpclass.augment import boxes, geometry, intensity, policy, warp
from fpclass.augment.intensity import Image, normalise, unit_intensities
from fpclass.augment.settings import is_composed, is_on
from fpclass.common import extension
from fpclass.config import Config
from fpclass.errors import ConfigError

# Address of each operation's randomness below the image's key. Never renumber: switching one operation on or off,
# or adding another, must leave the draws of the rest as they were.
_FLIP, _JITTER, _ROTATE, _ERASE, _SCALE, _ELASTIC = range(6)
_VERTICAL_FLIP, _COLOUR, _BRIGHTNESS_SHIFT, _CHANNEL_SHIFT, _SHARPNESS, _BLUR, _POLICY = range(6, 13)
_TRANSLATION, _SHEAR, _ZOOM, _PERSPECTIVE, _HEIGHT_WIDTH, _NOISE, _CUTOUT, _WHETHER, _CUSTOM = range(13, 22)

Augment = Callable[[Key[Array, ""], UInt8[Array, "h w c"] | Image], Image]
AugmentBatch = Callable[[Key[Array, " b"], UInt8[Array, "b h w c"], Int[Array, " b"]], Float[Array, "b h w c"]]


def make_augment(augment_config: Config, *, mean: float | Sequence[float], std: float | Sequence[float]) -> Augment:
    """Makes the training counterpart of `normalise`: all that the config switches on, in one order.

    It maps a key and an image, uint8 or floats in [0, 1], to the normalised float32 image of that shape. Every
    operation folds a constant of its own into the key, so that its draws depend on no other one.

    Flips, brightness and contrast, shift of brightness, saturation and hue, shift of channels, sharpness, blur, the
    intensities of the policy; normalising; geometry; height and width; noise, erasing, cutout; the user's own. What
    the config turns off is not traced. The geometric operations come after normalising, in whose terms their fill is
    stated; they only copy or average pixels, so that they would give the same picture before.

    Rotation, scale and elastic deformation are done one after the other, each with its own interpolation. With any
    other geometric operation, fill mode or interpolation all of them become one map and one look-up: policy,
    rotation, translation, shear, zoom, scale, perspective, elastic deformation, in this order.
    """
    config = SimpleNamespace(**augment_config.to_dict())  # a copy: what is traced later is what was checked
    composes = is_composed(vars(config))
    custom = make_custom(config.custom) if config.custom else None

    def augment(key: Key[Array, ""], image: UInt8[Array, "h w c"] | Image) -> Image:
        image = unit_intensities(image)
        image = _change_intensity(config, key, image)
        image = normalise(image, mean, std)
        image = _warp_once(config, key, image) if composes else _warp_one_by_one(config, key, image)
        if any(config.height_width):
            at = jax.random.fold_in(key, _HEIGHT_WIDTH)
            image = geometry.change_height_width(at, image, factor=config.height_width)
        if config.noise:
            deviation = config.noise / jnp.asarray(std, image.dtype)
            image = intensity.add_noise(jax.random.fold_in(key, _NOISE), image, std=deviation)
        image = _overwrite(config, key, image)
        return custom(jax.random.fold_in(key, _CUSTOM), image) if custom else image

    return augment


def make_custom(name: str) -> Callable[[Key[Array, ""], Image], Image]:
    """The operation of the user's own that `augment.custom` names: of a key and a normalised image, the same shape.

    Raises:
      ConfigError: there is none; or, where it is traced, it raises something or gives another shape or type.
    """
    key_name = "augment.custom"
    function = extension.load(name, key_name)

    def custom(key: Key[Array, ""], image: Image) -> Image:
        changed = extension.call(function, name, key_name, key, image)
        met = getattr(changed, "shape", None), getattr(changed, "dtype", type(changed).__name__)
        if met != (image.shape, image.dtype):
            raise ConfigError(
                f"{key_name}={extension.bare(name)}: gave {met[1]} {met[0]} of an image {image.dtype} {image.shape}; "
                "return an array of the same shape and type"
            )
        return changed

    return custom


def check_custom(augment_config: Config, image_shape: tuple[int, int, int]) -> None:
    """Traces the user's own operation for images (height, width, channels), if there is one; errors as it has."""
    if augment_config.custom:
        image = jax.ShapeDtypeStruct(image_shape, jnp.float32)
        jax.eval_shape(make_custom(augment_config.custom), jax.random.key(0), image)


def make_augment_batch(
    augment_config: Config, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> AugmentBatch:
    """Makes `(keys [B], images [B, H, W, C], labels [B]) -> images`: `make_augment`, by class where that is wished.

    Where `class_probability` is set, an image is augmented with the probability of its class, and only normalised
    otherwise; what is drawn for those that are augmented stays the same.
    """
    augment = make_augment(augment_config, mean=mean, std=std)
    shares = tuple(augment_config.class_probability)

    def by_class(key: Key[Array, ""], image: Array, label: Int[Array, ""]) -> Image:
        share = jnp.asarray(shares, jnp.float32)[label]
        is_chosen = jax.random.uniform(jax.random.fold_in(key, _WHETHER)) < share
        return jnp.where(is_chosen, augment(key, image), normalise(image, mean, std))

    def augment_batch(keys: Array, images: Array, labels: Array) -> Array:
        return jax.vmap(by_class)(keys, images, labels) if shares else jax.vmap(augment)(keys, images)

    return augment_batch


def _change_intensity(config: Any, key: Key[Array, ""], image: Image) -> Image:
    """Flips and intensity operations, before normalising."""
    at = functools.partial(jax.random.fold_in, key)
    if config.flip_probability:
        image = warp.flip(at(_FLIP), image, probability=config.flip_probability)
    if config.vertical_flip_probability:
        image = warp.vertical_flip(at(_VERTICAL_FLIP), image, probability=config.vertical_flip_probability)
    if config.brightness or config.contrast:
        image = intensity.jitter(at(_JITTER), image, brightness=config.brightness, contrast=config.contrast)
    if config.brightness_shift:
        image = intensity.shift_brightness(at(_BRIGHTNESS_SHIFT), image, limit=config.brightness_shift)
    if config.saturation or config.hue:
        image = intensity.change_colour(at(_COLOUR), image, saturation=config.saturation, hue=config.hue)
    if config.channel_shift:
        image = intensity.shift_channels(at(_CHANNEL_SHIFT), image, limit=config.channel_shift)
    if config.sharpness:
        image = intensity.sharpen(at(_SHARPNESS), image, sharpness=config.sharpness)
    if config.blur_sigma_px:
        image = intensity.blur(at(_BLUR), image, max_sigma_px=config.blur_sigma_px)
    if config.policy_operations:
        image = policy.change_intensity(image, *_draw_policy(config, key, image.shape[-1]))
    return image


def _warp_one_by_one(config: Any, key: Key[Array, ""], image: Image) -> Image:
    at, fill = functools.partial(jax.random.fold_in, key), config.fill_value
    if config.max_rotation_deg:
        image = warp.rotate(at(_ROTATE), image, max_angle_deg=config.max_rotation_deg, fill=fill)
    if tuple(config.scale) != (1, 1):
        image = warp.scale(at(_SCALE), image, factor_range=config.scale, fill=fill)
    if config.elastic_alpha_px:
        alpha_px, sigma_px = config.elastic_alpha_px, config.elastic_sigma_px
        image = warp.elastic(at(_ELASTIC), image, alpha_px=alpha_px, sigma_px=sigma_px, fill=fill)
    return image


def _warp_once(config: Any, key: Key[Array, ""], image: Image) -> Image:
    """The same draws for what `_warp_one_by_one` has, and everything else that moves pixels, in one look-up."""
    height, width, channels = image.shape
    size, maps, shift_px = (height, width), [], None
    at = functools.partial(jax.random.fold_in, key)
    if config.policy_operations:
        maps.append(policy.geometry_of(*_draw_policy(config, key, channels), size))
    if config.max_rotation_deg:
        maps.append(geometry.rotation_map(warp.draw_angle(at(_ROTATE), config.max_rotation_deg)))
    if any(config.translation):
        maps.append(geometry.draw_translation(at(_TRANSLATION), config.translation, size))
    if any(config.shear):
        maps.append(geometry.draw_shear(at(_SHEAR), config.shear, size))
    if any(config.zoom):
        maps.append(geometry.draw_zoom(at(_ZOOM), config.zoom))
    if is_on(vars(config), "scale"):
        factor = warp.draw_factor(at(_SCALE), config.scale)
        maps.append(geometry.zoom_map(1 / factor, 1 / factor))
    if config.perspective:
        maps.append(geometry.draw_perspective(at(_PERSPECTIVE), config.perspective, size))
    if config.elastic_alpha_px:
        shift_px = warp.draw_shift(
            at(_ELASTIC), size, alpha_px=config.elastic_alpha_px, sigma_px=config.elastic_sigma_px
        )
    return geometry.warp(
        image,
        geometry.compose(*maps),
        fill=config.fill_value,
        fill_mode=config.fill_mode,
        interpolation="bilinear" if config.interpolation == "auto" else config.interpolation,
        shift_px=shift_px,
    )


def _overwrite(config: Any, key: Key[Array, ""], image: Image) -> Image:
    if config.erasing_probability:
        image = boxes.erase(
            jax.random.fold_in(key, _ERASE),
            image,
            probability=config.erasing_probability,
            area=config.erasing_area,
            aspect=config.erasing_aspect,
            value=config.erased_value,
        )
    if config.cutout_px:
        at = jax.random.fold_in(key, _CUTOUT)
        image = boxes.cutout(at, image, side_px=config.cutout_px, value=config.erased_value)
    return image


def _draw_policy(config: Any, key: Key[Array, ""], channels: int) -> tuple[Array, Array, tuple[str, ...]]:
    """The operations of the policy for an image, their strengths, and the list that they are drawn from."""
    names = tuple(config.policy_names) or policy.default_operations(channels)
    at = jax.random.fold_in(key, _POLICY)
    which, sign = policy.draw_policy(at, num_operations=config.policy_operations, num_names=len(names))
    return which, sign * config.policy_magnitude / policy.MAX_MAGNITUDE, names
