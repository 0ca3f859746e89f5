"""Figures of a study: scores of the configs, differences from the baseline, freezing, calibration and abstention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fpclass.report.style import COLOURS, FAINT, GREY, INK, new_figure, shorten, styled
from fpclass.stats.intervals import Interval
from fpclass.stats.scrutiny.learning_curve import Curve
from fpclass.study.report import StudyRow

BLUE, ORANGE, GREEN = COLOURS[:3]
MIN_SPAN = 0.05
"""Of the axis of a learning curve, in units of the metric: what is smaller is nothing to train for."""


@styled
def study_figure(rows: Sequence[StudyRow], metric: str, *, confidence: float, margin: float, note: str = "") -> Figure:
    """Scores of the configs with intervals and members, beside their differences from the baseline.

    Failed configs are left out. Differences within the margin do not matter in practice; of a single config there are
    none.
    """
    shown = [row for row in rows if row.score and row.score.mean.value is not None]
    what = metric.replace("_", " ")
    level = f"{100 * confidence:g} %"
    title, is_compared = f"{what[0].upper()}{what[1:]} of every config", len(shown) > 1
    figure = new_figure(*((11, 1.9 + 0.34 * len(shown)) if is_compared else (7, 2)), title, note)
    panels = np.ravel(figure.subplots(1, 2 if is_compared else 1, sharey=True))
    left, y = panels[0], np.arange(len(shown))
    _scores(left, shown)
    left.set_title(f"mean and {level} interval; dots: members", loc="left", color=GREY)
    left.set_xlabel(what)
    left.set_yticks(y, [shorten(row.name, 40) for row in shown])
    left.set_ylim(len(shown) - 0.4, -0.6)  # the first row on top
    for right in panels[1:]:
        _differences(right, shown, margin)
        baseline = next((row.name for row in shown if row.is_baseline), "the baseline, which failed")
        right.set_title(f"{level} interval of the verdict's test; grey: the margin", loc="left", color=GREY)
        right.set_xlabel(f"difference from {shorten(baseline, 26)}")
    for axes in panels:
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
    return figure


def _scores(axes: Axes, rows: Sequence[StudyRow]) -> None:
    for y, row in enumerate(rows):
        if row.score is None or row.score.mean.value is None or row.members is None:
            continue
        dots = row.members.ravel()
        axes.scatter(dots, np.full(len(dots), y + 0.22), s=9, color=GREY, alpha=0.6, linewidths=0)
        _interval(axes, row.score.mean, y, color=BLUE, linewidth=2.5, solid_capstyle="butt")
        axes.plot(row.score.mean.value, y, "o", color=BLUE, markersize=5)


def _differences(axes: Axes, rows: Sequence[StudyRow], margin: float) -> None:
    axes.axvspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    for y, row in enumerate(rows):
        compared = row.comparison
        if compared is None or compared.difference.value is None:
            continue
        colour = {"better": GREEN, "worse": ORANGE}.get(compared.verdict, INK)
        _interval(axes, compared.difference, y, color=colour, linewidth=3, solid_capstyle="butt", alpha=0.8)
        axes.plot(compared.difference.value, y, "o", color=colour, markersize=5)


def _interval(axes: Axes, interval: Interval, y: float, **style: Any) -> None:
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [y, y], **style)


@styled
def sweep_figure(
    frame: pd.DataFrame, metrics: Sequence[str], title: str, *, confidence: float, note: str = ""
) -> Figure:
    """Scores against the number of frozen stages, a panel per metric: mean, interval, and the range of the members.

    `frame` has a row per cut point: num_frozen, freeze_before, METRIC with _low, _high, _members_low, _members_high.
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
        names = [f"{n}: {until or 'nothing'}" for n, until in zip(x, frame["freeze_before"], strict=True)]
        axes.set_xticks(x, [shorten(name, 22) for name in names], rotation=60, ha="right", fontsize=8)
        axes.set_xlabel("frozen stages, and the first that learns")
        axes.grid(axis="y")
        axes.legend(loc="best")
    return figure


@styled
def curve_figure(
    curve: Curve, metric: str, of: str, *, confidence: float, units: str = "people", note: str = ""
) -> Figure:
    """Scores of a config by the number of people, or other units, it learns from, and the power law with its band."""
    what = metric.replace("_", " ")
    figure = new_figure(8, 5, f"{what[0].upper()}{what[1:]} by the {units} that {shorten(of, 30)} learns from", note)
    axes = figure.add_subplot()
    if curve.curve:
        bounds = np.array([[at.low, at.value, at.high] for at in curve.curve], float).T
        is_seen = curve.ahead <= curve.num_people.max()
        label = f"{confidence:.0%} band of a power law"
        axes.fill_between(curve.ahead, bounds[0], bounds[2], color=BLUE, alpha=0.15, linewidth=0, label=label)
        axes.plot(curve.ahead[is_seen], bounds[1][is_seen], color=BLUE)
        is_ahead = curve.ahead >= curve.num_people.max()
        axes.plot(curve.ahead[is_ahead], bounds[1][is_ahead], color=BLUE, linestyle="--", label="not trained")
        axes.set_title(f"twice the {units}: {curve.gain:+}", loc="left", color=GREY)
    else:
        axes.set_title(f"no curve: {curve.why_not}", loc="left", color=GREY)
    values = np.array([score.value for score in curve.scores], float)
    ends = np.array([[score.low, score.high] for score in curve.scores], float).T
    errors = np.abs(np.nan_to_num(ends - values))
    label = f"trained, {confidence:.0%}"
    axes.errorbar(curve.num_people, values, errors, color=INK, marker="o", markersize=5, capsize=3, linewidth=0,
                  elinewidth=1.4, label=label)  # fmt: skip
    axes.set(xlabel=f"{units} in training", ylabel=what, xlim=(0, None))
    low, high = axes.get_ylim()
    if high - low < MIN_SPAN:  # or rounding would look like a curve
        axes.set_ylim((low + high - MIN_SPAN) / 2, (low + high + MIN_SPAN) / 2)
    axes.grid()
    axes.legend(loc="best")
    return figure


@styled
def reliability_diagram(report: Mapping[str, Any], note: str = "") -> Figure:
    """Accuracy against confidence by `calibration_report`, before and after calibration, over where the images are.

    Of the predicted class, and in one more row, for two classes, of the second one, whatever is predicted.
    """
    has_class = "of_class" in report["after"]
    title, ratios = "Reliability: is it right as often as it says?", (3, 1, 3)[: 3 if has_class else 2]
    figure = new_figure(9, 9.2 if has_class else 5.6, title, note)
    upper, lower, *third = figure.subplots(len(ratios), 2, height_ratios=ratios)
    how = f"{report['method']}, {report.get('fitted', 'cross-fitted')}"
    stages = {"before": "before calibration", "after": f"after calibration ({how})"}
    counts = [report[stage]["confidence_counts"] for stage in stages]
    num_bars = len(counts[0])
    # For two classes no confidence is below one half: that half would be empty paper.
    left = 0.0 if np.sum(counts, axis=0)[: num_bars // 2].any() else 0.5
    for axes, histogram, (stage, title), colour in zip(upper, lower, stages.items(), COLOURS, strict=False):
        _show_bins(axes, report[stage], colour, left)
        ece = report[stage]["ece"]
        error = f"ECE {Interval.of(ece)}; {ece['expected_if_calibrated']:.3f} by chance alone"
        axes.set_title(f"{title}\n{error}", loc="left", color=GREY)
        edges = np.arange(num_bars) / num_bars
        histogram.bar(edges, report[stage]["confidence_counts"], 1 / num_bars, align="edge", color=colour)
        axes.sharex(histogram)
        axes.tick_params(labelbottom=False)
        histogram.set(xlim=(left, 1.005), ylim=(0, 1.05 * np.max(counts)))
        histogram.set_xlabel("confidence (probability of the predicted class)")
    for axes, stage, colour in zip(third[0] if third else (), stages, COLOURS, strict=False):
        of_class = report[stage]["of_class"]
        _show_bins(axes, of_class, colour, 0.0)
        name, by_chance = shorten(of_class["name"], 24), of_class["ece"]["expected_if_calibrated"]
        error = f"ECE {Interval.of(of_class['ece'])}; {by_chance:.3f} by chance alone"
        axes.set_title(error, loc="left", color=GREY)
        axes.set(xlim=(-0.005, 1.005), xlabel=f"probability of {name}")
        if axes is third[0][0]:
            axes.set_ylabel(f"share that is {name}")
    upper[0].set_ylabel("accuracy")
    upper[0].legend(loc="lower right")
    lower[0].set_ylabel("images")
    return figure


@styled
def risk_coverage_curve(report: Mapping[str, Any], note: str = "") -> Figure:
    """Error rate of the decided images by the share of them, the most confident first, from `decision_report`."""
    abstention = report["abstention"]
    curve = abstention["curve"]
    figure = new_figure(6.4, 4.6, "Risk and coverage: deciding only where it is sure", note)
    axes = figure.add_subplot()
    low, high = np.array([curve["low"], curve["high"]], float)  # None becomes nan, which is not drawn
    if np.isfinite(low).any():
        band = {"color": COLOURS[0], "alpha": 0.18, "linewidth": 0}
        axes.fill_between(curve["coverage"], low, high, label="interval", **band)
    axes.plot(curve["coverage"], curve["risk"], color=COLOURS[0], label="most confident first")
    everyone = abstention["error_rate"]["value"]
    axes.axhline(everyone, color=GREY, linewidth=1, linestyle="--", label=f"in random order: {everyone:.3f}")
    coverage, risk = abstention["coverage"]["value"], abstention["risk"]["value"]
    sure = abstention["smallest_confidence"]
    promise = f"at most {100 * abstention['max_risk']:g} % errors, {100 * abstention['confidence']:g} % confidence"
    promise += ": no threshold can promise it" if sure is None else f": from {sure:.3f} on"
    if sure is not None and risk is not None:
        axes.plot(coverage, risk, "o", color=COLOURS[1], label="decided, cross-fitted")
    axes.set_title(f"area under the curve {Interval.of(abstention['aurc'])}\n{promise}", loc="left", color=GREY)
    # The first few people make a band as high as the page: it may leave the frame.
    highest = max(everyone, *curve["risk"], np.nanmax(np.append(0, high[len(high) // 10 :])))
    axes.set(xlim=(0, 1.005), ylim=(0, max(0.05, 1.35 * highest)))
    axes.set(xlabel="coverage (share of the images that are decided)", ylabel="risk (error rate among them)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid()
    axes.legend(loc="upper right", ncols=2)
    return figure


def _show_bins(axes: Axes, stage: Mapping[str, Any], colour: str, left: float) -> None:
    """Accuracy of each bin with its interval, beside the diagonal of perfect calibration."""
    axes.plot([left, 1], [left, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for b in stage["bins"]:
        if b["accuracy"]["low"] is not None:
            bounds = [b["accuracy"]["low"], b["accuracy"]["high"]]
            axes.plot([b["confidence"]] * 2, bounds, color=colour, linewidth=1.2, alpha=0.6)
    confidences = [b["confidence"] for b in stage["bins"]]
    accuracies = [b["accuracy"]["value"] for b in stage["bins"]]
    axes.plot(confidences, accuracies, "o-", color=colour, markersize=5, label="equally many images each")
    axes.set_ylim(-0.01, 1.03)
    axes.grid()
