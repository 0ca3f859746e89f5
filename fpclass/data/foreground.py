"""What is in front of a plain background: ink on paper, a print on a scanner, an object on a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower border of a part of a picture, pixels."""
Grey: TypeAlias = Float[np.ndarray, "h w"]
"""Grey levels, 0 to 255."""

MIN_DIFFERENCE = 16
"""Grey levels by which the foreground differs from its background, at least."""
_LOOKED_AT_PX = 256
"""The box is looked for in a picture of at most this side."""
_MARGIN = 0.05
"""Of the larger side of what was found: so much stays around it."""


@dataclass(frozen=True)
class Foreground:
    """What differs from the background of a picture.

    Attributes:
      mask: [h, w], without dust and without lines and bars along the sides.
      background: grey level that is most frequent.
      frame: rows and columns inside of lines and bars along the sides (the frame of a scanner, the edge of the paper).
    """

    mask: Bool[np.ndarray, "h w"]
    background: float
    frame: tuple[slice, slice]


def find_foreground(grey: Grey, background: float | None = None, *, is_narrow: bool = False) -> Foreground:
    """What differs from the background, by default the most frequent grey level, by more than Otsu's threshold.

    Photographs have no such background: there this finds something at random. With `is_narrow` no line of a print
    that reaches to the frame is taken for a part of it: a frame is one bar along each side, at most.
    """
    from scipy import ndimage

    background = most_frequent(grey) if background is None else background
    differs = np.abs(grey - background)
    is_front = differs > max(_otsu(differs), MIN_DIFFERENCE)
    frame = _frame(is_front, is_narrow)
    inside = np.zeros_like(is_front)
    inside[frame] = is_front[frame]
    labelled: Any = ndimage.label(inside, np.ones((3, 3)))
    parts = labelled[0]
    is_large = np.bincount(parts.ravel()) >= max(4, grey.size / 2000)
    is_large[0] = False
    return Foreground(is_large[parts], background, frame)


def most_frequent(grey: np.ndarray) -> float:
    """The grey level, of sixteen, that most pixels have: the median within it."""
    levels = np.bincount(grey.astype(int).ravel() // 16, minlength=16)
    return float(np.median(grey[grey // 16 == levels.argmax()]))


def foreground_box(picture: Image.Image) -> Box | None:
    """The part of a picture that differs from its background, with some margin; None if that is all, or nothing is.

    See `find_foreground`. Photographs have no such background: there this takes nothing away, or something at random.
    """
    small = picture.convert("L")
    small.thumbnail((_LOOKED_AT_PX, _LOOKED_AT_PX), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    found = find_foreground(grey)
    rows, columns = (np.flatnonzero(found.mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    margin = _MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    (top, bottom), (left, right) = (
        (max(at[0] - margin, side.start), min(at[-1] + 1 + margin, side.stop))
        for at, side in zip((rows, columns), found.frame, strict=True)
    )
    if (bottom - top) * (right - left) > 0.95 * grey.size:
        return None
    by_x, by_y = picture.width / small.width, picture.height / small.height
    return left * by_x, top * by_y, right * by_x, bottom * by_y


def _frame(is_front: np.ndarray, is_narrow: bool) -> tuple[slice, slice]:
    """Rows and columns between the innermost lines that are foreground nearly from end to end, in the outer tenths."""
    sides = []
    for axis in (1, 0):
        share = is_front.mean(axis)
        outer = len(share) // 10
        first, last = (np.flatnonzero(part > 0.8) for part in (share[:outer], share[::-1][:outer]))
        if is_narrow:
            first, last = (lines[lines - np.arange(len(lines)) == lines[:1]] for lines in (first, last))
        sides.append(slice(first[-1] + 1 if len(first) else 0, len(share) - (last[-1] + 1 if len(last) else 0)))
    return sides[0], sides[1]


def _otsu(values: np.ndarray) -> float:
    """The threshold, of whole numbers, that leaves least variance on both of its sides (Otsu 1979)."""
    counts = np.bincount(values.astype(int).ravel(), minlength=256).astype(np.float64)
    below, sums = counts.cumsum(), (counts * np.arange(len(counts))).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(np.nan_to_num(between).argmax())
