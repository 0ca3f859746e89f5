"""A picture of any size to an array of the size that a model sees."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

RESIZE = ("stretch", "pad")
"""Whether the aspect ratio is ignored, or kept and the rest filled."""


def resize_picture(
    picture: Image.Image, image_size: tuple[int, int], channels: int, interpolation: str, resize: str, pad_value: int
) -> tuple[UInt8[np.ndarray, "H W C"], Image.Image]:
    """Resizes a picture.

    Args:
      picture: mode L or RGB.
      image_size: (height, width) of the result, pixels.
      channels: 1 grey (ITU-R 601 luma), 3 RGB.
      interpolation: one of `RESAMPLING`, anti-aliased as Pillow does it.
      resize: one of `RESIZE`.
      pad_value: grey level, 0 to 255, of what "pad" fills; of an odd number of rows or columns the larger part is
        below or on the right.

    Returns:
      The image, uint8 [H, W, C], and the resized picture in it, without what was filled.
    """
    height, width = image_size
    mode = {1: "L", 3: "RGB"}[channels]
    size = (width, height) if resize == "stretch" else _largest_inside(picture.size, (width, height))
    # A grey picture is grey already, which saves two of three channels here. A coloured one is resized first
    # because the reference does: PIL resize, then convert("L").
    content = picture.resize(size, RESAMPLING[interpolation])
    image = content.convert(mode)
    if size != (width, height):
        image = Image.new(mode, (width, height), (pad_value,) * channels)
        image.paste(content.convert(mode), ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.array(image).reshape(height, width, channels), content


def _largest_inside(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of this aspect ratio that fits into the frame, each at least one pixel."""
    factor = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
