"""Decoding of image files to uint8 pixels, for every odd file that a camera or a scanner can make."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import PIL
from jaxtyping import UInt8
from PIL import Image

from fpclass.common.threads import in_threads
from fpclass.data import cache
from fpclass.data.altered.versions import WHOLE
from fpclass.data.cache import StoredImages
from fpclass.data.eight_bits import eight_bits, grey_if_all_is
from fpclass.data.foreground import Box
from fpclass.data.perceptual import fingerprint
from fpclass.data.resize import CENTRE, Decoding, reduce_jpeg, resize_picture, upright_box
from fpclass.data.table import Progress, Table
from fpclass.errors import DecodeError, one_line

Images: TypeAlias = UInt8[np.ndarray, "N H W C"] | StoredImages

VERSION = 2
"""Part of the key of cached arrays: raise it whenever the same bytes give other pixels or other facts."""

MAX_PIXELS = 150_000_000
"""Larger images are refused. An A4 page scanned at 1200 dpi has 139 million pixels; a file that claims far more
is damaged or a decompression bomb. Pillow itself refuses at 179 million."""

LARGE_PIXELS = 32_000_000
"""Larger images are decoded one at a time: 150 million RGB pixels take 600 MB, and not once per core."""

FACT_DTYPES: dict[str, Any] = {
    "num_bytes": np.int64,      # 0 where nothing could be read
    "sha256": object,           # of the file; "" where nothing could be read
    "pixel_sha256": object,     # of the picture (see `reduce_jpeg`); "" where it does not decode, like all that follow
    "phash": object,            # what copies share after re-encoding or resizing: see fpclass.data.perceptual
    "dhash": object,
    "thumbnail": object,
    "width": np.int64,          # pixels, upright; 0 where it does not decode
    "height": np.int64,
    "mode": object,             # Pillow's name of the pixel format in the file: L, RGB, P, I;16 …
    "format": object,           # PNG, JPEG …, by content, whatever the extension says
    "num_frames": np.int64,
    "mean": np.float64,         # of the resized picture's grey, 0 to 255; NaN where it does not decode
    "std": np.float64,
    "note": object,             # what was done to it that its owner may not expect
    "error": object,            # "" if it decodes, otherwise why not
}  # fmt: skip
"""Columns of the facts, in order, with their types."""

# Only raster formats with a signature of their own. Left out on purpose: EPS, PDF and WMF, which start other
# programs, and TGA, which has no signature, so that any text could be one.
_WANTED = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TIFF", "WEBP")

Image.init()  # here, not in the threads that would all start it
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the facts say what is wrong with a file

# Orientation, tag 274 of EXIF 2.3: what turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 274  # tag of TIFF 6.0


@dataclass(frozen=True)
class Decoded:
    """A decoded and resized image, and the facts of its file: the keys of `FACT_DTYPES` but `error`."""

    image: UInt8[np.ndarray, "H W C"]
    facts: dict[str, Any]


def decode_bytes(data: bytes, decoding: Decoding) -> Decoded:
    """Decodes one image: first frame, upright, transparency over white, scaled to 8 bits, resized.

    Raises:
      DecodeError: empty, damaged, truncated, too large or not an image; the message is a short reason.
    """
    with _as_decode_error(data):
        decoded, picture, box = _decoded(data, decoding)
        digests = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "pixel_sha256": pixel_digest(picture),
            **fingerprint(picture, box),
        }
    return Decoded(decoded.image, decoded.facts | digests)


def decode_and_describe(data: bytes, decoding: Decoding, max_pixels: int = MAX_PIXELS) -> Decoded:
    """What `decode_bytes` gives, to the bit, without the digests that copies are found by; and whether it `is_grey`.

    Args:
      max_pixels: width times height from which a file is refused before any pixel of it is decoded.

    Raises:
      DecodeError: as `decode_bytes`.
    """
    with _as_decode_error(data):
        decoded, picture, _ = _decoded(data, decoding, max_pixels)
    return Decoded(decoded.image, decoded.facts | {"is_grey": picture.mode == "L"})


def decode_image(image: bytes | Image.Image, decoding: Decoding) -> UInt8[np.ndarray, "H W C"]:
    """Decodes one image and measures nothing: of a file's bytes to the bit what `decode_bytes` gives, in less time.

    A picture that Pillow has opened already goes the same way: upright, scaled to 8 bits, resized; its frame is the one
    where it stands, and a large JPEG is decoded at its full size.

    Raises:
      DecodeError: as `decode_bytes`.
    """
    if isinstance(image, Image.Image):
        with _as_decode_error(None):
            return resize_picture(_picture(image)[0], decoding)[0]
    with _as_decode_error(image):
        picture, _, box = _picture(_opened(image), _enough_for(decoding))
        return resize_picture(picture, decoding, box)[0]


def open_picture(data: bytes) -> tuple[Image.Image, dict[str, Any]]:
    """Decodes one image at its full size: first frame, upright, transparency over white, scaled to 8 bits.

    It is of mode L if all its pixels are grey, else RGB. With it come its mode, format, num_frames, width, height and
    note, as in `FACT_DTYPES`.

    Raises:
      DecodeError: as `decode_bytes`.
    """
    with _as_decode_error(data):
        return _picture(_opened(data))[:2]


def pixel_digest(picture: Image.Image) -> str:
    """SHA-256 of a picture, which is the same for two files that hold the same one."""
    digest = hashlib.sha256(f"{picture.mode} {picture.width} {picture.height} ".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def decode_table(
    table: Table,
    decoding: Decoding,
    *,
    cache_dir: Path | None,
    memory_bytes: float = math.inf,
    progress: Progress | None = None,
    num_threads: int | None = None,
) -> tuple[Images, pd.DataFrame]:
    """Decodes every image of a table of N rows once, on all cores; what cannot be decoded is listed in the facts.

    Args:
      table: its `read` is called from several threads.
      cache_dir: folder of decoded sets, by content; None for no cache. One that cannot be written to is not used.
      memory_bytes: a larger decoded set is never in memory, but used from the cache, or without one from a temporary
        file.
      progress: not called when the cache has everything.
      num_threads: None for one per core.

    Returns:
      Images, zeros where decoding failed, `StoredImages` where they are more than memory_bytes; and the facts of each
      row of the table, in its order, with the columns of `FACT_DTYPES`.

    Raises:
      RunError: there is no room on the disk for a set that is more than memory_bytes.
    """
    shape, settings = (len(table), *decoding.shape), _cache_settings(decoding)
    is_stored = math.prod(shape) > memory_bytes

    with _quiet:
        contents: list[str] = []
        kept_images, kept = np.zeros((0, *decoding.shape), np.uint8), []
        if cache_dir is not None:
            contents = list(in_threads(functools.partial(_content, table), len(table), num_threads))
            kept_images, kept = cache.find(cache_dir, settings, contents) or (kept_images, kept)
            if _contents(kept) == contents:  # else a file changed while the set was made, or this is another set
                return kept_images if is_stored else kept_images[:], facts_frame(kept)
        # Where only some files are new, the others are copied from the set that was used last.
        kept_rows = {content: row for row, content in enumerate(_contents(kept))}

        def fill(images: Images) -> list[dict[str, Any]]:
            def fill_row(row: int) -> dict[str, Any]:
                kept_row = kept_rows.get(contents[row]) if kept_rows else None
                if kept_row is None:
                    return _decode_row(table, row, decoding, images)
                images[row] = kept_images[kept_row]
                return kept[kept_row]

            with contextlib.closing(in_threads(fill_row, len(table), num_threads)) as results:
                return list(progress(results, len(table)) if progress else results)

        if is_stored:
            images, facts = cache.store(cache_dir, settings, contents, shape, fill)
            return images, facts_frame(facts)
        images = np.zeros(shape, np.uint8)
        facts = fill(images)

    if cache_dir is not None:
        cache.save(cache_dir, settings, contents, images, facts)
    return images, facts_frame(facts)


def facts_frame(facts: list[dict[str, Any]]) -> pd.DataFrame:
    """The facts of each row as a data frame with the columns and types of `FACT_DTYPES` and a range index."""
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in facts], dtype=kind) for name, kind in FACT_DTYPES.items()}
    )


def _cache_settings(decoding: Decoding) -> str:
    settings = f"{VERSION} pillow {PIL.__version__.split('.')[0]} {decoding.shape} {decoding.interpolation}"
    # The keys of the defaults are older than the choices: sets that were kept then are still found.
    settings += "" if decoding.resize == "stretch" else f" {decoding.resize} {decoding.pad_value}"
    settings += "" if decoding.crop == "none" else f" crop={decoding.crop}"
    settings += "" if decoding.equalise == "none" else f" equalise={decoding.equalise}"
    return settings + ("" if decoding.keep == WHOLE else f" keep={decoding.keep}")


def _decode_row(table: Table, row: int, decoding: Decoding, images: Images) -> dict[str, Any]:
    facts = {name: "" if kind is object else 0 for name, kind in FACT_DTYPES.items()}
    facts |= {"mean": math.nan, "std": math.nan}
    data, error = _read(table, row)
    if error:
        return facts | {"error": error}
    try:
        decoded = decode_bytes(data, decoding)
    except DecodeError as failure:
        digest = hashlib.sha256(data).hexdigest()
        return facts | {"num_bytes": len(data), "sha256": digest, "error": str(failure)}
    images[row] = decoded.image
    return facts | decoded.facts


def _content(table: Table, row: int) -> str:
    """The digest of a row's bytes, or why they cannot be read."""
    data, error = _read(table, row)
    return error or hashlib.sha256(data).hexdigest()


def _contents(facts: list[dict[str, Any]]) -> list[str]:
    """The same as `_content`, of rows that were decoded."""
    return [row["sha256"] or row["error"] for row in facts]


def _read(table: Table, row: int) -> tuple[bytes, str]:
    """The bytes of a row and why there are none: one of the two is empty unless the file itself is."""
    if table.rows["path"].iloc[row] == "":
        return b"", "missing file"
    try:
        return table.read(row), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror or one_line(error)}"


def _decoded(data: bytes, decoding: Decoding, max_pixels: int = MAX_PIXELS) -> tuple[Decoded, Image.Image, Box | None]:
    """An image with the facts that no digest is needed for; its picture, and the part of it that counts."""
    picture, facts, box = _picture(_opened(data), _enough_for(decoding), max_pixels)
    image, content = resize_picture(picture, decoding, box)
    grey = np.asarray(content.convert("L"), np.float64)
    measured = {"num_bytes": len(data), "mean": float(grey.mean()), "std": float(grey.std())}
    return Decoded(image, facts | measured), picture, box


def _opened(data: bytes) -> Image.Image:
    """The image in a file, of which no pixel is decoded yet."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _enough_for(decoding: Decoding) -> tuple[int, int] | None:
    """The size of the whole picture after resizing; None where nobody knows, as it is cropped to what it shows."""
    height, width = decoding.image_size
    sizes = {"none": (height, width), "centre": (math.ceil(height / CENTRE), math.ceil(width / CENTRE))}
    return sizes.get(decoding.crop)


def _picture(
    image: Image.Image, enough_for: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, dict[str, Any], Box | None]:
    """The picture in a file, mode L if all its pixels are grey, else RGB; what the file was; the part that counts.

    Where a size is given that it will be resized to, it may be smaller than in the file: see `reduce_jpeg`.
    """
    notes = []
    full_size = image.size
    if image.width * image.height > max_pixels:
        raise DecodeError(_too_large(f"{image.width} x {image.height} pixels", max_pixels))
    box = reduce_jpeg(image, enough_for) if enough_for else None
    num_frames = getattr(image, "n_frames", 1)
    facts = {"mode": image.mode, "format": image.format, "num_frames": num_frames}
    if num_frames > 1:
        notes.append(f"first of {num_frames} frames")
    # Pillow turns a TIFF upright while loading and drops the tag; in other formats the tag may stand behind the
    # pixels, so that it is known only afterwards.
    loaded_upright = _orientation(image) if image.format == "TIFF" else 1
    with _one_large_image if image.width * image.height > LARGE_PIXELS else contextlib.nullcontext():
        image.load()
        orientation = _orientation(image)
        picture = grey_if_all_is(eight_bits(image, notes))
        if orientation in _UPRIGHT:
            picture = picture.transpose(_UPRIGHT[orientation])
    turned = orientation if orientation in _UPRIGHT else loaded_upright
    if turned in _UPRIGHT:
        notes.append(f"turned upright by its orientation tag {turned}")
    width, height = picture.size
    if box:
        width, height = full_size[::-1] if orientation > 4 else full_size
        box = upright_box(box, image.size, orientation)
    return picture, facts | {"width": width, "height": height, "note": "; ".join(notes)}, box


def _orientation(image: Image.Image) -> int:
    """The orientation tag, 1 to 8; 1 without one."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF can raise anything, and does not make the picture unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextlib.contextmanager
def _as_decode_error(data: bytes | None) -> Iterator[None]:
    """Whatever goes wrong with a file (None: with a picture that is open) is a `DecodeError`; Pillow is muted."""
    if data == b"":
        raise DecodeError("empty file")
    try:
        with _quiet:
            yield
    except DecodeError:
        raise
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise DecodeError(_reason(error, data)) from error


def _reason(error: Exception, data: bytes | None) -> str:
    if isinstance(error, PIL.UnidentifiedImageError) and data:
        return f"not an image of a format that is read here; it begins with {data[:16]!r}"
    if isinstance(error, Image.DecompressionBombError):
        return _too_large("more pixels than Pillow decodes")
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine, or damaged"
    return f"damaged or truncated: {one_line(error)}"


def _too_large(what: str, max_pixels: int = MAX_PIXELS) -> str:
    return f"too large: {what}; the limit is {max_pixels:,} in all"


class _Quiet:
    """Mutes Python's warnings while any thread decodes.

    Pillow warns about damaged EXIF and the like. `warnings.catch_warnings` alone is not fit for threads that overlap:
    one could restore what another one set. So the first to enter mutes, and the last to leave restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._muted = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._muted.enter_context(warnings.catch_warnings(action="ignore"))
            self._num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._muted.close()


_quiet = _Quiet()
_one_large_image = threading.Lock()
