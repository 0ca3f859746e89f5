"""Figures of calibration and abstention, in the style of `fpclass.report.charts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fpclass.report.style import COLOURS, GREY, new_figure, styled

__all__ = ["reliability_diagram", "risk_coverage_curve"]


@styled
def reliability_diagram(report: Mapping[str, Any], note: str = "") -> Figure:
    """Accuracy against confidence, before and after calibration, over where the images are.

    Args:
      report: from `fpclass.stats.calibration.calibration_report`.
      note: small print at the foot.
    """
    figure = new_figure(9, 5.6, "Reliability: is it right as often as it says?", note)
    upper, lower = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
    stages = {"before": "before calibration", "after": f"after calibration ({report['method']}, out of fold)"}
    counts = [report[stage]["confidence_counts"] for stage in stages]
    num_bars = len(counts[0])
    # For two classes no confidence is below one half: that half would be empty paper.
    left = 0.0 if np.sum(counts, axis=0)[: num_bars // 2].any() else 0.5
    for axes, histogram, (stage, title), colour in zip(upper, lower, stages.items(), COLOURS, strict=False):
        _show_bins(axes, report[stage], colour, left)
        axes.set_title(f"{title}\n{_error_text(report[stage]['ece'])}", loc="left", color=GREY)
        edges = np.arange(num_bars) / num_bars
        histogram.bar(edges, report[stage]["confidence_counts"], 1 / num_bars, align="edge", color=colour)
        histogram.set(xlim=(left, 1.005), ylim=(0, 1.05 * np.max(counts)))
        histogram.set_xlabel("confidence (probability of the predicted class)")
    upper[0].set_ylabel("accuracy")
    upper[0].legend(loc="lower right")
    lower[0].set_ylabel("images")
    return figure


@styled
def risk_coverage_curve(report: Mapping[str, Any], note: str = "") -> Figure:
    """Error rate among the images that are decided, by the share of them, the most confident first.

    Args:
      report: from `fpclass.stats.decisions.decision_report`.
      note: small print at the foot.
    """
    abstention = report["abstention"]
    curve = abstention["curve"]
    figure = new_figure(6.4, 4.6, "Risk and coverage: deciding only where it is sure", note)
    axes = figure.add_subplot()
    low, high = np.array([curve["low"], curve["high"]], float)  # None becomes nan, which is not drawn
    if np.isfinite(low).any():
        band = {"color": COLOURS[0], "alpha": 0.18, "linewidth": 0}
        axes.fill_between(curve["coverage"], low, high, label="interval over people", **band)
    axes.plot(curve["coverage"], curve["risk"], color=COLOURS[0], label="most confident first")
    everyone = abstention["error_rate"]["value"]
    axes.axhline(everyone, color=GREY, linewidth=1, linestyle="--", label=f"in random order: {everyone:.3f}")
    coverage, risk = abstention["coverage"]["value"], abstention["risk"]["value"]
    if risk is not None:
        label = f"fitted out of fold for at most {abstention['max_risk']:g}"
        axes.plot(coverage, risk, "o", color=COLOURS[1], label=label)
    axes.set_title(f"area under the curve {_with_interval(abstention['aurc'])}", loc="left", color=GREY)
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


def _error_text(ece: Mapping[str, Any]) -> str:
    return f"ECE {_with_interval(ece)}; {ece['expected_if_calibrated']:.3f} by chance alone"


def _with_interval(values: Mapping[str, Any]) -> str:
    bounds = "" if values["low"] is None else f" [{values['low']:.3f}, {values['high']:.3f}]"
    return f"{values['value']:.3f}{bounds}"
