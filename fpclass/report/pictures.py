"""Pictures as data URIs: a page that carries them needs no other file."""

from __future__ import annotations

import base64
import dataclasses
import io
import pathlib
import warnings
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fpclass.errors import one_line

PIXELATED_PX = 64
"""Up to this side, images are enlarged by the browser, pixel by pixel, and kept without loss."""
MAX_SIDES_PX = (1800, 1300, 900, 600)
"""Longest sides that figures are tried with, until all of them find room."""
BUDGET_BYTES = 10_500_000
"""All figures of a page, before base64 makes four bytes of three: a page stays below 15 MiB."""
SMALL_BYTES = 60_000
"""Files up to this size are taken as they are."""


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
    return uri_of("png" if is_tiny else "jpeg", stream.getvalue())


def uri_of(subtype: str, data: bytes) -> str:
    """The bytes of an image file of some type, such as "png" or "svg+xml", as a data URI."""
    return f"data:image/{subtype};base64,{base64.b64encode(data).decode()}"


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A figure inside a page: its data URI, and how wide it is on a screen, as on paper, 96 pixels an inch."""

    uri: str
    width: int


def embed(
    paths: Iterable[pathlib.Path], budget: int = BUDGET_BYTES
) -> tuple[dict[pathlib.Path, Embedded], dict[pathlib.Path, str]]:
    """Figures as data URIs, made smaller together until they fit into a budget.

    Returns:
      They by path, and the reasons of those that are left out.
    """
    wanted, why_not = list(dict.fromkeys(paths)), {}
    made: dict[pathlib.Path, tuple[str, bytes, int]] = {}
    for longest in MAX_SIDES_PX:
        made = {}
        for path in wanted:
            try:
                made[path] = _encode(path, longest)
            except Exception as error:  # what is called .png may be anything
                why_not[path] = _reason(path, error)
        if _size(made) <= budget:
            break
    for path in reversed(wanted):  # the last ones are the least important
        if path in made and _size(made) > budget:
            del made[path]
            why_not[path] = "no room for it in one page; see the file"
    return {path: Embedded(uri_of(kind, data), width) for path, (kind, data, width) in made.items()}, why_not


def _size(made: dict[pathlib.Path, tuple[str, bytes, int]]) -> int:
    return sum(len(data) for _, data, _ in made.values())


def _encode(path: pathlib.Path, longest: int) -> tuple[str, bytes, int]:
    """A figure no larger than so many pixels, as it is where it is small, else WebP; and its width on a screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of a table of many configs
        with Image.open(path) as opened:
            width = round(96 * opened.width / (opened.info.get("dpi", (96,))[0] or 96))
            if opened.format == "PNG" and path.stat().st_size <= SMALL_BYTES and max(opened.size) <= longest:
                opened.load()  # a torn file says so
                return "png", path.read_bytes(), width
            picture = opened.convert("RGBA")
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    if max(paper.size) > longest:
        paper.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    paper.save(stream, "WEBP", quality=80, method=4)
    return "webp", stream.getvalue(), width


def _reason(path: pathlib.Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "not found"
    return f"cannot be read ({type(error).__name__}: {one_line(str(error).replace(str(path), path.name))})"
