"""Small pictures of the images, as data URIs: a page that carries them needs no other file."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fpclass.console import progress
from fpclass.data.decode import Images, open_picture
from fpclass.data.table import Table
from fpclass.errors import DecodeError
from fpclass.threads import in_threads

LONGEST_PX = 176
"""Longer side of a small picture: that of a card on the page. Smaller images keep their size."""
PIXELATED_PX = 64
"""Up to this side, images are enlarged by the browser, pixel by pixel, and kept without loss."""


def make_thumbnails(table: Table, images: Images, rows: Iterable[int]) -> dict[int, str]:
    """Data URIs of small pictures of some rows, by file or else decoded image; "" where an image cannot be used."""
    usable = table.usable_mask
    wanted = sorted(set(rows))
    shown = [row for row in wanted if usable[row]]

    def draw(i: int) -> str:
        try:
            picture, _ = open_picture(table.read(shown[i]))
        except (OSError, DecodeError):
            return array_uri(images[shown[i]])
        picture.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BICUBIC)
        return data_uri(picture)

    with contextlib.closing(in_threads(draw, len(shown))) as drawn:
        made = list(progress(drawn, len(shown), "small pictures"))
    return dict.fromkeys(wanted, "") | dict(zip(shown, made, strict=True))


def array_uri(image: UInt8[np.ndarray, "H W C"]) -> str:
    """An array of pixels, grey or RGB, as a data URI."""
    return data_uri(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))


def data_uri(picture: Image.Image) -> str:
    """A picture, mode L or RGB, as a data URI: PNG if it is tiny, else JPEG."""
    stream = io.BytesIO()
    is_tiny = max(picture.size) <= PIXELATED_PX
    if is_tiny:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=80, optimize=True)
    kind = "png" if is_tiny else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
