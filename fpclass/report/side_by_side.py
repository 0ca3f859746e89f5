"""Charts of several configs side by side: learning curves, confusion matrices, ROC curves.

Every figure takes a `note`, small print at its foot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.report.charts import LEARNING_CURVES, show_confusion
from fpclass.report.style import (
    COLOURS,
    GREY,
    LINE_STYLES,
    MAX_CLASS_ROWS,
    above_note,
    new_figure,
    shorten,
    styled,
    wrap,
)
from fpclass.stats.metrics import Labels, Logits, one_vs_rest_scores

History = Sequence[Mapping[str, float | None]]
"""An entry per epoch, as `fpclass.report.charts.learning_curves` takes them."""
NUM_COLUMNS = 5
FEW_CURVES = 8
"""ROC curves whose legend finds room in the corner below them."""


@styled
def learning_curves(histories: Mapping[str, Sequence[History]], note: str = "") -> Figure:
    """Loss above accuracy over the epochs, a column for every config: its members thin, their mean thick.

    Args:
      histories: of every member, by config. Where members stop early, the mean is that of those that go on.
    """
    num_columns = min(len(histories), NUM_COLUMNS)
    num_bands = math.ceil(len(histories) / num_columns)
    size = (max(7.0, 2.5 * num_columns + 0.8), 4.2 * num_bands + 1.1)
    figure = new_figure(*size, "Learning curves: members thin, their mean thick", note)
    above = above_note(figure)
    grid = above.subplots(2 * num_bands, num_columns, squeeze=False)
    for row, metric in enumerate(("loss", "accuracy")):
        of_metric = grid[row::2].ravel()
        for axes in of_metric[1:]:
            axes.sharey(of_metric[0])
        for axes, (name, members) in zip(of_metric, histories.items(), strict=False):
            _show_curves(axes, members, metric)
            axes.set_title(shorten(name, 22) if metric == "loss" else "", loc="left")
        for axes in of_metric[len(histories) :]:
            axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("loss" if axes in grid[::2, 0] else "accuracy")
    for axes in grid[1::2].ravel():
        axes.set_xlabel("epoch")
    # Smoothed labels and penalties are in the training loss; the others are the plain cross-entropy.
    names = {"training": "training (loss as minimised)"}
    handles = [
        Axes.plot(grid[0, 0], [], color=colour, label=names.get(name, name))[0] for name, colour in _colours().values()
    ]
    above.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _colours() -> dict[str, tuple[str, str]]:
    return {split: (name, colour) for (split, name), colour in zip(LEARNING_CURVES.items(), COLOURS, strict=False)}


def _show_curves(axes: Axes, members: Sequence[History], metric: str) -> None:
    for split, (_, colour) in _colours().items():
        values: dict[Any, list[float]] = {}
        for history in members:
            points: Any = [(entry["epoch"], entry.get(f"{split}_{metric}")) for entry in history]
            points = [(epoch, value) for epoch, value in points if value is not None]
            axes.plot(*np.transpose(points or np.empty((0, 2))), color=colour, linewidth=0.8, alpha=0.35)
            for epoch, value in points:
                values.setdefault(epoch, []).append(value)
        epochs = sorted(values)
        means = [float(np.mean(values[epoch])) for epoch in epochs]
        axes.plot(epochs, means, color=colour, linewidth=2.2, marker="o" if len(epochs) == 1 else "", markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid()


@styled
def confusion_matrices(
    matrices: Mapping[str, np.ndarray], class_names: Sequence[str], of: str, note: str = ""
) -> Figure:
    """A confusion matrix for every config, rows true and columns predicted; counts are means over its members."""
    num_columns = min(len(matrices), NUM_COLUMNS)
    num_rows = math.ceil(len(matrices) / num_columns)
    side = max(2.3, min(0.5 * len(class_names), 9))
    size = (max(5.5, num_columns * (side + 0.5) + 1.6), num_rows * (side + 0.9) + 1.0)
    figure = new_figure(*size, f"Confusion matrices, {of}: rows true, columns predicted", note)
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    shades = None
    for axes, (name, matrix) in zip(grid.ravel(), matrices.items(), strict=False):
        shades = show_confusion(axes, matrix, class_names)
        axes.set_title(shorten(name, 28), loc="left")
    for axes in grid.ravel()[len(matrices) :]:
        axes.set_axis_off()
    for axes in grid[:, 1:].ravel():
        axes.set_yticks([])
    if shades is not None:
        figure.colorbar(shades, ax=grid, label="share of the true class", shrink=0.8)
    return figure


@styled
def roc_curves(
    members: Mapping[str, Sequence[tuple[Logits, Labels]]], class_names: Sequence[str], of: str, note: str = ""
) -> Figure:
    """ROC curves of every config, a panel for each class against the rest, or for class 1 of two.

    Args:
      members: by config, unnormalised log-probabilities [n, K] and labels [n] of the images that each of its members
        judges. Curves are means over members, of the true positive rate at a false positive rate; areas likewise.
    """
    classes = [1] if len(class_names) == 2 else list(range(min(len(class_names), MAX_CLASS_ROWS)))
    num_columns = min((3, 2), key=lambda n: -len(classes) % n) if len(classes) > 3 else len(classes)  # few panels empty
    num_rows = math.ceil(len(classes) / num_columns)
    is_few = len(members) <= FEW_CURVES
    figure = new_figure((5.6 if is_few else 7.8) * num_columns, 4.9 * num_rows + 0.9, f"ROC curves, {of}", note)
    # Many have their legend beside every panel: areas are of the class, and names of configs are long. Few have it
    # where curves seldom are.
    ratios = (1,) * num_columns if is_few else (1.6, 1) * num_columns
    grid = figure.subplots(num_rows, len(ratios), squeeze=False, width_ratios=ratios)
    panels, beside = (grid, grid) if is_few else (grid[:, ::2], grid[:, 1::2])
    for axes, of_legend, k in zip(panels.ravel(), beside.ravel(), classes, strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        for i, (name, judged) in enumerate(members.items()):
            style = LINE_STYLES[i // len(COLOURS) % len(LINE_STYLES)]
            rates, area = _mean_curve(judged, k)
            label = f"{shorten(name, 26)} {'undefined' if math.isnan(area) else f'{area:.3f}'}"
            # The first is the widest and lies below: of curves that are the same each has an edge to be seen by.
            width = 1.6 + (4.4 if is_few else 2.0) * (1 - (i + 1) / len(members))
            axes.plot(*rates, color=COLOURS[i % len(COLOURS)], linestyle=style, linewidth=width, label=label)
        title = f"positive class: {class_names[k]}" if len(classes) == 1 else f"{class_names[k]} against the rest"
        axes.set_title(wrap(title, 44), loc="left", color=GREY)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.grid()
        handles, labels = axes.get_legend_handles_labels()
        title = "area under the curve"
        place: dict[str, Any] = {"loc": "lower right"} if is_few else {"loc": "upper left", "borderaxespad": 0}
        of_legend.legend(handles, labels, title=title, alignment="left", **place)
    for axes in (*([] if is_few else beside.ravel()), *panels.ravel()[len(classes) :]):
        axes.set_axis_off()
    return figure


def _mean_curve(members: Sequence[tuple[Logits, Labels]], k: int) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """False and true positive rates of class k, the latter averaged over members, and the mean area.

    Members without images of the class, or without others, are left out; nothing and nan where all are.
    """
    false_rates, true_rates, areas = np.linspace(0, 1, 501), [], []
    for logits, labels in members:
        is_positive = labels == k
        if is_positive.all() or not is_positive.any():
            continue
        # Not scikit-learn's, whose checks take longer than all the rest for hundreds of members.
        levels, place = np.unique(-one_vs_rest_scores(logits)[:, k], return_inverse=True)
        counts = np.bincount(place + len(levels) * is_positive, minlength=2 * len(levels)).reshape(2, -1)
        passed = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
        false_rate, true_rate = passed / passed[:, -1:]
        true_rates.append(np.interp(false_rates, false_rate, true_rate))  # of equal rates the highest, as steps have it
        areas.append(float(np.trapezoid(true_rate, false_rate)))
    if not areas:
        return (np.empty(0), np.empty(0)), math.nan
    return (np.append(0, false_rates), np.append(0, np.mean(true_rates, axis=0))), float(np.mean(areas))
