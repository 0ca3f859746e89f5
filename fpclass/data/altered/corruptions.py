"""Common corruptions of images at five strengths, the same for an image whenever it is asked for.

Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019 (ImageNet-C). Strengths that depend on the size of an image are shares of it, so that they mean the same at 64 and
at 224 pixels; they are made of the decoded image, as a network would see it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fpclass.data.altered.prints import Pixels, moved, to_picture

NUM_STRENGTHS = 5
OCCLUDED = 128
"""Grey level of what hides a part of an image."""


@dataclass(frozen=True)
class Corruption:
    """One way of spoiling an image.

    Attributes:
      words: for tables and sentences.
      make: of an image, a strength and random numbers, of which every strength gets the same.
      strengths: from weak to strong.
      unit: of the strengths, for the axis of a figure.
      phrase: a strength in a sentence, in place of {}.
    """

    words: str
    make: Callable[[Pixels, float, np.random.Generator], Pixels]
    strengths: tuple[float, float, float, float, float]
    unit: str
    phrase: str


def corrupt(image: Pixels, name: str, strength: int, filename: str, seed: int = 0) -> Pixels:
    """A corrupted copy.

    Args:
      name: of `CORRUPTIONS`.
      strength: 1 to 5.
      filename: with the seed it decides what is random: noise, the side that is turned to, what is hidden.
    """
    corruption = CORRUPTIONS[name]
    digest = hashlib.sha256(f"{seed} {name} {filename}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return corruption.make(image, corruption.strengths[strength - 1], random)


def _jpeg(image: Pixels, quality: float, random: np.random.Generator) -> Pixels:
    stream = io.BytesIO()
    to_picture(image).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream)).reshape(image.shape)


def _blur(image: Pixels, percent: float, random: np.random.Generator) -> Pixels:
    from scipy import ndimage

    sigma = percent / 100 * min(image.shape[:2])
    return _to_bytes(ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def _noise(image: Pixels, percent: float, random: np.random.Generator) -> Pixels:
    return _to_bytes(image + random.normal(0, 2.55 * percent, image.shape))


def _contrast(image: Pixels, percent: float, random: np.random.Generator) -> Pixels:
    mean = image.mean(axis=(0, 1))
    return _to_bytes((image - mean) * (percent / 100) + mean)


def _rotation(image: Pixels, degrees: float, random: np.random.Generator) -> Pixels:
    return moved(image, degrees=degrees * random.choice((-1, 1)))


def _occlusion(image: Pixels, percent: float, random: np.random.Generator) -> Pixels:
    """A rectangle of the image's own shape, somewhere in it."""
    share = np.sqrt(percent / 100)
    sides = [max(1, round(share * side)) for side in image.shape[:2]]
    top, left = (int(random.random() * (whole - side + 1)) for whole, side in zip(image.shape, sides, strict=False))
    hidden = image.copy()
    hidden[top : top + sides[0], left : left + sides[1]] = OCCLUDED
    return hidden


def _to_bytes(values: np.ndarray) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "jpeg": Corruption("JPEG", _jpeg, (80, 50, 25, 15, 7), "quality, 1 to 100", "quality {}"),
    "blur": Corruption(
        "blur", _blur, (0.45, 0.9, 1.3, 1.8, 2.7),
        "standard deviation, % of the shorter side", "{} % of the shorter side",
    ),
    "noise": Corruption(
        "noise", _noise, (2, 4, 8, 12, 18), "standard deviation, % of black to white", "{} % of black to white"
    ),
    "contrast": Corruption(
        "low contrast", _contrast, (75, 50, 40, 30, 15), "contrast that is left, %", "{} % of it left"
    ),
    "rotation": Corruption("rotation", _rotation, (2, 5, 10, 20, 30), "degrees, left or right", "{} degrees"),
    "occlusion": Corruption(
        "occlusion", _occlusion, (5, 10, 20, 30, 40), "hidden share of the image, %", "{} % hidden"
    ),
}  # fmt: skip
"""By name, in the order of tables. Blur is ImageNet-C's (1, 2, 3, 4 and 6 of 224 pixels)."""
