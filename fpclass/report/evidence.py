"""Figures that forensic science and medicine ask for: Tippett plot, empirical cross-entropy, decision curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fpclass.report.style import COLOURS, GREY, new_figure, styled
from fpclass.stats.intervals import Interval

BLUE, ORANGE, GREEN = COLOURS[:3]
UNITS = {"image": "single images", "person": "people, their images pooled"}
"""Panels by the unit that evidence is about."""


@styled
def tippett_plot(reports: Mapping[str, Any], hypotheses: tuple[str, str], note: str = "") -> Figure:
    """Share of the units of H1 and of H2 with a likelihood ratio at least so large, by unit, from `judge_ratios`."""
    figure = new_figure(1.5 + 4.6 * len(reports), 4.6, "Tippett plot: how large likelihood ratios are", note)
    for axes, (unit, report) in zip(np.ravel(figure.subplots(1, len(reports))), reports.items(), strict=True):
        curves, bounds = report["tippett"], report["evidence"]
        for key, name, colour in zip(("h1", "h2"), hypotheses, (BLUE, ORANGE), strict=True):
            count = report[f"num_{key}"]
            label = f"H{key[1]}: {name} ({count:,})"
            axes.plot(curves["log10_lr"], curves[key], color=colour, drawstyle="steps-post", label=label)
        axes.axvline(0, color=GREY, linewidth=1)
        for bound in ("log10_low", "log10_high"):
            axes.axvline(bounds[bound], color=GREY, linewidth=1, linestyle=":")
        misleading = [f"{report['misleading'][key]['value']:.1%} of {key.upper()}" for key in ("h1", "h2")]
        axes.set_title(f"{UNITS[unit]}\nmisleading: {', '.join(misleading)}", loc="left", color=GREY)
        axes.set_xlabel("log10 likelihood ratio (dotted: the most that so many support)")
        axes.set_ylim(-0.01, 1.01)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid()
        axes.legend(loc="best")
    figure.axes[0].set_ylabel("share with a ratio at least so large")
    return figure


@styled
def cross_entropy_plot(reports: Mapping[str, Any], note: str = "") -> Figure:
    """Empirical cross-entropy by prior odds, by unit, from `judge_ratios`: the ratios, their best calibration, none."""
    title = "Empirical cross-entropy: what the likelihood ratios leave to be known"
    figure = new_figure(1.5 + 4.6 * len(reports), 4.6, title, note)
    for axes, (unit, report) in zip(np.ravel(figure.subplots(1, len(reports))), reports.items(), strict=True):
        curves = report["cross_entropy"]
        x = curves["log10_prior_odds"]
        axes.plot(x, curves["reference"], color=GREY, linestyle=":", label="without evidence (LR = 1)")
        axes.plot(x, curves["calibrated"], color=BLUE, label="likelihood ratios")
        axes.plot(x, curves["pav"], color=ORANGE, linestyle="--", label="best calibration of their order (PAV)")
        axes.axvline(0, color=GREY, linewidth=1)
        cllr, lowest = (Interval.of(report[name]) for name in ("cllr", "cllr_min"))
        axes.set_title(f"{UNITS[unit]}\nCllr {cllr}, Cllr_min {lowest}", loc="left", color=GREY)
        axes.set(xlabel="log10 prior odds of H1", xlim=(min(x), max(x)), ylim=(0, 1.32 * max(curves["reference"])))
        axes.grid()
        axes.legend(loc="upper right")
    figure.axes[0].set_ylabel("empirical cross-entropy (bits)")
    return figure


@styled
def decision_curves(curves: Mapping[str, Any], condition: str, *, is_stated: bool, note: str = "") -> Figure:
    """Net benefit against the threshold to act at, of `decision_curve` by name, beside acting on all and on nobody."""
    first = next(iter(curves.values()))
    figure = new_figure(7.4, 5, f"Decision curve: net benefit of acting on {condition}", note)
    axes = figure.add_subplot()
    x = np.array(first["thresholds"])
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        low, high = np.array([curve["low"], curve["high"]], float)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, np.array(curve["net_benefit"], float), color=colour, label=name)
    axes.plot(x, np.array(first["treat_all"], float), color=GREY, linestyle="--", label="act on everybody")
    axes.axhline(0, color=GREY, linewidth=1, label="act on nobody")
    prevalence = first["prevalence"]
    axes.set_title(
        f"at a prevalence of {prevalence:.1%}, {'as stated' if is_stated else 'that of the data'}; bands: intervals",
        loc="left",
        color=GREY,
    )
    axes.set(xlim=(0, 1), ylim=(-0.35 * prevalence, 1.15 * prevalence))
    axes.set(xlabel=f"probability of {condition} from which on one would act", ylabel="net benefit (true positives)")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    return figure
