"""Style of all figures: colours, sizes, titles, panels with images, and how a figure is written."""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, cast

import matplotlib
import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fpclass.common.files import replacing
from fpclass.errors import RunError

# Okabe and Ito's palette for every kind of colour vision, without yellow, which vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
LINE_STYLES = ("-", "--", ":", "-.")
INK, GREY, FAINT = "#222222", "#6B6B6B", "#DDDDDD"
RIGHT, WRONG = "#007A3D", "#C1121F"
"""Green and red of text on white; what is wrong also says so."""
HEAT_COLOURS = "inferno"
MAX_CLASS_ROWS = 20
"""Classes that figures show in detail; more would not fit on a page."""
STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.08,  # inches
    "figure.constrained_layout.w_pad": 0.08,
    "savefig.dpi": 150,
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a file or class name is a dollar sign
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

FORMATS = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "pdf", "svg", "eps")
"""Endings of figures."""

Images = UInt8[np.ndarray, "n h w c"]
Shapes = Int[np.ndarray, "n 2"]
Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draws in the house style, and leaves the settings of the caller's own figures alone."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure; the format is that of the file's ending. A file of that name is replaced in one step.

    Raises:
      RunError: the file cannot be written, or as `figure_format`.
    """
    file_format = figure_format(path)
    # Tick labels are made only now, so the style has to hold here too.
    with replacing(Path(path)) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format=file_format)


def figure_format(path: str | os.PathLike[str]) -> str:
    """The format of a figure by the file's ending: one of `FORMATS`, PNG where there is no ending (/dev/stdout).

    Raises:
      RunError: another ending.
    """
    ending = Path(path).suffix.removeprefix(".").lower() or "png"
    if ending not in FORMATS:
        raise RunError(f"{path}: no figure can be written as {ending!r}; choose an ending of {', '.join(FORMATS)}")
    return ending


def new_figure(width: float, height: float, title: str, note: str) -> Figure:
    """An empty figure, its size in inches, with its title and the small print at its foot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(wrap(title, int(width * 9)), x=0.01, ha="left", fontsize=13, fontweight="bold")
    if note:
        figure.supxlabel(wrap(note, int(width * 14)), x=0.99, ha="right", fontsize=8, color=GREY)
    return figure


def above_note(figure: Figure) -> SubFigure:
    """The part of a figure above its small print, which a legend outside of the panels would lie over otherwise."""
    return cast(SubFigure, figure.subfigures())


def cell_size(images: Images, longest: float, shapes: Shapes | None = None) -> tuple[float, float]:
    """Width and height in inches of a panel that each of the images fits into, the longer side given."""
    sides = np.array([images.shape[1:3]] if shapes is None or not len(shapes) else shapes, float)
    height, width = (sides / sides.max(axis=1, keepdims=True)).max(axis=0)
    return longest * width, longest * height


def shape_at(shapes: Shapes | None, i: int) -> Any:
    """(height, width) of an image in its file; None where nothing is said."""
    return None if shapes is None else shapes[i]


def show_image(axes: Axes, image: np.ndarray | None, shape: Sequence[float] | None = None) -> None:
    """Shows a grey or RGB image, intensities in [0, 255]; None leaves the panel empty.

    Args:
      shape: (height, width) that it had before it was stretched, in which it is shown; None: that of the array.
    """
    hide_ticks(axes)
    aspect: Any = "equal"
    if shape is not None and image is not None:
        aspect = (shape[0] / image.shape[0]) / (shape[1] / image.shape[1])  # of a pixel
    if image is None:
        axes.text(0.5, 0.5, "no images", transform=axes.transAxes, ha="center", color=GREY)
    elif image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, aspect=aspect)
    else:
        axes.imshow(image.astype(np.uint8), aspect=aspect)


def hide_ticks(axes: Axes, keep_frame: bool = True) -> None:
    """Makes a panel for pictures: no ticks, a faint frame or none."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(keep_frame)
    axes.spines[:].set_color(FAINT)


def name_row(axes: Axes, name: str) -> None:
    """Writes a name to the left of a row of images."""
    axes.set_ylabel(wrap(name, 14), rotation=0, ha="right", va="center", labelpad=6)


def name_image(axes: Axes, filename: str) -> None:
    """Writes the name of a file above its image, small."""
    axes.set_title(shorten(filename, 18), fontsize=6, color=GREY, pad=2)


def wrap(text: str, width: int) -> str:
    """Breaks a text into lines of at most so many characters."""
    return textwrap.fill(text, width, break_on_hyphens=False)


def shorten(text: str, length: int) -> str:
    """The text, or its start and end: names of files differ at their end."""
    return text if len(text) <= length else f"{text[: length // 3]}…{text[len(text) - length + length // 3 + 1 :]}"
