"""The figures of a study: what each config scored, how it differs from the baseline, what freezing does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.report.style import COLOURS, FAINT, GREY, INK, new_figure, shorten, styled
from fpclass.study.report import StudyRow

BLUE, ORANGE, GREEN = COLOURS[:3]


@styled
def study_figure(rows: Sequence[StudyRow], metric: str, *, confidence: float, margin: float, note: str = "") -> Figure:
    """Scores of the configs with intervals and members, beside their differences from the baseline.

    Args:
      rows: of the table; those that failed are left out.
      metric: what the scores are.
      confidence: coverage of the intervals.
      margin: differences within it do not matter in practice.
      note: small print at the foot.
    """
    shown = [row for row in rows if row.score and row.score.mean is not None]
    what = metric.replace("_", " ")
    level = f"{100 * confidence:g} %"
    figure = new_figure(11, 1.9 + 0.34 * max(len(shown), 2), f"{what[0].upper()}{what[1:]} of every config", note)
    left, right = figure.subplots(1, 2, sharey=True)
    y = np.arange(len(shown))
    _scores(left, shown)
    left.set_title(f"mean and {level} interval; dots: members", loc="left", color=GREY)
    left.set_xlabel(what)
    left.set_yticks(y, [shorten(row.name, 40) for row in shown])
    left.set_ylim(len(shown) - 0.4, -0.6)  # the first row on top
    _differences(right, shown, margin)
    baseline = next((row.name for row in shown if row.is_baseline), "the baseline, which failed")
    right.set_title(f"{level}; thick: over people, thin: corrected", loc="left", color=GREY)
    right.set_xlabel(f"difference from {shorten(baseline, 26)}")
    for axes in (left, right):
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
    return figure


def _scores(axes: Axes, rows: Sequence[StudyRow]) -> None:
    for y, row in enumerate(rows):
        score = row.score
        if score is None or score.mean is None or row.members is None:
            continue
        dots = row.members.ravel()
        axes.scatter(dots, np.full(len(dots), y + 0.22), s=9, color=GREY, alpha=0.6, linewidths=0)
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [y, y], color=BLUE, linewidth=2.5, solid_capstyle="butt")
        axes.plot(score.mean, y, "o", color=BLUE, markersize=5)


def _differences(axes: Axes, rows: Sequence[StudyRow], margin: float) -> None:
    axes.axvspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    for y, row in enumerate(rows):
        compared = row.comparison
        if compared is None or compared.difference is None:
            continue
        colour = {"better": GREEN, "worse": ORANGE}.get(compared.verdict, INK)
        if compared.t_low is not None and compared.t_high is not None:
            axes.plot([compared.t_low, compared.t_high], [y, y], color=colour, linewidth=0.9)
        if compared.difference_low is not None and compared.difference_high is not None:
            ends = [compared.difference_low, compared.difference_high]
            axes.plot(ends, [y, y], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.8)
        axes.plot(compared.difference, y, "o", color=colour, markersize=5)


@styled
def sweep_figure(
    frame: pd.DataFrame, metrics: Sequence[str], title: str, *, confidence: float, note: str = ""
) -> Figure:
    """Scores against the number of frozen stages: the mean, its interval, and the range of the members.

    Args:
      frame: one row per cut point: num_frozen, freeze_until, and METRIC with _low, _high, _members_low, _members_high.
      metrics: one panel each.
      title: what was swept.
      confidence: coverage of the intervals.
      note: small print at the foot.
    """
    frame = frame.sort_values("num_frozen")
    figure = new_figure(11, 4.6, title, note)
    for axes, metric in zip(np.ravel(figure.subplots(1, len(metrics))), metrics, strict=True):
        x, mean = frame["num_frozen"].to_numpy(), frame[metric].to_numpy(float)
        ends = [frame[f"{metric}_members_{end}"].to_numpy(float) for end in ("low", "high")]
        axes.fill_between(x, *ends, color=BLUE, alpha=0.15, linewidth=0, label="range of the members")
        errors = np.abs(np.stack([mean - frame[f"{metric}_low"], frame[f"{metric}_high"] - mean]).astype(float))
        axes.errorbar(x, mean, errors, color=BLUE, marker="o", markersize=5, capsize=3, label=f"mean, {confidence:.0%}")
        axes.set_title(metric.replace("_", " "), loc="left", color=GREY)
        names = [f"{n}: {until or 'nothing'}" for n, until in zip(x, frame["freeze_until"], strict=True)]
        axes.set_xticks(x, [shorten(name, 22) for name in names], rotation=60, ha="right", fontsize=8)
        axes.set_xlabel("frozen stages, and the first that learns")
        axes.grid(axis="y")
        axes.legend(loc="best")
    return figure
