"""Charts of a run: functions that take numbers and return a matplotlib Figure.

Figures are built on matplotlib's object interface and drawn by Agg: no window, no global list of figures, no state
between two calls. Every one takes a `note`, small print at its foot, such as that the data are synthetic. Import this
module where figures are drawn, not at start-up: matplotlib takes its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fpclass.report.style import (
    COLOURS,
    GREY,
    INK,
    LINE_STYLES,
    MAX_CLASS_ROWS,
    above_note,
    new_figure,
    save_figure,
    styled,
    wrap,
)
from fpclass.stats.intervals import Interval
from fpclass.stats.metrics import Labels, Logits, compute_metrics, one_vs_rest_scores

__all__ = ["class_balance", "confusion_matrix", "image_sizes", "learning_curves", "roc_curves", "save_figure"]


LEARNING_CURVES = {"train": "training", "selection": "selection", "validation": "validation"}


@styled
def class_balance(counts: Mapping[str, int], note: str = "") -> Figure:
    """Images per class as bars, in the order of the classes."""
    figure = new_figure(7, 1.5 + 0.42 * max(len(counts), 2), "Images per class", note)
    axes = figure.add_subplot()
    numbers = np.array(list(counts.values()), np.int64)
    total = max(int(numbers.sum()), 1)
    bars = axes.barh(range(len(counts)), numbers, color=COLOURS[0], height=0.65)
    axes.bar_label(bars, [f"{n:,} ({n / total:.1%})" for n in numbers], padding=4, color=INK)
    axes.set_yticks(range(len(counts)), [wrap(name, 26) for name in counts])
    axes.set_ylim(max(len(counts), 1) - 0.4, -0.6)  # the first class on top
    axes.set_xlim(0, max(int(numbers.max(initial=0)), 1) * 1.22)  # room for the numbers beside the bars
    axes.set_xlabel("number of images")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def image_sizes(widths: Int[np.ndarray, " n"], heights: Int[np.ndarray, " n"], note: str = "") -> Figure:
    """Width against height of every image in pixels; a dot's area is the number of images of that size."""
    figure = new_figure(6, 5, "Image sizes", note)
    axes = figure.add_subplot()
    sizes, counts = np.unique(np.stack([widths, heights], axis=1), axis=0, return_counts=True)
    limits = 1.12 * sizes.max(axis=0, initial=1)
    square = [0, limits.max()]
    axes.plot(square, square, color=GREY, linewidth=1, linestyle="--", label="square")
    if len(sizes):
        area = 25 + 275 * counts / counts.max()
        axes.scatter(*sizes.T, s=area, color=COLOURS[0], alpha=0.6, linewidths=0)
        width, height = sizes[counts.argmax()]
        shown = f"{height} x {width} px (height x width)"  # as everywhere else, though width goes across
        what = f"all {shown}"
        if len(sizes) > 1:
            what = f"{len(sizes):,} sizes,\nthe commonest {shown}, {counts.max():,} times"
        axes.set_title(f"{counts.sum():,} images, {what}", loc="left", color=GREY)
    axes.set(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel="width (px)", ylabel="height (px)")
    axes.grid()
    axes.legend(loc="lower right")
    return figure


@styled
def confusion_matrix(
    matrix: Int[np.ndarray, "k k"] | Sequence[Sequence[int]], class_names: Sequence[str], of: str = "", note: str = ""
) -> Figure:
    """Counts, rows true and columns predicted, shaded by their share of the true class; `of` goes into the title."""
    num_classes = len(matrix)
    side = max(3.2, min(0.62 * num_classes, 12))
    figure = new_figure(side + 2.6, side + 1.7, _titled("Confusion matrix", of), note)
    axes = figure.add_subplot()
    shades = show_confusion(axes, np.asarray(matrix), class_names)
    figure.colorbar(shades, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def show_confusion(axes: Axes, counts: np.ndarray, class_names: Sequence[str]) -> AxesImage:
    """A confusion matrix [K, K] on some axes, with its numbers where they find room."""
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num_classes <= MAX_CLASS_ROWS:
        for (i, j), share in np.ndenumerate(shares):
            text = f"{counts[i, j]:,}\n{share:.0%}"
            colour = "white" if share > 0.55 else INK
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=12 if num_classes < 4 else 8)
    names = [wrap(name, 22) for name in class_names]
    is_crowded = num_classes > 3 or max(map(len, class_names)) > 22
    rotated = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    axes.set_xticks(range(num_classes), names, **rotated)
    axes.set_yticks(range(num_classes), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return shades


def _titled(title: str, of: str) -> str:
    return f"{title}, {of}" if of else title


@styled
def roc_curves(
    logits: Logits,
    labels: Labels,
    class_names: Sequence[str],
    auc: Interval | None = None,
    of: str = "",
    note: str = "",
) -> Figure:
    """ROC curve of class 1 for two classes, else of each class against the rest.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      auc: area under the curve (mean area for more than two classes) with its interval; by default without one.
      of: goes into the title, such as "test images".
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    is_binary = len(class_names) == 2
    title = _titled("ROC curve" if is_binary else "ROC curves", of)
    figure = new_figure(5.4 if is_binary else 8.2, 5.4, title, note)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    scores = one_vs_rest_scores(logits)
    handles, texts = [], []
    for k in [1] if is_binary else range(len(class_names)):
        is_positive = labels == k
        name = wrap(class_names[k], 28)
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "linestyle": LINE_STYLES[k // len(COLOURS) % 4]}
        if is_positive.all() or not is_positive.any():
            handles += axes.plot([], [], **style)
            texts.append(f"{name}: undefined")
            continue
        false_positive_rate, true_positive_rate, _ = roc_curve(is_positive, scores[:, k])
        handles += axes.plot(false_positive_rate, true_positive_rate, **style)
        area = roc_auc_score(is_positive, scores[:, k])
        texts.append(f"positive class: {name}" if is_binary else f"{name}: area {area:.3f}")
    auc = auc or Interval(compute_metrics(logits, labels, class_names)["roc_auc"])
    if auc.value is not None:
        what = "area under the curve" if is_binary else "mean area under the curves"
        axes.set_title(f"{what} {auc}", loc="left", color=GREY)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.grid()
    place: dict[str, Any] = {"loc": "lower right"} if is_binary else {"loc": "upper left", "bbox_to_anchor": (1.02, 1)}
    axes.legend(handles, texts, **place)
    return figure


@styled
def learning_curves(
    history: Sequence[Mapping[str, float | None]],
    chosen_epoch: int | None = None,
    test: Mapping[str, float | None] | None = None,
    note: str = "",
) -> Figure:
    """Loss and accuracy over the epochs, and the epoch whose parameters were kept.

    Test images have no curve: they are looked at once, with the weights that were kept.

    Args:
      history: an entry per epoch with its number under `epoch`, and any of `train_loss`, `selection_loss`,
        `validation_loss` and the same three of accuracy; missing or None where it was not measured. Of a probe see
        `strength_curves`.
      test: loss and accuracy on test images, where there are any, of the weights that were kept.
    """
    if any("strength" in entry for entry in history):
        return strength_curves(history, chosen_epoch, test, note)
    figure = new_figure(9, 4.3, "Learning curves", note)
    above, splits = above_note(figure), LEARNING_CURVES
    handles: dict[str, Any] = {}  # by label; both panels have one legend, below, where it covers no curve
    for axes, metric in zip(above.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for (split, name), colour in zip(splits.items(), COLOURS, strict=False):
            points = [(entry["epoch"], entry.get(f"{split}_{metric}")) for entry in history]
            points = [(epoch, value) for epoch, value in points if value is not None]
            if points:
                marker = "o" if len(points) <= 30 else ""
                # Smoothed labels and penalties are in it; the others are the plain cross-entropy.
                label = f"{name} (loss as minimised)" if split == "train" else name
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=label)
        if chosen_epoch is not None and test and test[metric] is not None:
            axes.plot(chosen_epoch, test[metric], "D", color=COLOURS[3], markersize=7, label="test, measured once")
        has_curves = bool(axes.lines)
        if not has_curves:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
        if chosen_epoch is not None:
            label = f"epoch {chosen_epoch}, kept"
            axes.axvline(chosen_epoch, color=GREY, linewidth=1, linestyle="--", label=label)
        if has_curves:
            handles |= {str(line.get_label()): line for line in axes.lines}
        axes.set(xlabel="epoch", ylabel="loss (nats)" if metric == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
        axes.grid()
    if handles:
        above.legend(handles.values(), handles, loc="outside lower left", ncols=len(handles))
    return figure


def strength_curves(
    history: Sequence[Mapping[str, float | None]],
    chosen: int | None,
    test: Mapping[str, float | None] | None,
    note: str,
) -> Figure:
    """Loss and accuracy of a probe over the strength of its penalty, and the one that was kept.

    Args:
      history: an entry per trial: its number under `epoch`, `strength` (scikit-learn's C), `balance` (1 where all
        stages weigh the same, 0 where all features do), and as for `learning_curves`.
      chosen: number of the trial that was kept.
    """
    figure = new_figure(9, 4.3, "A probe has no epochs: loss and accuracy by the strength of its penalty", note)
    kept: Mapping[str, Any] = next((entry for entry in history if entry["epoch"] == chosen), {})
    above = above_note(figure)
    both = above.subplots(1, 2)
    for axes, metric in zip(both, ("loss", "accuracy"), strict=True):
        for balance, of_what, colour in ((0.0, "features", COLOURS[1]), (1.0, "stages", COLOURS[4])):
            key = f"selection_{metric}"
            curve = [e for e in history if e.get("balance") == balance and e.get(key) is not None]
            if curve:
                points = [(e["strength"], e[key]) for e in curve]
                label = f"out of fold, {of_what} weigh the same"
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=label)
        of_kept = {
            name: kept.get(f"{split}_{metric}") for split, name in LEARNING_CURVES.items() if split != "selection"
        }
        for (name, value), colour in zip(of_kept.items(), (COLOURS[0], COLOURS[2]), strict=False):
            if value is not None:
                axes.plot(kept["strength"], value, "s", color=colour, markersize=6, label=name)
        if kept and test and test[metric] is not None:
            axes.plot(kept["strength"], test[metric], "D", color=COLOURS[3], markersize=7, label="test, measured once")
        if kept:
            axes.axvline(
                kept["strength"], color=GREY, linewidth=1, linestyle="--", label=f"C={kept['strength']:g}, kept"
            )
        axes.set(
            xscale="log", xlabel="C, larger is a weaker penalty", ylabel="loss (nats)" if metric == "loss" else metric
        )
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would be typeset, and no text is
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid()
    above.legend(*both[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure
