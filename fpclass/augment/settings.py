"""The section `augment` of a config: what switches operations on, and the ranges of its values."""

from __future__ import annotations

from typing import Any

from fpclass.augment.geometry import INTERPOLATIONS
from fpclass.augment.policy import MAX_MAGNITUDE, OPERATIONS
from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.errors import ConfigError

SWITCHES: dict[str, float] = dict.fromkeys((
    "flip_probability", "vertical_flip_probability", "brightness", "contrast", "brightness_shift", "saturation", "hue",
    "channel_shift", "sharpness", "blur_sigma_px", "policy_operations", "max_rotation_deg", "translation", "shear",
    "zoom", "scale", "perspective", "elastic_alpha_px", "height_width", "noise", "erasing_probability", "cutout_px",
), 0.0) | {"scale": 1.0}  # fmt: skip
"""Keys that switch an operation on an image on, and the number at which (all of) it is off."""
CUSTOM = "custom"
"""The key of the user's own operation."""
BY_EPOCH = ("flip_alternates",)
"""What depends on the number of the epoch: `fpclass.train.inputs`."""
MIXING = ("mixup_alpha", "cutmix_alpha")
"""Those of what sees a whole batch: `fpclass.augment.mixing`."""
PARAMETERS = (
    "policy_magnitude", "policy_names", "elastic_sigma_px", "fill_mode", "interpolation", "fill_value",
    "erasing_area", "erasing_aspect", "erased_value", "class_probability",
)  # fmt: skip
"""Those that change nothing as long as all switches are off."""
ONE_BY_ONE = ("max_rotation_deg", "scale", "elastic_alpha_px")
"""Geometric operations that keep their own interpolation as long as nothing asks for composing."""
COMPOSED = ("policy_operations", "translation", "shear", "zoom", "perspective")
"""Those that only exist composed with all the others."""
ONLY_RGB = ("saturation", "hue")
INTERPOLATION_CHOICES = ("auto", *INTERPOLATIONS)

_INFINITE = float("inf")
_NUMBERS: dict[str, tuple[float, float]] = {
    "flip_probability": (0.0, 1.0),
    "vertical_flip_probability": (0.0, 1.0),
    "brightness": (0.0, _INFINITE),
    "contrast": (0.0, _INFINITE),
    "brightness_shift": (0.0, 1.0),
    "saturation": (0.0, _INFINITE),
    "hue": (0.0, 0.5),
    "channel_shift": (0.0, 1.0),
    "sharpness": (0.0, _INFINITE),
    "blur_sigma_px": (0.0, 20.0),  # six times as many shifted images are added up
    "policy_operations": (0, 10),
    "policy_magnitude": (0.0, MAX_MAGNITUDE),
    "max_rotation_deg": (0.0, 180.0),
    "perspective": (0.0, 0.9),  # at 1 the corners may meet
    "elastic_alpha_px": (0.0, _INFINITE),
    "elastic_sigma_px": (1.0, _INFINITE),  # smaller, and neighbouring pixels would move apart at random
    "noise": (0.0, _INFINITE),
    "mixup_alpha": (0.0, _INFINITE),
    "cutmix_alpha": (0.0, _INFINITE),
    "erasing_probability": (0.0, 1.0),
    "cutout_px": (0, _INFINITE),
}
_RANGES = {"erasing_area": (0.0, 1.0), "erasing_aspect": (1e-3, 1e3), "scale": (0.1, 10.0)}
_PAIRS = {"translation": 1.0, "shear": 1.0, "zoom": 0.95, "height_width": 0.95}


def is_on(augment_config: Config, key: str) -> bool:
    """Whether one of the `SWITCHES` is on."""
    value = augment_config[key]
    return any(number != SWITCHES[key] for number in (value if isinstance(value, tuple | list) else (value,)))


def is_augmented(augment_config: Config) -> bool:
    """Whether the training images differ from the images themselves at all (mixing is not meant: it comes later)."""
    shares = tuple(augment_config["class_probability"]) or (1,)
    is_augmented = any(is_on(augment_config, key) for key in SWITCHES) or bool(augment_config[CUSTOM])
    return (any(shares) and is_augmented) or any(augment_config[key] for key in BY_EPOCH)


def is_composed(augment_config: Config) -> bool:
    """Whether the geometric operations are composed into one, or done one by one as long as that is all they need."""
    asks = augment_config["fill_mode"] != "constant" or augment_config["interpolation"] != "auto"
    moves = any(is_on(augment_config, key) for key in ONE_BY_ONE)
    return (asks and moves) or any(is_on(augment_config, key) for key in COMPOSED)


def check_augment(augment_config: Config, channels: int | None = None) -> None:
    """Checks the values of the section; those that are one of a few words, `fpclass.experiment` checks.

    Args:
      channels: that images have; None: not known here.

    Raises:
      ConfigError: a probability outside [0, 1], a negative strength, a range that is not one, an operation that
        does not exist, or colours where images are grey.
    """
    config = augment_config.to_dict()
    for name, (low, high) in _NUMBERS.items():
        if not low <= config[name] <= high:
            raise ConfigError(f"config.augment.{name} is {config[name]}; give a number from {low:g} to {high:g}")
    for name, (low, high) in _RANGES.items():
        values = tuple(config[name])
        if len(values) != 2 or not low <= values[0] <= values[1] <= high:
            expected = f"give (smallest, largest), both from {low:g} to {high:g}"
            raise ConfigError(f"config.augment.{name} is {values}; {expected}")
    for name, high in _PAIRS.items():
        values = tuple(config[name])
        if len(values) not in ((1, 2) if name == "zoom" else (2,)) or not all(0 <= value <= high for value in values):
            one = "(x,) for both, or " if name == "zoom" else ""
            raise ConfigError(f"config.augment.{name} is {values}; give {one}(height, width), from 0 to {high:g}")
    if config["flip_alternates"] and config["flip_probability"]:
        met = f"config.augment.flip_alternates is True and flip_probability {config['flip_probability']:g}"
        raise ConfigError(f"{met}; give config.augment.flip_probability=0, or leave flip_alternates out")
    shares = tuple(config["class_probability"])
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares):
        raise ConfigError(f"config.augment.class_probability is {shares}; give a number from 0 to 1 for each class")
    _check_colours(config, channels)


def check_classes(augment_config: Config, num_classes: int) -> None:
    """Checks what only the data tell.

    Raises:
      ConfigError: `class_probability` is of another number of classes.
    """
    shares = tuple(augment_config.class_probability)
    if len(shares) not in (0, num_classes):
        met = f"config.augment.class_probability is {shares}, but there are {num_classes} classes"
        raise ConfigError(f"{met}; give one number for each, in class order, or () for all images")


def describe(augment_config: Config) -> str:
    """What is on, with its values, as `key value, …`."""
    on = [f"{key} {_plain(augment_config[key])}" for key in SWITCHES if is_on(augment_config, key)]
    if is_composed(augment_config):
        on += [f"fill_mode {augment_config.fill_mode}"]
    on += [f"{CUSTOM} {bare(augment_config[CUSTOM])}"] if augment_config[CUSTOM] else []
    on += [key for key in BY_EPOCH if augment_config[key]]
    if augment_config.class_probability and on:
        on += [f"class_probability {_plain(augment_config.class_probability)}"]
    return ", ".join(on) or "nothing"


def _check_colours(config: dict[str, Any], channels: int | None) -> None:
    unknown = [name for name in config["policy_names"] if name not in OPERATIONS]
    if unknown:
        raise ConfigError(f"config.augment.policy_names has {unknown[0]!r}; give some of {', '.join(OPERATIONS)}")
    if channels in (None, 3):
        return
    for name in ONLY_RGB:
        if is_on(config, name):
            met = f"config.augment.{name} is {config[name]}, but images have {channels} channel"
            raise ConfigError(f"{met}; give 0, or config.data.channels=3")
    if config["policy_operations"] and "colour" in config["policy_names"]:
        met = f"config.augment.policy_names has 'colour', but images have {channels} channel"
        raise ConfigError(f"{met}; give others, or config.data.channels=3")


def _plain(value: Any) -> str:
    if not isinstance(value, tuple | list):
        return f"{value:g}"
    return f"({', '.join(f'{part:g}' for part in value)}{',' * (len(value) == 1)})"
