"""Figures of altered copies: curves by the strength of corruptions; a forest plot beside what versions look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.data.altered.corruptions import CORRUPTIONS, NUM_STRENGTHS
from fpclass.report.forest import draw_interval
from fpclass.report.style import COLOURS, GREY, INK, LINE_STYLES, new_figure, shorten, show_image, styled, wrap
from fpclass.stats.intervals import Interval
from fpclass.stats.scrutiny.altered import CopyScores

AS_TRAINED, RETRAINED = COLOURS[0], COLOURS[1]
Shown = tuple[str, CopyScores, dict[str, list[CopyScores]], float]
"""Name of a model, its scores on images as they are, on copies by corruption, and the accuracy of chance."""
Row = tuple[str, np.ndarray, Interval | None, Interval | None]
"""Name of a version, examples [e, h, w, c], accuracy of the network as it was trained, and trained on the version."""


@styled
def robustness_figure(models: Sequence[Shown], interval: str, note: str = "") -> Figure:
    """Accuracy by the strength of every corruption, a curve and its interval for each model."""
    title = "Accuracy on corrupted copies"
    figure = new_figure(
        12, 7.2, title, " · ".join(filter(None, (note, f"bands: {interval}; dotted: the most frequent class")))
    )
    panels = np.ravel(figure.subplots(2, 3, sharey=True))
    for axes, (kind, corruption) in zip(panels, CORRUPTIONS.items(), strict=True):
        for number, (name, plain, curves, chance) in enumerate(models):
            scores = [plain, *curves.get(kind, [])]
            _curve(axes, [of.scores["accuracy"] for of in scores], number, shorten(name, 30))
            axes.axhline(chance, color=GREY, linewidth=1, linestyle=":")
        axes.set_title(corruption.words, loc="left", fontweight="bold")
        strengths = ["none", *(f"{value:g}" for value in corruption.strengths)]
        axes.set_xticks(range(1 + NUM_STRENGTHS), strengths)
        axes.set_xlabel(corruption.unit)
        axes.grid(axis="y")
    for axes in panels[::3]:
        axes.set_ylabel("accuracy")
    low = min(axes.get_ylim()[0] for axes in panels)
    panels[0].set_ylim(max(0.0, low), 1.01)
    if len(models) > 1:
        panels[2].legend(loc="lower left", frameon=True, framealpha=1, edgecolor="none")
    return figure


def _curve(axes: Axes, intervals: Sequence[Interval], number: int, name: str) -> None:
    colour = COLOURS[number % len(COLOURS)]
    x, y = np.arange(len(intervals)), [np.nan if of.value is None else of.value for of in intervals]
    style = LINE_STYLES[number % len(LINE_STYLES)]
    axes.plot(x, y, marker="o", markersize=4, color=colour, linestyle=style, label=name)
    bounds = [(of.low, of.high) if of.low is not None else (of.value, of.value) for of in intervals]
    low, high = np.array(bounds, float).T
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


@styled
def shortcuts_figure(
    rows: Sequence[Row], chance: float, interval: str, *, shape: tuple[float, float] | None = None, note: str = ""
) -> Figure:
    """What every version looks like, and the accuracy on it beside that on the images as they are, which come first.

    Args:
      chance: accuracy of always saying the most frequent class.
      interval: what the intervals are.
      shape: (height, width) of the images in their files, in which they are shown; None: as the arrays are.
    """
    examples = len(rows[0][1])
    height, width = shape or rows[0][1].shape[1:3]
    tall, wide = (0.85, 0.85 * width / height) if width < height else (0.85 * height / width, 0.85)
    small_print = " · ".join(filter(None, (note, f"lines: {interval}; dotted: chance; dashed: all of the image")))
    title = "What can be known from one thing alone"
    figure = new_figure(6.2 + examples * (wide + 0.12), 1.5 + len(rows) * (tall + 0.2), title, small_print)
    grid = figure.subplots(
        len(rows), examples + 1, squeeze=False, width_ratios=[*[wide] * examples, 4.2], gridspec_kw={"hspace": 0.0}
    )
    whole = rows[0][2]
    bounds = [bound for _, _, *of in rows for interval_ in of if interval_ for bound in (interval_.low, interval_.high)]
    values = [chance, *(bound for bound in bounds if bound is not None)]
    low, high = max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.03)
    for number, (name, images, as_trained, retrained) in enumerate(rows):
        for axes, image in zip(grid[number], images, strict=False):
            show_image(axes, image, shape)
        grid[number, 0].set_ylabel(wrap(name, 16), rotation=0, ha="right", va="center", labelpad=6)
        axes = grid[number, -1]
        axes.axvline(chance, color=GREY, linewidth=1, linestyle=":")
        if whole and whole.value is not None:
            axes.axvline(whole.value, color=GREY, linewidth=1, linestyle="--")
        has_both = as_trained is not None and retrained is not None
        for of, y, colour, marker in (
            (as_trained, 0.2 if has_both else 0.0, AS_TRAINED, "o"),
            (retrained, -0.2 if has_both else 0.0, RETRAINED, "s"),
        ):
            if of is not None:
                _whisker(axes, of, y, colour, marker)
        axes.set(ylim=(-0.6, 0.6), yticks=[], xlim=(low, high))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if number < len(rows) - 1:
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(axis="x", length=0, labelbottom=False)
    grid[-1, -1].set_xlabel("accuracy")
    _legend(grid[0, -1], has_retrained=any(row[3] is not None for row in rows))
    return figure


def _whisker(axes: Axes, interval: Interval, y: float, colour: str, marker: str) -> None:
    if interval.value is None:
        return
    draw_interval(axes, interval, y, colour, 6, marker=marker, width=2)
    axes.annotate(
        f"{interval.value:.2f}", (interval.value, y), textcoords="offset points", xytext=(0, 4), ha="center",
        fontsize=7, color=INK,
    )  # fmt: skip


def _legend(axes: Axes, *, has_retrained: bool) -> None:
    axes.plot([], [], "o-", color=AS_TRAINED, label="the network as it was trained")
    if has_retrained:
        axes.plot([], [], "s-", color=RETRAINED, label="trained again, on this version")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, borderaxespad=0)
