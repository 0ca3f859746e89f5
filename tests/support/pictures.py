"""Pictures for the tests of copies: each like no other, and ways to save them again."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def draw_picture(seed: int, size=(120, 160), num_channels=3) -> Image.Image:
    """Coloured clouds, as different between seeds as photographs are; size is (height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, num_channels), dtype=np.uint8)
    clouds = Image.fromarray(coarse if num_channels == 3 else coarse[..., 0])
    return clouds.resize(size[::-1], Image.Resampling.BICUBIC)


def saved_again(picture: Image.Image, file_format="JPEG", **options) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def resized(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Everything in a folder: bytes and times by relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}
