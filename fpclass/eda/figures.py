"""Figures of the exploration page, as SVG that follows the reader's light or dark setting."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.report.style import COLOURS, FAINT, GREY, INK, MAX_CLASS_ROWS, STYLE, new_figure, shorten, styled

WIDTH = 4.4
"""Inches: about the width of a phone, so that the text is as large there as it was drawn."""

_DARK = {INK: "#e6e6e6", GREY: "#a8a8a8", FAINT: "#444444", COLOURS[0]: "#56b4e9"}


@styled
def spreads(
    values: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    class_names: Sequence[str],
    title: str,
    unit: str,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Spread of a finite quantity in each class: median, middle half, and the range of the middle 95 %."""
    shown = [k for k in range(len(class_names)) if (labels == k).any()][:MAX_CLASS_ROWS]
    figure = new_figure(WIDTH, 1.1 + 0.3 * max(len(shown), 2), title, "")
    axes = figure.add_subplot()
    for row, k in enumerate(shown):
        low, quarter, median, three_quarters, high = np.quantile(
            values[labels == k], (0.025, 0.25, 0.5, 0.75, 0.975)
        ).tolist()
        axes.plot((low, high), (row, row), color=GREY, linewidth=1.2, solid_capstyle="butt")
        axes.barh(row, three_quarters - quarter, left=quarter, height=0.5, color=COLOURS[0], linewidth=0)
        axes.plot((median, median), (row - 0.32, row + 0.32), color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.set_yticks(range(len(shown)), [shorten(class_names[k], 18) for k in shown])
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    if limits:
        axes.set_xlim(limits)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def images_per_person(counts: Int[np.ndarray, " p"]) -> Figure:
    """Histogram of the number of images per person."""
    figure = new_figure(WIDTH, 2.6, "Images per person", "")
    axes = figure.add_subplot()
    highest = int(counts.max())
    edges: Any = np.arange(1, highest + 2) - 0.5 if highest <= 30 else 30
    axes.hist(counts, bins=edges, color=COLOURS[0], rwidth=0.85)
    axes.set(xlabel="images", ylabel="people")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=(1, 2, 5, 10)))
    axes.grid(axis="y")
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as SVG whose ink is light where the reader's device prefers dark pages; its background is clear."""
    stream = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "fpclass"}):  # the same figure gives the same file
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    rules = []
    for i, (light, dark) in enumerate(_DARK.items()):
        svg = svg.replace(light.lower(), f"var(--c{i})")
        rules.append((f"--c{i}:{light}", f"--c{i}:{dark}"))
    light, dark = (";".join(rule[side] for rule in rules) for side in (0, 1))
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    start = svg.index("<svg")
    head = svg.index(">", start) + 1
    return svg[start:head] + style + svg[head:]
