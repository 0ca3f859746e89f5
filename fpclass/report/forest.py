"""The forest plot of subgroups: score, difference and calibration of every level of every column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.report.style import COLOURS, GREY, INK, new_figure, shorten, styled
from fpclass.stats.intervals import Interval
from fpclass.stats.scrutiny.subgroups import title_of


@styled
def forest_plot(report: Mapping[str, Any], overall: Interval, of: str = "", note: str = "") -> Figure:
    """A row per level, the columns one below the other.

    Args:
      report: from `fpclass.stats.scrutiny.subgroups.subgroup_report`.
      overall: score of all images, the line that levels are seen against.
      of: which images, for the title.
      note: small print.
    """
    rows = _rows(report)
    headings = {shorten(title_of(name), 54) for name in report["columns"]}
    metric = str(report["metric"]).replace("_", " ")
    has_sets = any(level and level["coverage"] for _, level in rows)
    panels = 3 + has_sets
    title = f"{metric[0].upper()}{metric[1:]} by subgroup" + (f", {of}" if of else "")
    figure = new_figure(5 + 2.7 * panels, 1.8 + 0.3 * max(len(rows), 4), title, note)
    axes = figure.subplots(1, panels, sharey=True)
    shown = [(y, level) for y, (_, level) in enumerate(rows) if level]
    alpha = 1 - report["confidence"]
    for y, level in shown:
        is_found = level["p_holm"] is not None and level["p_holm"] < alpha
        size = 3 + 5 * np.sqrt(level["num_images"] / max(other["num_images"] for _, other in shown))
        draw_interval(axes[0], Interval.of(level["score"]), y, COLOURS[0], size)
        draw_interval(axes[1], Interval.of(level["difference"]), y, COLOURS[1] if is_found else INK, size)
        draw_interval(axes[2], Interval.of(level["overconfidence"]), y, COLOURS[2], size)
        if has_sets:
            draw_interval(axes[3], Interval.of(level["coverage"]), y, COLOURS[3], size)
    if overall.value is not None:
        axes[0].axvline(overall.value, color=GREY, linewidth=1, linestyle="--")
    axes[0].set_title(f"dashed: all images, {overall.value or 0:.3f}", loc="left", color=GREY)
    axes[1].set_title("orange: p by Holm below " + f"{alpha:.2g}", loc="left", color=GREY)
    axes[2].set_title("right: too sure of itself", loc="left", color=GREY)
    for panel, label in zip(axes, (metric, "less all others", "confidence less accuracy", "coverage"), strict=False):
        panel.set_xlabel(label)
        panel.grid(axis="x")
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.tick_params(axis="y", length=0)
    for panel in axes[1:3]:
        panel.axvline(0, color=GREY, linewidth=1)
    axes[0].set_yticks(range(len(rows)), [text for text, _ in rows])
    for label, (text, _) in zip(axes[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if text in headings else "normal")
    axes[0].set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    return figure


def _rows(report: Mapping[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    """A heading per column, and below it its levels, or why there are none."""
    rows: list[tuple[str, dict[str, Any] | None]] = []
    for name, column in report["columns"].items():
        rows.append((shorten(title_of(name), 54), None))
        if not column["levels"]:
            rows.append((shorten(f"none: {column['note']}", 54), None))
        for level in column["levels"]:
            counted = f"{level['num_groups']} {report['groups_are']}, {level['num_images']} images"
            rows.append((f"{shorten(level['name'], 28)} ({counted})", level))
    return rows


def draw_interval(
    axes: Axes, interval: Interval, y: float, colour: str, size: float, *, marker: str = "s", width: float = 1.6
) -> None:
    """A value and its interval on a line of a forest plot; nothing where there is no value."""
    if interval.value is None:
        return
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    axes.plot(interval.value, y, marker, color=colour, markersize=size, markeredgewidth=0)
