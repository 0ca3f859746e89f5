"""Figures of single predictions: right and wrong ones, errors by original class, what is hard to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpclass.report.style import (
    COLOURS,
    GREY,
    HEAT_COLOURS,
    Images,
    cell_size,
    hide_ticks,
    new_figure,
    shorten,
    show_image,
    styled,
    wrap,
)

RIGHT, WRONG = "#007A3D", "#C1121F"
"""Green and red of text on white; a wrong one also says what it is."""


@styled
def prediction_grid(
    images: Images,
    titles: Sequence[str],
    is_right: Sequence[bool],
    title: str,
    num_columns: int = 6,
    note: str = "",
) -> Figure:
    """Images with what was said of them: right ones in green, wrong ones in red with a frame.

    Args:
      images: uint8 [N, H, W, C], C = 1 or 3.
      titles: of each image.
      is_right: of each image.
      title: of the figure.
      num_columns: images in a row.
      note: small print at the foot.
    """
    num_columns = min(num_columns, max(len(images), 1))
    num_rows = max(1, -(-len(images) // num_columns))
    width, height = cell_size(images, 1.4)
    width = max(width, 1.1)
    figure = new_figure(num_columns * (width + 0.12) + 0.3, num_rows * (height + 0.5) + 0.8, title, note)
    for i, panel in enumerate(figure.subplots(num_rows, num_columns, squeeze=False).flat):
        if i >= len(images):
            hide_ticks(panel, keep_frame=False)
            continue
        show_image(panel, images[i])
        _mark(panel, titles[i], is_right[i])
    return figure


@styled
def original_classes(classes: pd.DataFrame, pairs: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy of every original class with its interval, and how well pairs of them are told apart.

    Args:
      classes: from `fpclass.stats.original_classes.class_table`.
      pairs: from `fpclass.stats.original_classes.pair_table`.
      note: small print at the foot.
    """
    names = list(classes["original"])
    figure = new_figure(12.5, 1.8 + 0.38 * len(names), "Errors by the classes that were put together", note)
    bars, heat = figure.subplots(1, 2, width_ratios=(1, 1.15))
    merged = list(dict.fromkeys(classes["class"]))
    place = np.arange(len(names))
    for k, value in enumerate(merged):
        rows = np.flatnonzero((classes["class"] == value).to_numpy())
        part = classes.iloc[rows]
        errors = np.stack([part["accuracy"] - part["low"], part["high"] - part["accuracy"]]).astype(float)
        bars.errorbar(
            part["accuracy"],
            place[rows],
            xerr=np.nan_to_num(errors.clip(0)),
            fmt="o",
            color=COLOURS[k % len(COLOURS)],
            label=value,
            capsize=3,
        )
    bars.set(yticks=place, yticklabels=[f"{n}  ({c})" for n, c in zip(names, classes["num_images"], strict=True)])
    bars.invert_yaxis()
    bars.grid(axis="x")
    bars.set_xlabel("accuracy on its images, with interval (number of images)")
    bars.legend(loc="lower left")
    _pair_heat(heat, pairs, dict(zip(names, classes["class"], strict=True)))
    return figure


def _pair_heat(axes: Axes, pairs: pd.DataFrame, merged: dict[str, str]) -> None:
    """The pairs as a matrix; of two merged classes those of one are rows and those of the other columns."""
    values = list(dict.fromkeys(merged.values()))
    is_two = len(values) == 2
    rows = sorted(n for n in merged if merged[n] == values[0]) if is_two else sorted(merged)
    columns = sorted(n for n in merged if merged[n] == values[1]) if is_two else sorted(merged)
    matrix = np.full((len(rows), len(columns)), np.nan)
    for one, other, auc in zip(pairs["one"], pairs["other"], pairs["auc"], strict=True):
        for a, b in ((one, other), (other, one)):
            if a in rows and b in columns:
                matrix[rows.index(a), columns.index(b)] = auc
    lowest = float(np.nanmin(matrix)) if np.isfinite(matrix).any() else 0.5
    brightest = max(1e-3, 1.05 * (1 - lowest))
    axes.imshow(1 - matrix, cmap=HEAT_COLOURS, vmin=0, vmax=brightest)
    for (i, j), auc in np.ndenumerate(matrix):
        if np.isfinite(auc):
            is_dark = (1 - auc) < 0.57 * brightest
            axes.text(j, i, f"{auc:.3f}", ha="center", va="center", fontsize=8, color="white" if is_dark else "black")
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)))
    axes.set_xticklabels(columns, rotation=35, ha="right")
    axes.set_yticklabels(rows)
    # In the middle of its room: the matrix may be narrower than this.
    axes.set_title("told apart how well\n(area under the ROC curve; bright: hard)", fontsize=9)


@styled
def error_gallery(
    images: Images,
    rows: dict[str, Int[np.ndarray, " n"]],
    titles: Sequence[str],
    is_right: Sequence[bool],
    title: str,
    num_columns: int = 8,
    note: str = "",
) -> Figure:
    """A row of images for every name, such as the worst errors of every original class.

    Args:
      images: uint8 [N, H, W, C].
      rows: for every name, which of the images, in order.
      titles: of each image.
      is_right: of each image.
      title: of the figure.
      num_columns: images shown of each.
      note: small print at the foot.
    """
    width, height = cell_size(images, 1.1)
    size = (num_columns * (width + 0.1) + 1.6, len(rows) * (height + 0.32) + 0.8)
    figure = new_figure(*size, title, note)
    grid = figure.subplots(len(rows), num_columns, squeeze=False)
    for axes, (name, chosen) in zip(grid, rows.items(), strict=True):
        for j, panel in enumerate(axes):
            if j >= len(chosen):
                hide_ticks(panel, keep_frame=False)
                continue
            i = int(chosen[j])
            show_image(panel, images[i])
            _mark(panel, titles[i], is_right[i])
        axes[0].set_ylabel(wrap(name, 14), rotation=0, ha="right", va="center", labelpad=6)
        if not len(chosen):
            axes[0].text(0.5, 0.5, "none", transform=axes[0].transAxes, ha="center", va="center", color=GREY)
    return figure


def _mark(panel: Any, title: str, is_right: bool) -> None:
    colour = RIGHT if is_right else WRONG
    lines = "\n".join(shorten(line, 22) for line in title.split("\n"))
    panel.set_title(lines, fontsize=6.5, color=colour, pad=2)
    panel.spines[:].set_visible(True)
    panel.spines[:].set_color(colour)
    panel.spines[:].set_linewidth(0.8 if is_right else 2.0)
