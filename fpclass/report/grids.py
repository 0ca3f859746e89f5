"""Grids of images: of the classes, of predictions and errors, of augmented copies; and original classes compared.

Every figure takes a `note`, small print at its foot. Labels are class indices; images of negative ones are left out.
`shapes` has the (height, width) of each image in its file, in which it is shown; None: as the arrays are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpclass.report.style import (
    COLOURS,
    GREY,
    HEAT_COLOURS,
    MAX_CLASS_ROWS,
    RIGHT,
    WRONG,
    Images,
    Shapes,
    cell_size,
    hide_ticks,
    name_image,
    name_row,
    new_figure,
    shape_at,
    shorten,
    show_image,
    styled,
    wrap,
)
from fpclass.stats.metrics import Labels


@styled
def mean_images(images: Images, labels: Labels, class_names: Sequence[str], note: str = "") -> Figure:
    """The mean image of each class and, for two classes, what separates them."""
    shown = class_names[:MAX_CLASS_ROWS]
    num_panels = len(shown) + (len(class_names) == 2)
    num_columns = min(num_panels, 5)
    num_rows = math.ceil(num_panels / num_columns)
    width, height = cell_size(images, 1.9)
    size = (max(4.5, num_columns * (width + 0.3) + 0.9), num_rows * (height + 0.45) + 0.8)
    figure = new_figure(*size, "Mean image of each class", note)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    rows = [np.flatnonzero(labels == k) for k in range(len(shown))]
    means = [mean_image(images, members) if len(members) else None for members in rows]
    for k, (panel, mean) in enumerate(zip(axes, means, strict=False)):
        panel.set_title(f"{wrap(class_names[k], 22)}\n{len(rows[k]):,} images")
        show_image(panel, mean)
    for panel in axes[num_panels:]:
        panel.set_axis_off()
    if len(class_names) == 2:
        panel = axes[2]
        panel.set_title("difference\nsecond minus first class")
        hide_ticks(panel)
        if means[0] is not None and means[1] is not None:
            difference = (means[1] - means[0]).mean(axis=-1)
            limit = max(float(np.abs(difference).max()), 1.0)
            shades = panel.imshow(difference, cmap="RdBu_r", vmin=-limit, vmax=limit)
            figure.colorbar(shades, ax=panel, label="intensity (0 to 255)", shrink=0.85)
    return figure


def mean_image(images: Any, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "h w c"]:
    """Mean of at least one of the images, in memory or on disk, float64 in [0, 255]."""
    total = np.zeros(images.shape[1:])
    for start in range(0, len(rows), 512):  # in parts: the set may fill half the memory
        total += images[rows[start : start + 512]].sum(axis=0, dtype=np.int64)
    return total / len(rows)


@styled
def sample_grid(
    images: Images,
    labels: Labels,
    class_names: Sequence[str],
    filenames: Sequence[str],
    seed: int = 0,
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """Up to eight randomly drawn images of each class, one class a row, with the names of their files."""
    num_rows = min(len(class_names), MAX_CLASS_ROWS)
    num_columns = np.bincount(labels[labels >= 0], minlength=1).max().clip(1, 8)
    rng = np.random.default_rng(seed)
    drawn = []
    for k in range(num_rows):
        members = np.flatnonzero(labels == k)
        drawn.append(np.sort(rng.choice(members, min(num_columns, len(members)), replace=False)))
    width, height = cell_size(images, 1.15, None if shapes is None else shapes[np.concatenate(drawn)])
    title = "Images drawn at random from each class"
    if num_rows < len(class_names):
        title += f" (the first {num_rows} of {len(class_names)})"
    figure = new_figure(num_columns * (width + 0.06) + 1.2, num_rows * (height + 0.24) + 0.7, title, note)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for k, (row, chosen) in enumerate(zip(axes, drawn, strict=True)):
        for column, panel in enumerate(row):
            if column < len(chosen):
                position = int(chosen[column])
                show_image(panel, images[position], shape_at(shapes, position))
                name_image(panel, filenames[position])
            else:
                hide_ticks(panel, keep_frame=False)
        name_row(row[0], class_names[k])
    return figure


@styled
def prediction_grid(
    images: Images,
    titles: Sequence[str],
    is_right: Sequence[bool],
    title: str,
    num_columns: int = 6,
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """Images with what was predicted: right ones in green, wrong ones in red with a frame."""
    num_columns = min(num_columns, max(len(images), 1))
    num_rows = max(1, -(-len(images) // num_columns))
    width, height = cell_size(images, 1.4, shapes)
    width = max(width, 1.1)
    figure = new_figure(num_columns * (width + 0.12) + 0.3, num_rows * (height + 0.5) + 0.8, title, note)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    _show_predictions(panels, images, np.arange(len(images)), titles, is_right, shapes)
    return figure


@styled
def error_gallery(
    images: Images,
    rows: dict[str, Int[np.ndarray, " n"]],
    titles: Sequence[str],
    is_right: Sequence[bool],
    title: str,
    num_columns: int = 8,
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """A row of images for every name, such as the worst errors of every original class.

    `rows` says for every name which of the images, in order, of which `num_columns` are shown; `titles` and `is_right`
    are those of all images.
    """
    width, height = cell_size(images, 1.1, shapes)
    size = (num_columns * (width + 0.1) + 1.6, len(rows) * (height + 0.32) + 0.8)
    figure = new_figure(*size, title, note)
    grid = figure.subplots(len(rows), num_columns, squeeze=False)
    for axes, (name, chosen) in zip(grid, rows.items(), strict=True):
        _show_predictions(axes, images, chosen, titles, is_right, shapes)
        name_row(axes[0], name)
        if not len(chosen):
            axes[0].text(0.5, 0.5, "none", transform=axes[0].transAxes, ha="center", va="center", color=GREY)
    return figure


def _show_predictions(
    panels: np.ndarray,
    images: Images,
    rows: Int[np.ndarray, " n"],
    titles: Sequence[str],
    is_right: Sequence[bool],
    shapes: Shapes | None,
) -> None:
    """Shows the chosen images, one a panel; panels that are left stay empty."""
    for panel in panels[len(rows) :]:
        hide_ticks(panel, keep_frame=False)
    for panel, i in zip(panels, map(int, rows), strict=False):
        show_image(panel, images[i], shape_at(shapes, i))
        colour = RIGHT if is_right[i] else WRONG
        lines = "\n".join(shorten(line, 22) for line in titles[i].split("\n"))
        panel.set_title(lines, fontsize=6.5, color=colour, pad=2)
        panel.spines[:].set(visible=True, color=colour, linewidth=0.8 if is_right[i] else 2.0)


@styled
def augment_sheet(
    originals: Images,
    copies: UInt8[np.ndarray, "n k h w c"],
    class_names: Sequence[str],
    filenames: Sequence[str],
    title: str,
    note: str = "",
    shapes: Shapes | None = None,
) -> Figure:
    """One image a row: as it is, and its k augmented copies; `class_names` has the class of each image."""
    num_rows, num_copies = copies.shape[:2]
    width, height = cell_size(originals, 1.25, shapes)
    size = (max(6.0, (num_copies + 1) * (width + 0.06) + 1.4), num_rows * (height + 0.22) + 1.2)
    figure = new_figure(*size, title, note)
    axes = figure.subplots(num_rows, num_copies + 1, squeeze=False)
    for i, row in enumerate(axes):
        for panel, image in zip(row, (originals[i], *copies[i]), strict=True):
            show_image(panel, image, shape_at(shapes, i))
        row[0].set_title(shorten(filenames[i], 20), fontsize=6, color=GREY, pad=2)
        name_row(row[0], class_names[i])
        row[0].spines[:].set(color=GREY, linewidth=1.5)
    for k, panel in enumerate(axes[0]):
        name = f"copy {k}" if k else f"original\n{shorten(filenames[0], 20)}"
        panel.set_title(name, fontsize=8 if k else 6, color=GREY, pad=2)
    return figure


@styled
def original_classes(classes: pd.DataFrame, pairs: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy of every original class with its interval, and how well pairs of them are told apart.

    The tables are those of `stats.original_classes.class_table` and `pair_table`.
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
