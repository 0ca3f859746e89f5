"""Figures of the checks: curves of deletion, insertion and randomised weights; how alike the maps of configs are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpclass.explain.checks.words import TITLE
from fpclass.report.style import COLOURS, GREY, INK, above_note, new_figure, styled, wrap

PANELS = {
    "deletion": "Deletion: what the map marks goes first\n(lower is better)",
    "insertion": "Insertion: what the map marks comes first\n(higher is better)",
}


@styled
def draw_checks(methods: Mapping[str, dict[str, Any]], note: str = "") -> Figure:
    """Curves of each way of making maps, as `summary.summarise_all` gives them."""
    figure = new_figure(13, 5.1, TITLE, note)
    above = above_note(figure)
    panels = above.subplots(1, 3)
    colours = dict(zip(methods, (COLOURS * (1 + len(methods) // len(COLOURS)))[: len(methods)], strict=True))
    for axes, (check, title) in zip(panels, PANELS.items(), strict=False):
        _removal(axes, methods, colours, check)
        axes.set_title(title)
    _cascade(panels[2], methods, colours)
    handles, labels = panels[0].get_legend_handles_labels()
    above.legend(handles, [wrap(label, 60) for label in labels], loc="outside lower center", ncols=3)
    return figure


def _removal(axes: Axes, methods: Mapping[str, dict[str, Any]], colours: Mapping[str, str], check: str) -> None:
    for name, found in methods.items():
        curve, random = found[check]["curve"], found[check]["random_curve"]
        shares = np.linspace(0, 100, len(curve))
        axes.plot(shares, curve, color=colours[name], label=name)
        axes.plot(shares, random, color=colours[name], linestyle=":", linewidth=1.2)
    axes.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label="the same map in a random place")
    gone = "removed" if check == "deletion" else "put back"
    axes.set(xlabel=f"pixels {gone} (%)", ylabel="probability of the class, mean", ylim=(0, 1.02), xlim=(0, 100))
    axes.grid()


def _cascade(axes: Axes, methods: Mapping[str, dict[str, Any]], colours: Mapping[str, str]) -> None:
    axes.set_title("Stages made random, from the head down\n(lower is better)")
    axes.set(ylabel="rank correlation with the trained one's map", ylim=(-0.25, 1.05))
    axes.axhline(0, color=GREY, linewidth=0.8)
    stages: list[str] = []
    for name, found in methods.items():
        steps = found["randomised"]
        if not steps:
            continue
        stages = [step["stage"] for step in steps]
        of_steps = [np.nan if (value := step["correlation"]["value"]) is None else value for step in steps]
        values = [1.0, *of_steps]
        axes.plot(range(len(values)), values, color=colours[name], marker="o", markersize=4)
        bounds = np.array([[step["correlation"][end] for end in ("low", "high")] for step in steps], float)
        axes.fill_between(range(1, len(values)), *bounds.T, color=colours[name], alpha=0.15, linewidth=0)
    names = ["trained", *(wrap(stage, 12) for stage in stages)]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    axes.grid(axis="y")


@styled
def draw_agreement(compared: Mapping[str, Any], title: str, note: str = "") -> Figure:
    """Rank correlations of the maps of configs, as a matrix; on the diagonal those of two trainings of one.

    Args:
      compared: as `agreement.compare_looks` gives it.
    """
    names = list(compared["within"])
    matrix = np.full((len(names), len(names)), np.nan)
    for i, name in enumerate(names):
        matrix[i, i] = _number(compared["within"][name])
    for pair in compared["pairs"]:
        i, j = names.index(pair["first"]), names.index(pair["second"])
        matrix[i, j] = matrix[j, i] = _number(pair["correlation"])
    different = [_number(pair["different"]) for pair in compared["pairs"]]
    below = f"; of different images: {np.nanmean(different):.2f}" if np.isfinite(different).any() else ""
    about = f"Rank correlation of the maps of an image. Bold: of two trainings of one config{below}. {note}"
    side = max(2.2, 0.6 * len(names))
    longest = min(60, max(map(len, names)))
    title = f"Do the networks look at the same thing? {title}"
    figure = new_figure(max(7.0, side + 0.09 * longest + 1), side + 1.7, title, about)
    axes = figure.subplots()
    axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
    numbers = [str(i + 1) for i in range(len(names))]
    axes.set_xticks(range(len(names)), numbers)
    axes.set_yticks(range(len(names)), [f"{name}  {i}" for name, i in zip(names, numbers, strict=True)])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for i, j in np.ndindex(matrix.shape):
        if np.isfinite(matrix[i, j]):
            colour = "white" if matrix[i, j] < 0.6 else INK
            weight = "bold" if i == j else "normal"
            axes.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", color=colour, fontweight=weight)
    return figure


def _number(interval: Mapping[str, Any]) -> float:
    return np.nan if interval["value"] is None else interval["value"]
