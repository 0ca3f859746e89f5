"""Figures of maps over images, and of feature maps."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from fpclass.explain.feature_maps import MAX_CHANNELS, FeatureMaps
from fpclass.report.style import (
    GREY,
    HEAT_COLOURS,
    INK,
    RIGHT,
    WRONG,
    Images,
    Shapes,
    cell_size,
    hide_ticks,
    new_figure,
    shape_at,
    show_image,
    styled,
    wrap,
)

TITLE = "What the stages of the network make of an image (feature maps)"
CAPTION = (
    f"Of each stage up to {MAX_CHANNELS} channels: those whose standard deviation over the image is largest, the "
    "largest first, each with its number. Each has a scale of its own: its mean in the middle, black two standard "
    "deviations below, bright two above."
)

STRENGTH = 0.5
"""Of a map over its image: 0 is the image alone, 1 the map alone."""


@styled
def map_sheet(
    images: Images,
    maps: Float[np.ndarray, "n mh mw"],
    titles: Sequence[str],
    is_right: Sequence[bool | None],
    *,
    title: str,
    captions: Sequence[str] = (),
    label: str = "",
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """Images, each beside itself under its map, with a title above and a caption below the map.

    Args:
      maps: in [0, 1] and of any height and width.
      is_right: whether each is predicted right; None where nobody knows.
      label: of the colour scale.
      shapes: (height, width) of each image in its file, in which it is shown; None: as the arrays are.
    """
    width, height = cell_size(images, 1.9, shapes)
    num_columns = max(1, min(len(images), 3))
    num_rows = max(1, math.ceil(len(images) / num_columns))
    size = (max(5.2, num_columns * (2 * width + 0.4) + 0.9), max(2.6, num_rows * (height + 0.75) + 1.0))
    figure = new_figure(*size, title, note)
    grid, side = figure.subfigures(1, 2, squeeze=False, width_ratios=(size[0] - 0.8, 0.8))[0]
    pairs = grid.subfigures(num_rows, num_columns, squeeze=False).ravel()
    for i, (pair, image, heat) in enumerate(zip(pairs, images, maps, strict=False)):
        lines = [wrap(line, int(2 * width * 13)) for line in titles[i].split("\n")]
        colour = {True: RIGHT, False: WRONG, None: INK}[is_right[i]]
        pair.suptitle("\n".join(lines), fontsize=9, color=colour)
        plain, overlaid = pair.subplots(1, 2, subplot_kw={"anchor": "N"})
        show_image(plain, image, shape_at(shapes, i))
        show_image(overlaid, overlay(image, heat), shape_at(shapes, i))
        if captions:
            overlaid.set_xlabel(wrap(captions[i], max(12, int(width * 15))), fontsize=7, color=GREY, labelpad=2)
    scale = ScalarMappable(cmap=HEAT_COLOURS)
    bar_height = min(2.4, 0.7 * size[1]) / size[1]
    figure.colorbar(scale, cax=side.add_axes((0.05, 0.5 - bar_height / 2, 0.18, bar_height))).set_label(label, size=8)
    return figure


def overlay(
    image: UInt8[np.ndarray, "h w c"], heat: Float[np.ndarray, "mh mw"], strength: float = STRENGTH
) -> Float[np.ndarray, "h w 3"]:
    """The image in grey under its map in colours, RGB intensities in [0, 255]; of strength 1 only the map is seen."""
    grey = image.mean(axis=-1, keepdims=True)
    colours = matplotlib.colormaps[HEAT_COLOURS](resize_map(heat, image.shape[:2]))[..., :3]
    return (1 - strength) * grey + strength * 255 * colours


def overlay_png(
    image: UInt8[np.ndarray, "h w c"],
    heat: Float[np.ndarray, "mh mw"],
    size: tuple[int, int] | None = None,
    strength: float = STRENGTH,
) -> bytes:
    """`overlay` as the bytes of a PNG file, stretched to (height, width) where these are given."""
    picture = Image.fromarray(np.rint(overlay(image, heat, strength)).astype(np.uint8))
    if size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def resize_map(heat: Float[np.ndarray, "*n mh mw"], image_size: tuple[int, int]) -> Float[np.ndarray, "*n h w"]:
    """Enlarges a map, or many, smoothly (bicubic) to an image's (height, width); values stay in [0, 1]."""
    rows, columns = (_bicubic(*sizes) for sizes in zip(np.shape(heat)[-2:], image_size, strict=True))
    enlarged = rows @ (np.asarray(heat, np.float32) @ columns.T)
    return np.clip(enlarged, 0, 1, out=enlarged)


@functools.lru_cache(maxsize=64)
def _bicubic(size: int, new_size: int) -> Float[np.ndarray, "new old"]:
    """The matrix that resizes a column of pixels as Pillow does: what it makes of the columns of the identity."""
    identity = Image.fromarray(np.eye(size, dtype=np.float32))
    return np.asarray(identity.resize((size, new_size), Image.Resampling.BICUBIC))


@styled
def feature_map_rows(
    image: UInt8[np.ndarray, "h w c"],
    stages: Sequence[FeatureMaps],
    num_stages: int,
    title: str,
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """The image at the left, in the first of the shapes, and a row of channels for each stage, from first to last.

    At least one stage, taken from `num_stages`. How channels were chosen and are scaled is part of the small print.
    """
    shapes = None if shapes is None else shapes[:1]
    width, height = cell_size(image[None], 0.75, shapes)
    num_columns = max(1, *(len(stage.channels) for stage in stages))
    left, right = 2.4, num_columns * width + 1.9
    size = (max(left + right, 7.5), max(3.4, len(stages) * (height + 0.2) + 1.3))
    is_all = len(stages) == num_stages
    skipped = () if is_all else (f"{len(stages)} of {num_stages} stages, the first and the last among them.",)
    figure = new_figure(*size, TITLE, " ".join((*skipped, CAPTION, note)))
    whole, rows = figure.subfigures(1, 2, squeeze=False, width_ratios=(left, size[0] - left))[0]
    panel = whole.subplots()
    show_image(panel, image, shape_at(shapes, 0))
    panel.set_title("\n".join(wrap(line, 30) for line in title.split("\n")), fontsize=9)
    for axes, stage in zip(rows.subplots(len(stages), 1, squeeze=False)[:, 0], stages, strict=True):
        _row(axes, stage, num_columns, height / width)
    return figure


def _row(axes: Axes, stage: FeatureMaps, num_columns: int, aspect: float) -> None:
    """The channels side by side, each a unit wide and as high as the image is beside its width."""
    hide_ticks(axes, keep_frame=False)
    for i, (channel, values) in enumerate(zip(stage.channels, stage.maps, strict=True)):
        place = (i + 0.03, i + 0.97, 0, 0.94 * aspect)
        axes.imshow(values, cmap=HEAT_COLOURS, vmin=0, vmax=1, extent=place, interpolation="nearest")
        axes.text(i + 0.5, 0.97 * aspect, str(channel), ha="center", va="bottom", fontsize=6, color=GREY)
    axes.set(xlim=(0, num_columns), ylim=(0, 0.94 * aspect), aspect="equal", anchor="W")
    if not len(stage.channels):
        axes.text(0.5, 0.47 * aspect, "every channel is the same everywhere", va="center", color=GREY)
    label = f"{wrap(stage.stage, 18)}\n{' x '.join(map(str, stage.shape))}"
    axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6, fontsize=8)
