"""Figures of features: nearest training images, an embedding, filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from fpclass.report.style import (
    COLOURS,
    GREY,
    INK,
    RIGHT,
    WRONG,
    Images,
    Shapes,
    cell_size,
    hide_ticks,
    new_figure,
    shape_at,
    shorten,
    show_image,
    styled,
)


@styled
def draw_nearest(
    queries: Images,
    titles: Sequence[str],
    is_right: Sequence[bool],
    neighbours: Sequence[Images],
    names: Sequence[Sequence[str]],
    is_same: Sequence[Sequence[bool]],
    shapes: tuple[Shapes | None, Sequence[Shapes | None]],
    note: str = "",
) -> Figure:
    """Images at the left, each beside the training images that are nearest to it, in its row.

    Args:
      neighbours, names, is_same: of each image the nearest training images, what stands above them, and whether they
        are of its class.
      shapes: of the images and of their neighbours.
    """
    width, height = cell_size(queries, 1.35, shapes[0])
    width = max(width, 1.25)
    num_columns = 1 + max(len(of) for of in neighbours)
    figure = new_figure(
        num_columns * (width + 0.15) + 0.4, len(queries) * (height + 0.62) + 1.0,
        "Validation images, and the training images whose features are nearest", note,
    )  # fmt: skip
    panels = figure.subplots(len(queries), num_columns, squeeze=False)
    for i, row in enumerate(panels):
        shown = [(queries[i], titles[i], is_right[i], shape_at(shapes[0], i))]
        shown += [
            (image, names[i][k], is_same[i][k], shape_at(shapes[1][i], k)) for k, image in enumerate(neighbours[i])
        ]
        for axes in row[len(shown) :]:
            hide_ticks(axes, keep_frame=False)
        for axes, (image, title, is_fine, shape) in zip(row, shown, strict=False):
            show_image(axes, image, shape)
            lines = "\n".join(shorten(line, 24) for line in title.split("\n"))
            axes.set_title(lines, fontsize=6.5, pad=3, color=RIGHT if is_fine else WRONG)
        row[0].spines[:].set(visible=True, color=INK, linewidth=1.6)
    return figure


@styled
def draw_embedding(
    planes: Mapping[str, Float[np.ndarray, "n 2"]],
    labels: Int[np.ndarray, " n"],
    class_names: Sequence[str],
    is_judged: Bool[np.ndarray, " n"],
    is_right: Bool[np.ndarray, " n"],
    note: str = "",
) -> Figure:
    """Images in planes: training images faint, validation images by class, of which wrong ones are crosses."""
    figure = new_figure(
        5.6 * len(planes) + 1.6, 5.6, "All images by their features: near each other, alike to the network", note
    )
    panels = figure.subplots(1, len(planes), squeeze=False)[0]
    size = 26 if len(labels) < 800 else 14
    for axes, (name, points) in zip(panels, planes.items(), strict=True):
        for k, of_class in enumerate(class_names):
            colour = COLOURS[k % len(COLOURS)]
            kinds = (
                (~is_judged, "o", 0.22, size * 0.6, f"{of_class}, training"),
                (is_judged & is_right, "o", 0.95, size, f"{of_class}, validation, right"),
                (is_judged & ~is_right, "X", 1.0, 2.2 * size, f"{of_class}, validation, wrong"),
            )
            for chosen, marker, alpha, area, label in kinds:
                of = points[chosen & (labels == k)]
                edge = {"edgecolors": "white", "linewidths": 0.6} if marker == "X" else {"linewidths": 0}
                axes.scatter(*of.T, s=area, marker=marker, alpha=alpha, color=colour, label=label, **edge)
        axes.set_title(name)
        hide_ticks(axes)
    if len(class_names) <= len(COLOURS):
        handles, labels_shown = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels_shown, loc="outside right upper", fontsize=8)
    return figure


@styled
def draw_filters(name: str, filters: Float[np.ndarray, "f h w c"], note: str = "") -> Figure:
    """The filters of a convolution: grey ones about 0 in the middle; of three channels in colour, each on its scale."""
    num_columns = min(len(filters), max(4, math.ceil(math.sqrt(2 * len(filters)))))
    num_rows = math.ceil(len(filters) / num_columns)
    size = max(6.4, 0.75 * num_columns + 0.6), 0.75 * num_rows + 1.3
    title = f"What the first layer looks for: the {len(filters)} filters of {name}"
    figure = new_figure(*size, title, note)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes in panels:
        hide_ticks(axes, keep_frame=False)
    for i, (axes, kernel) in enumerate(zip(panels, filters, strict=False)):
        largest = max(float(np.abs(kernel).max()), 1e-12)
        scaled = 0.5 + 0.5 * kernel / largest
        axes.imshow(scaled[..., 0] if kernel.shape[-1] == 1 else scaled, cmap="gray", vmin=0, vmax=1)
        axes.text(0.5, -0.04, str(i), transform=axes.transAxes, ha="center", va="top", fontsize=6, color=GREY)
    return figure
