"""Versions of an image that keep only one thing of it, such as its size or its outline, for shortcut tests.

What a network makes of them says what it uses: retrained on the bounding boxes of prints it can know their size alone.
They are made of the decoded image, as a network would see it. `KEEP` lists them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image

from fpclass.data.altered.prints import Pixels, Print, box_of, find_print, moved, to_grey, to_picture

WHOLE = "all"
"""The image as it is."""
Kind = Literal["prints", "photographs"]
KINDS: tuple[Kind, ...] = ("prints", "photographs")

GREY = 128
"""Level of what is left out of a photograph."""
ELLIPSE = 0.35
"""Half axes of the central ellipse of a photograph, of its sides."""
BAND = 0.03
"""Standard deviation of the Gaussian between low and high frequencies of a photograph, of its shorter side."""
AROUND = 0.03
"""Of the longer side of a picture: so much around a print is erased with it."""
NUM_LOOKED_AT = 100
"""Images that are looked at to tell prints from photographs."""


@dataclass(frozen=True)
class Version:
    """What is kept of an image.

    Attributes:
      kinds: of the images that it is made of.
      words: what is kept, for tables and sentences.
      make: of an image, and of the print in it where `needs_print`.
      is_reduced: whether it takes something away, so that a network trained on it can know only what is left.
      empty: grey level of the version of an image without a print; None: the image as it is.
      means: what it would mean that a network knows the classes by it.
    """

    kinds: tuple[Kind, ...]
    words: str
    make: Callable[..., Pixels]
    is_reduced: bool = True
    needs_print: bool = False
    empty: int | None = None
    means: str = ""


def make_version(image: Pixels, name: str) -> Pixels:
    """A version of an image, one of `KEEP`; where it takes a print and there is none, empty paper, or all paper."""
    if name == WHOLE:
        return image
    version = VERSIONS[name]
    if not version.needs_print:
        return version.make(image)
    found = find_print(image)
    if found is None:
        return image if version.empty is None else np.full_like(image, version.empty)
    return version.make(image, found)


def kind_of(images: Sequence[Pixels] | np.ndarray) -> Kind:
    """Prints where most of the images have something on plain paper; of many, 100 are looked at."""
    shown = images[:: max(1, len(images) // NUM_LOOKED_AT)]
    return "prints" if np.mean([find_print(image) is not None for image in shown]) > 0.5 else "photographs"


def versions_of(kind: Kind, channels: int) -> list[str]:
    """The versions of images of a kind; without grey of what is grey."""
    return [name for name, version in VERSIONS.items() if kind in version.kinds and (name != "grey" or channels > 1)]


# --- prints ---------------------------------------------------------------------------------------


def _ink_on_paper(shape: tuple[int, ...], found: Print, mask: np.ndarray) -> Pixels:
    """Black on white, or white on black: neither how dark the ink was nor the colour of the paper is kept."""
    return np.where((mask == found.is_dark)[..., None], 0, 255).astype(np.uint8) * np.ones(shape[-1], np.uint8)


def _size(image: Pixels, found: Print) -> Pixels:
    """The bounding box, filled, in the middle: nothing of where it was."""
    height, width = image.shape[:2]
    rows, columns = box_of(found.silhouette)
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    mask = np.zeros((height, width), bool)
    top, left = (height - tall) // 2, (width - wide) // 2
    mask[top : top + tall, left : left + wide] = True
    return _ink_on_paper(image.shape, found, mask)


def _outline(image: Pixels, found: Print) -> Pixels:
    return _ink_on_paper(image.shape, found, found.silhouette)


def _texture(image: Pixels, found: Print) -> Pixels:
    """The largest square inside of the print, scaled to the whole image: no outline, no paper, no size."""
    from scipy import ndimage

    # Beyond the border nothing is known of the print.
    distance: Any = ndimage.distance_transform_cdt(np.pad(found.solid, 1), metric="chessboard")
    distance = distance[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    reach = int(distance[y, x]) - 1
    square = image[y - reach : y + reach + 1, x - reach : x + reach + 1]
    size = image.shape[1], image.shape[0]
    return np.asarray(to_picture(square).resize(size, Image.Resampling.BICUBIC)).reshape(image.shape)


def _frame(image: Pixels, found: Print) -> Pixels:
    """The box of the print filled with what the paper around it looks like: its brightness nearby, its own noise."""
    from scipy import ndimage

    margin = max(2, round(AROUND * max(image.shape[:2])))
    rows, columns = (
        slice(max(part.start - margin, side.start), min(part.stop + margin, side.stop))
        for part, side in zip(box_of(found.traces), found.frame, strict=True)
    )
    is_paper = found.is_paper.copy()
    is_paper[rows, columns] = False
    erased = image.astype(np.float64)
    if not is_paper.any():
        erased[rows, columns] = found.paper
        return _to_bytes(erased)
    nearby: Any = partial(ndimage.gaussian_filter, sigma=0.1 * max(image.shape[:2]), mode="nearest")
    weight = nearby(is_paper.astype(np.float64))
    random = np.random.default_rng(zlib.crc32(image.tobytes()))
    paper, place = np.flatnonzero(is_paper), np.zeros(image.shape[:2], bool)
    place[rows, columns] = True
    drawn = random.choice(paper, int(place.sum()))
    for channel in range(image.shape[-1]):
        of_channel = erased[..., channel]
        sums = nearby(np.where(is_paper, of_channel, 0.0))
        level = np.where(weight > 1e-6, sums / np.maximum(weight, 1e-6), found.paper[channel])
        of_channel[place] = level[place] + (of_channel - level).ravel()[drawn]
    return _to_bytes(erased)


# --- photographs ----------------------------------------------------------------------------------


def _is_central(image: Pixels) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    away_y, away_x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    return (away_y**2 + away_x**2 <= ELLIPSE**2)[..., None]


def _background(image: Pixels) -> Pixels:
    return np.where(_is_central(image), np.uint8(GREY), image)


def _centre(image: Pixels) -> Pixels:
    return np.where(_is_central(image), image, np.uint8(GREY))


def _grey(image: Pixels) -> Pixels:
    return np.repeat(to_grey(image)[..., None], image.shape[-1], axis=-1).astype(np.uint8)


def _blurred(image: Pixels) -> np.ndarray:
    from scipy import ndimage

    sigma = BAND * min(image.shape[:2])
    return ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest")


def _low(image: Pixels) -> Pixels:
    return _to_bytes(_blurred(image))


def _high(image: Pixels) -> Pixels:
    return _to_bytes(image - _blurred(image) + GREY)


# --- both -----------------------------------------------------------------------------------------


def _mirrored(image: Pixels) -> Pixels:
    return np.ascontiguousarray(image[:, ::-1])


def _inverted(image: Pixels) -> Pixels:
    return 255 - image


def _to_bytes(values: np.ndarray) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


_PRINTS: tuple[Kind, ...] = ("prints",)
_PHOTOGRAPHS: tuple[Kind, ...] = ("photographs",)

VERSIONS: dict[str, Version] = {
    "size": Version(
        _PRINTS, "size alone", _size, needs_print=True, empty=255,
        means="how large the print is",
    ),
    "outline": Version(
        _PRINTS, "outline alone", _outline, needs_print=True, empty=255,
        means="its shape and size as a silhouette",
    ),
    "texture": Version(
        _PRINTS, "texture alone", _texture, needs_print=True, empty=255,
        means="what its inside looks like, whatever its size and outline",
    ),
    "frame": Version(
        _PRINTS, "frame alone", _frame, needs_print=True,
        means="the paper, the scanner or the cut of the picture, and not the print",
    ),
    "inverted": Version(_PRINTS, "ink inverted", _inverted, is_reduced=False),
    "background": Version(
        _PHOTOGRAPHS, "background alone", _background,
        means="what is around the middle of the picture",
    ),
    "centre": Version(
        _PHOTOGRAPHS, "centre alone", _centre,
        means="what is in the middle of the picture",
    ),
    "grey": Version(_PHOTOGRAPHS, "without colour", _grey, means="what is left without colour"),
    "low_pass": Version(
        _PHOTOGRAPHS, "low frequencies alone", _low,
        means="colours and coarse shapes, without detail",
    ),
    "high_pass": Version(
        _PHOTOGRAPHS, "high frequencies alone", _high,
        means="edges and fine detail, without large areas",
    ),
    "mirrored": Version(KINDS, "left and right swapped", _mirrored, is_reduced=False),
    **{
        f"scale_{percent}": Version(
            KINDS, f"scaled to {percent} %", partial(moved, scale=percent / 100), is_reduced=False
        )
        for percent in (90, 95, 105, 110)
    },
}  # fmt: skip
"""By name, in the order of tables."""
KEEP: tuple[str, ...] = (WHOLE, *VERSIONS)
"""Values of `data.keep`."""
