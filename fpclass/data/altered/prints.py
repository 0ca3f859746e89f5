"""A print on its paper: where it is, the colour of the paper, and how the whole is turned or scaled without a seam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from fpclass.data.foreground import Foreground, Grey, find_foreground, most_frequent

Pixels: TypeAlias = UInt8[np.ndarray, "h w c"]

MIN_PAPER = 0.15
"""Share of a picture that has to be of one grey level, nearly, to be paper."""
MIN_INK, MAX_INK = 0.01, 0.8
"""Share of a picture that its print covers."""
PAPER_LEVELS = 12
"""Levels by which paper differs from its own colour in any channel, at most."""
MIN_PEAK = 0.66
"""Share that has to be paper of what differs from its colour by up to three times as much: scenes have no such peak."""
FLAT = 0.15
"""Share of a picture, where it varies least, in which the paper is looked for: its print may be larger."""
WINDOW = 0.04
"""Of the longer side of the picture: within so much of it is told how much it varies."""
CLOSED = 0.018
"""Of the longer side of the picture: gaps between ridges up to twice as wide are part of the silhouette."""
MIN_PART = 0.005
"""Of the largest part of a print, how large another one (a toe) is at least; smaller ones are dust."""


@dataclass(frozen=True)
class Print:
    """A print on its paper.

    Attributes:
      silhouette: what it covers [h, w], gaps and holes between its lines included.
      solid: the same without what is enclosed by it, such as the paper between toes [h, w].
      traces: all that hangs together with it and is not paper [h, w]: faint ends, smudges.
      is_paper: [h, w].
      is_dark: whether the ink is darker than the paper.
      paper: the colour of the paper [c].
      frame: as `Foreground`.
    """

    silhouette: Bool[np.ndarray, "h w"]
    solid: Bool[np.ndarray, "h w"]
    traces: Bool[np.ndarray, "h w"]
    is_paper: Bool[np.ndarray, "h w"]
    is_dark: bool
    paper: np.ndarray
    frame: tuple[slice, slice]


def box_of(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Rows and columns that hold a mask, which is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def find_print(image: Pixels) -> Print | None:
    """The print in an image; None where there is nothing on paper: an empty sheet, or a photograph of a scene."""
    grey = to_grey(image)
    found = find_foreground(grey, _flat_level(grey), is_narrow=True)
    colour = np.median(image[np.abs(grey - found.background) <= PAPER_LEVELS], axis=0)
    differs = np.abs(image - colour).max(axis=-1)
    is_paper = differs <= PAPER_LEVELS
    is_plain = is_paper.sum() >= MIN_PEAK * (differs <= 3 * PAPER_LEVELS).sum()
    if is_paper.mean() < MIN_PAPER or not is_plain or not found.mask.any():
        return None
    solid = _closed(found.mask)
    silhouette = _silhouette(solid)
    if not MIN_INK <= silhouette.mean() <= MAX_INK:
        return None
    traces = _joined(~is_paper, found) | silhouette
    is_dark = bool(np.median(grey[found.mask]) < found.background)
    return Print(silhouette, solid, traces, is_paper, is_dark, colour, found.frame)


def _flat_level(grey: Grey) -> float:
    """The grey level that is most frequent where the picture varies least: lines of ink vary, be they ever so many."""
    from scipy import ndimage

    size = max(3, round(WINDOW * max(grey.shape)))
    mean: Any = ndimage.uniform_filter(grey, size)
    square: Any = ndimage.uniform_filter(grey**2, size)
    variance = np.maximum(square - mean**2, 0)
    return most_frequent(grey[variance <= max(np.quantile(variance, FLAT), 1)])


def to_grey(image: Pixels) -> Grey:
    """ITU-R 601 luma, as decoding takes it."""
    return np.asarray(to_picture(image).convert("L"), np.float64)


def to_picture(image: Pixels) -> Image.Image:
    """The same as a picture of mode L or RGB."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _joined(mask: Bool[np.ndarray, "h w"], found: Foreground) -> Bool[np.ndarray, "h w"]:
    """The parts of a mask, closed, inside of the frame, that hold something of the foreground."""
    from scipy import ndimage

    inside = np.zeros_like(mask)
    inside[found.frame] = mask[found.frame]
    labelled: Any = ndimage.label(_closed(inside), np.ones((3, 3)))
    is_held = np.zeros(labelled[1] + 1, bool)
    is_held[labelled[0][found.mask]] = True
    is_held[0] = False
    return is_held[labelled[0]]


def _closed(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    from scipy import ndimage

    radius = max(1, round(CLOSED * max(mask.shape)))
    padded = np.pad(mask, radius)  # or closing would take what is beyond the border for foreground
    return np.asarray(ndimage.binary_closing(padded, _disc(radius)))[radius:-radius, radius:-radius]


def _disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


def _silhouette(closed: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The parts of a print, filled and without spikes; what is small beside the largest one is dust."""
    from scipy import ndimage

    filled = np.asarray(ndimage.binary_fill_holes(closed))
    radius = max(1, round(CLOSED * max(closed.shape) / 2))
    opened = np.asarray(ndimage.binary_opening(np.pad(filled, radius, mode="edge"), _disc(radius)))
    labelled: Any = ndimage.label(opened[radius:-radius, radius:-radius], np.ones((3, 3)))
    sizes = np.bincount(labelled[0].ravel())
    sizes[0] = 0
    return (sizes >= max(1, MIN_PART * sizes.max()))[labelled[0]]


def moved(image: Pixels, *, degrees: float = 0.0, scale: float = 1.0) -> Pixels:
    """The image turned, counterclockwise, and scaled about its centre.

    What comes in from beyond the border is paper, where there is a print on paper, and else the image mirrored there:
    no corner of black, by which the copy could be told.
    """
    height, width, channels = image.shape
    found = find_print(image)
    margin = math.ceil(0.3 * max(height, width))
    if found:
        paper = np.round(found.paper).astype(np.uint8)
        padded = np.broadcast_to(paper, (height + 2 * margin, width + 2 * margin, channels)).copy()
        padded[margin:-margin, margin:-margin] = image
    else:
        around = ((margin, margin), (margin, margin), (0, 0))
        padded = np.pad(image, around, mode="symmetric")
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    centre_x, centre_y = padded.shape[1] / 2, padded.shape[0] / 2
    matrix = (
        *(cosine, -sine, centre_x - cosine * width / 2 + sine * height / 2),
        *(sine, cosine, centre_y - sine * width / 2 - cosine * height / 2),
    )
    turned = to_picture(padded).transform(
        (width, height), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )
    return np.asarray(turned).reshape(image.shape)
