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


class Thumbnails:
    """Small pictures of the rows of a table in their own shape, made from the files.

    Args:
      table: audited: with width and height.
      images: the decoded images, for files that cannot be read any more.
    """

    def __init__(self, table: Table, images: Images):
        self._table = table
        self._images = images
        self._usable = table.usable_mask
        self._made: dict[int, str] = {}

    def make(self, rows: Iterable[int]) -> None:
        """Makes those of some rows, on all cores."""
        missing = sorted({int(row) for row in rows if self._usable[row]} - self._made.keys())
        with contextlib.closing(in_threads(lambda i: self._draw(missing[i]), len(missing))) as drawn:
            made = progress(drawn, len(missing), "small pictures")
            self._made |= dict(zip(missing, made, strict=True))

    def __getitem__(self, row: int) -> str:
        """The data URI of a row; "" where its image cannot be shown."""
        if row not in self._made and self._usable[row]:
            self._made[row] = self._draw(row)
        return self._made.get(row, "")

    def _draw(self, row: int) -> str:
        try:
            picture, _ = open_picture(self._table.read(row))
        except (OSError, DecodeError):
            return array_uri(self._images[row])
        picture.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BICUBIC)
        return data_uri(picture)


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
