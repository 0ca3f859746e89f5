"""Pictures inside a page: small ones as they are, large ones smaller, and never more than there is room for."""

from __future__ import annotations

import base64
import io
import pathlib

import numpy as np
from PIL import Image

from fpclass.report.pictures import MAX_SIDES_PX, embed


def noise(path: pathlib.Path, size: tuple[int, int]) -> pathlib.Path:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, dpi=(150, 150))
    return path


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_figure_is_the_file_itself(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "small.png"
    Image.new("RGB", (300, 100), "red").save(path, dpi=(150, 150))
    made, why_not = embed([path])
    assert made[path].uri == "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    assert made[path].width == 192, "as wide as on paper, at 96 pixels an inch"
    assert not why_not


def test_large_figures_become_smaller_until_they_fit(tmp_path: pathlib.Path) -> None:
    paths = [noise(tmp_path / f"{name}.png", (60, 1900)) for name in "ab"]
    made, _ = embed(paths)
    assert [opened(made[path].uri).width for path in paths] == [MAX_SIDES_PX[0]] * 2
    smaller, _ = embed(paths, budget=60_000)
    assert opened(smaller[paths[0]].uri).width < MAX_SIDES_PX[0]
    assert sum(len(base64.b64decode(one.uri.partition(",")[2])) for one in smaller.values()) <= 60_000
    assert smaller[paths[0]].width == made[paths[0]].width, "on the screen it is as large"
    first, why_not = embed(paths, budget=10_000)
    assert list(first) == paths[:1]
    assert "no room" in why_not[paths[1]]
