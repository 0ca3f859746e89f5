"""From a picture to what a model sees: cropped, resized, equalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

RESIZE = ("stretch", "pad")
"""Whether the aspect ratio is ignored, or kept and the rest filled."""
CROP = ("none", "foreground")
"""Whether the whole picture counts, or what is on its background: see `foreground_box`."""
EQUALISE = ("none", "histogram", "clahe")
"""Whether intensities stay, or are spread over all levels: in the whole picture, or part by part."""

REDUCING_GAP = 3
"""A large JPEG is decoded at a reduced size that is still so many times the one wanted; see docs/streaming.md."""
MIN_WANTED_PX = 32
"""Side that is wanted in any case: that of the thumbnails which copies are found by."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower border of a part of a picture, pixels."""


@dataclass(frozen=True)
class Decoding:
    """Size, channels and way of resizing of decoded images.

    Attributes:
      image_size: (height, width), pixels.
      channels: 1 grey (ITU-R 601 luma), 3 RGB. Colour profiles are not applied.
      interpolation: one of `RESAMPLING`, anti-aliased as Pillow does it.
      resize: one of `RESIZE`; "pad" keeps the picture in the middle.
      pad_value: grey level, 0 to 255, of what "pad" fills; of an odd number of rows or columns the larger part is
        below or on the right.
      crop: one of `CROP`; happens before resizing.
      equalise: one of `EQUALISE`; happens after resizing, without what "pad" fills.
    """

    image_size: tuple[int, int]
    channels: int
    interpolation: str = "bicubic"
    resize: str = "stretch"
    pad_value: int = 255
    crop: str = "none"
    equalise: str = "none"

    @classmethod
    def of(cls, data_config: Any) -> Decoding:
        """The decoding that the section `data` of a config asks for."""
        return cls(
            tuple(data_config.image_size),
            data_config.channels,
            data_config.interpolation,
            data_config.resize,
            data_config.pad_value,
            data_config.crop,
            data_config.equalise,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of each array."""
        return (*self.image_size, self.channels)


def reduce_jpeg(image: Image.Image, enough_for: tuple[int, int]) -> Box | None:
    """Lets libjpeg decode a large picture, opened, not loaded, at a half, a quarter or an eighth; other formats stay.

    What it leaves out are frequencies that resizing would average away. The Huffman code is read to its end all the
    same, so that a damaged file is noticed. `enough_for` is the (height, width) that the picture will be resized to,
    turned upright or not. The result is the part of the reduced picture that the whole one fills, as its last pixels
    may reach over the border; None if it is not reduced.
    """
    side = REDUCING_GAP * max(*enough_for, MIN_WANTED_PX)
    size = image.size
    drafted = image.draft(image.mode, (side, side)) if image.format in ("JPEG", "MPO") else None
    return drafted[1] if drafted and image.size != size else None


def upright_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """The box from `reduce_jpeg` after the picture, of (width, height) as stored, was turned by tag 274 of EXIF 2.3."""
    width, height = box[2:]
    beyond_x, beyond_y = size[0] - width, size[1] - height
    if orientation > 4:
        width, height, beyond_x, beyond_y = height, width, beyond_y, beyond_x
    left = beyond_x if orientation in (2, 3, 6, 7) else 0.0
    upper = beyond_y if orientation in (3, 4, 7, 8) else 0.0
    return left, upper, left + width, upper + height


def resize_picture(
    picture: Image.Image, decoding: Decoding, box: Box | None = None
) -> tuple[UInt8[np.ndarray, "H W C"], Image.Image]:
    """Crops, resizes and equalises a picture of mode L or RGB, or its part in `box`.

    Gives the image, and the content without padding and as bright as it was.
    """
    height, width, channels = decoding.shape
    mode = {1: "L", 3: "RGB"}[channels]
    if decoding.crop == "foreground":
        box = foreground_box(picture)
    shape = (box[2] - box[0], box[3] - box[1]) if box else picture.size
    size = (width, height) if decoding.resize == "stretch" else _largest_inside(shape, (width, height))
    # A grey picture is grey already, which saves two of three channels here. A coloured one is resized first
    # because the reference does: PIL resize, then convert("L").
    content = picture.resize(size, RESAMPLING[decoding.interpolation], box)
    image = equalised(content.convert(mode), decoding.equalise)
    if size != (width, height):
        filled = Image.new(mode, (width, height), (decoding.pad_value,) * channels)
        filled.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
        image = filled
    return np.array(image).reshape(height, width, channels), content


def _largest_inside(size: tuple[float, float], frame: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of this aspect ratio that fits into the frame, each at least one pixel."""
    factor = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


# --- what is on the paper -------------------------------------------------------------------------

_LOOKED_AT_PX = 256
"""The foreground is looked for in a picture of at most this side."""
_MARGIN = 0.05
"""Of the larger side of what was found: so much stays around it."""


def foreground_box(picture: Image.Image) -> Box | None:
    """The part of a picture that differs from its background, with some margin; None if that is all, or nothing is.

    The background is the grey level that is most frequent, such as paper; what differs by more than Otsu's threshold
    is in front of it. Lines and bars along the sides (the frame of a scanner, the edge of the paper) and dust are no
    part of it. Photographs have no such background: there this takes nothing away, or something at random.
    """
    from scipy import ndimage

    small = picture.convert("L")
    small.thumbnail((_LOOKED_AT_PX, _LOOKED_AT_PX), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    levels = np.bincount(grey.astype(int).ravel() // 16, minlength=16)
    differs = np.abs(grey - np.median(grey[grey // 16 == levels.argmax()]))
    is_front = differs > max(_otsu(differs), 16)
    frame = _frame(is_front)
    inside = np.zeros_like(is_front)
    inside[frame] = is_front[frame]
    labelled: Any = ndimage.label(inside, np.ones((3, 3)))
    parts = labelled[0]
    is_large = np.bincount(parts.ravel()) >= max(4, grey.size / 2000)
    is_large[0] = False
    rows, columns = (np.flatnonzero(is_large[parts].any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    margin = _MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    (top, bottom), (left, right) = (
        (max(found[0] - margin, side.start), min(found[-1] + 1 + margin, side.stop))
        for found, side in zip((rows, columns), frame, strict=True)
    )
    if (bottom - top) * (right - left) > 0.95 * grey.size:
        return None
    by_x, by_y = picture.width / small.width, picture.height / small.height
    return left * by_x, top * by_y, right * by_x, bottom * by_y


def _frame(is_front: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns between the innermost lines that are foreground nearly from end to end, in the outer tenths."""
    sides = []
    for axis in (1, 0):
        share = is_front.mean(axis)
        outer = len(share) // 10
        first, last = (np.flatnonzero(part > 0.8) for part in (share[:outer], share[::-1][:outer]))
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


def equalised(image: Image.Image, how: str) -> Image.Image:
    """An image of mode L or RGB whose brightness is spread over all levels by one of `EQUALISE`; colours stay.

    "clahe" is contrast limited adaptive equalisation with scikit-image's own settings: tiles of an eighth of the
    sides, clip limit 0.01 (Zuiderveld 1994).
    """
    if how == "none":
        return image
    luma, *chroma = image.convert("YCbCr").split() if image.mode == "RGB" else (image,)
    if how == "histogram":
        luma = ImageOps.equalize(luma)
    elif luma.getextrema()[0] != luma.getextrema()[1]:  # of one level nothing can be spread
        from skimage.exposure import equalize_adapthist

        luma = Image.fromarray(np.round(255 * equalize_adapthist(np.asarray(luma))).astype(np.uint8))
    return Image.merge("YCbCr", (luma, *chroma)).convert("RGB") if chroma else luma
