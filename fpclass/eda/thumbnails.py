"""Small pictures of the images, as data URIs: a page that carries them needs no other file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from PIL import Image

from fpclass.common.console import progress
from fpclass.common.threads import in_threads
from fpclass.data.decode import Images, open_picture
from fpclass.data.table import Table
from fpclass.errors import DecodeError
from fpclass.report.pictures import array_uri, data_uri

LONGEST_PX = 176
"""Longer side of a small picture: that of a card on the page. Smaller images keep their size."""


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
