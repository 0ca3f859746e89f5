"""From a picture to what a model sees: cropped, resized, equalised, and for shortcut tests only one thing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from fpclass.data.altered.versions import WHOLE, make_version
from fpclass.data.foreground import Box, foreground_box

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

RESIZE = ("stretch", "pad")
"""Whether the aspect ratio is ignored, or kept and the rest filled."""
CROP = ("none", "foreground", "centre")
"""Whether the whole picture counts, what is on its background (see `foreground_box`), or the middle of it."""
CENTRE = 0.65
"""Share of the sides that the middle has: what a photograph is of mostly lies there, and is seen 1.5 times as large."""
EQUALISE = ("none", "histogram", "clahe")
"""Whether intensities stay, or are spread over all levels: in the whole picture, or part by part."""

REDUCING_GAP = 3
"""A large JPEG is decoded at a reduced size that is still so many times the one wanted; see docs/streaming.md."""
MIN_WANTED_PX = 32
"""Side that is wanted in any case: that of the thumbnails which copies are found by."""


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
      keep: one of `fpclass.data.altered.versions.KEEP`; happens last.
    """

    image_size: tuple[int, int]
    channels: int
    interpolation: str = "bicubic"
    resize: str = "stretch"
    pad_value: int = 255
    crop: str = "none"
    equalise: str = "none"
    keep: str = WHOLE

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
            data_config.keep,
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
    """Crops, resizes and equalises a picture of mode L or RGB, or its part in `box`, and keeps what the decoding says.

    Gives the image, and the content without padding, as bright as it was, and whole.
    """
    height, width, channels = decoding.shape
    mode = {1: "L", 3: "RGB"}[channels]
    if decoding.crop == "foreground":
        box = foreground_box(picture)
    elif decoding.crop == "centre":
        box = centre_of(box or (0.0, 0.0, *picture.size))
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
    return make_version(np.array(image).reshape(height, width, channels), decoding.keep), content


def centre_of(box: Box) -> Box:
    """The middle of a box: `CENTRE` of its sides, but a pixel at least, or the whole of a side that is shorter."""
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    cut_x, cut_y = (max(0.0, (side - max(CENTRE * side, 1.0)) / 2) for side in (width, height))
    return left + cut_x, upper + cut_y, right - cut_x, lower - cut_y


def _largest_inside(size: tuple[float, float], frame: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of this aspect ratio that fits into the frame, each at least one pixel."""
    factor = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


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
