"""Every figure of a run, in one style: functions that take arrays and return a matplotlib Figure.

Figures are built on matplotlib's object interface and drawn by Agg: no window, no global list of figures, no state
between two calls. Import this module where figures are drawn, not at start-up: matplotlib takes its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fpclass.report.style import (
    COLOURS,
    GREY,
    HEAT_COLOURS,
    INK,
    LINE_STYLES,
    Images,
    cell_size,
    hide_ticks,
    new_figure,
    save_figure,
    shorten,
    show_image,
    styled,
    wrap,
)
from fpclass.stats.intervals import Interval
from fpclass.stats.metrics import Labels, Logits, compute_metrics, one_vs_rest_scores

__all__ = [
    "class_balance",
    "confusion_matrix",
    "grad_cam_grid",
    "image_sizes",
    "learning_curves",
    "mean_images",
    "overlay",
    "resize_map",
    "roc_curves",
    "sample_grid",
    "save_figure",
]

MAX_CLASS_ROWS = 20
"""Classes that figures with images show; more would not fit on a page."""


@styled
def class_balance(counts: Mapping[str, int], note: str = "") -> Figure:
    """Images per class as bars.

    Args:
      counts: number of images by class name, in the order of the classes.
      note: small print at the foot, such as that the data are synthetic.
    """
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
    """Width against height of every image; a dot's area is the number of images of that size.

    Args:
      widths: in pixels.
      heights: in pixels.
      note: small print at the foot.
    """
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
        commonest = f"the commonest {width} x {height} px, {counts.max():,} times"
        what = f"all {width} x {height} px" if len(sizes) == 1 else f"{len(sizes):,} sizes, {commonest}"
        axes.set_title(f"{counts.sum():,} images, {what}", loc="left", color=GREY)
    axes.set(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel="width (px)", ylabel="height (px)")
    axes.grid()
    axes.legend(loc="lower right")
    return figure


@styled
def mean_images(images: Images, labels: Labels, class_names: Sequence[str], note: str = "") -> Figure:
    """The mean image of each class and, for two classes, what separates them.

    Args:
      images: uint8 [N, H, W, C], C = 1 or 3.
      labels: class index of each image; negative ones are left out.
      class_names: name of each class.
      note: small print at the foot.
    """
    shown = class_names[:MAX_CLASS_ROWS]
    num_panels = len(shown) + (len(class_names) == 2)
    num_columns = min(num_panels, 5)
    num_rows = math.ceil(num_panels / num_columns)
    width, height = cell_size(images, 1.9)
    size = (max(4.5, num_columns * (width + 0.3) + 0.9), num_rows * (height + 0.45) + 0.8)
    figure = new_figure(*size, "Mean image of each class", note)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    means = [_mean_image(images, np.flatnonzero(labels == k)) for k in range(len(shown))]
    for k, (panel, mean) in enumerate(zip(axes, means, strict=False)):
        panel.set_title(f"{wrap(class_names[k], 22)}\n{(labels == k).sum():,} images")
        show_image(panel, mean)
    for panel in axes[num_panels:]:
        panel.set_axis_off()
    if len(class_names) == 2:
        panel = axes[2]
        panel.set_title("difference\nsecond minus first class")
        hide_ticks(panel)
        if means[0] is not None and means[1] is not None:
            difference = (means[1] - means[0]).mean(axis=-1)
            limit = max(float(np.abs(difference).max()), 1.0)
            shades = panel.imshow(difference, cmap="RdBu_r", vmin=-limit, vmax=limit)
            figure.colorbar(shades, ax=panel, label="intensity (0 to 255)", shrink=0.85)
    return figure


@styled
def sample_grid(
    images: Images,
    labels: Labels,
    class_names: Sequence[str],
    filenames: Sequence[str],
    seed: int = 0,
    note: str = "",
) -> Figure:
    """Up to eight randomly drawn images of each class, one class a row.

    Args:
      images: uint8 [N, H, W, C], C = 1 or 3.
      labels: class index of each image; negative ones are left out.
      class_names: name of each class.
      filenames: name of each image.
      seed: of the draw.
      note: small print at the foot.
    """
    num_rows = min(len(class_names), MAX_CLASS_ROWS)
    num_columns = np.bincount(labels[labels >= 0], minlength=1).max().clip(1, 8)
    width, height = cell_size(images, 1.15)
    title = "Images drawn at random from each class"
    if num_rows < len(class_names):
        title += f" (the first {num_rows} of {len(class_names)})"
    figure = new_figure(num_columns * (width + 0.06) + 1.2, num_rows * (height + 0.24) + 0.7, title, note)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    rng = np.random.default_rng(seed)
    for k, row in enumerate(axes):
        members = np.flatnonzero(labels == k)
        chosen = np.sort(rng.choice(members, min(num_columns, len(members)), replace=False))
        for column, panel in enumerate(row):
            if column < len(chosen):
                position = int(chosen[column])
                show_image(panel, images[position])
                panel.set_title(shorten(filenames[position], 18), fontsize=6, color=GREY, pad=2)
            else:
                hide_ticks(panel, keep_frame=False)
        row[0].set_ylabel(wrap(class_names[k], 14), rotation=0, ha="right", va="center", labelpad=6)
    return figure


@styled
def confusion_matrix(
    matrix: Int[np.ndarray, "k k"] | Sequence[Sequence[int]], class_names: Sequence[str], note: str = ""
) -> Figure:
    """Counts, shaded by their share of the true class.

    Args:
      matrix: counts, rows true, columns predicted.
      class_names: name of each class.
      note: small print at the foot.
    """
    counts = np.asarray(matrix)
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.2, min(0.62 * num_classes, 12))
    figure = new_figure(side + 2.6, side + 1.7, "Confusion matrix", note)
    axes = figure.add_subplot()
    shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shades, ax=axes, label="share of the true class", shrink=0.8)
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
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


@styled
def roc_curves(
    logits: Logits,
    labels: Labels,
    class_names: Sequence[str],
    auc: Interval | None = None,
    note: str = "",
) -> Figure:
    """ROC curve of class 1 for two classes, else of each class against the rest.

    Args:
      logits: unnormalised log-probabilities [N, K]; finite.
      labels: class index of each image [N], in [0, K).
      class_names: name of each class.
      auc: area under the curve (mean area for more than two classes) with its interval; by default without one.
      note: small print at the foot.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    is_binary = len(class_names) == 2
    figure = new_figure(5.4 if is_binary else 8.2, 5.4, "ROC curve" if is_binary else "ROC curves", note)
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
    history: Sequence[Mapping[str, float | None]], chosen_epoch: int | None = None, note: str = ""
) -> Figure:
    """Loss and accuracy over the epochs.

    Args:
      history: one entry per epoch with its number under `epoch`, and any of `train_loss`, `selection_loss`,
        `validation_loss`, `train_accuracy`, `selection_accuracy`, `validation_accuracy`; missing or None where it
        was not measured.
      chosen_epoch: whose parameters were kept.
      note: small print at the foot.
    """
    figure = new_figure(9, 4, "Learning curves", note)
    splits = {"train": "training", "selection": "selection", "validation": "validation"}
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for (split, name), colour in zip(splits.items(), COLOURS, strict=False):
            points = [(entry["epoch"], entry.get(f"{split}_{metric}")) for entry in history]
            points = [(epoch, value) for epoch, value in points if value is not None]
            if points:
                marker = "o" if len(points) <= 30 else ""
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=name)
        has_curves = bool(axes.lines)
        if not has_curves:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
        if chosen_epoch is not None:
            label = f"epoch {chosen_epoch}, kept"
            axes.axvline(chosen_epoch, color=GREY, linewidth=1, linestyle="--", label=label)
        if has_curves:
            axes.legend()
        axes.set(xlabel="epoch", ylabel="cross-entropy loss (nats)" if metric == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
        axes.grid()
    return figure


@styled
def grad_cam_grid(images: Images, maps: Float[np.ndarray, "n mh mw"], titles: Sequence[str], note: str = "") -> Figure:
    """Each image beside itself under its map.

    Args:
      images: uint8 [M, H, W, C], C = 1 or 3.
      maps: in [0, 1], of any height and width.
      titles: text above each pair.
      note: small print at the foot.
    """
    width, height = cell_size(images, 1.9)
    num_columns = max(1, min(len(images), 3))
    num_rows = max(1, math.ceil(len(images) / num_columns))
    size = (max(5.2, num_columns * (2 * width + 0.4) + 0.9), max(2.6, num_rows * (height + 0.6) + 0.8))
    figure = new_figure(*size, "Where the network looked (Grad-CAM)", note)
    grid, side = figure.subfigures(1, 2, squeeze=False, width_ratios=(size[0] - 0.8, 0.8))[0]
    pairs = grid.subfigures(num_rows, num_columns, squeeze=False).ravel()
    for pair, image, heat, title in zip(pairs, images, maps, titles, strict=False):
        pair.suptitle(wrap(title, int(2 * width * 13)), fontsize=9)
        plain, overlaid = pair.subplots(1, 2)
        show_image(plain, image)
        show_image(overlaid, overlay(image, heat))
    scale = ScalarMappable(cmap=HEAT_COLOURS)
    bar_height = min(2.4, 0.7 * size[1]) / size[1]
    figure.colorbar(scale, cax=side.add_axes((0.05, 0.5 - bar_height / 2, 0.18, bar_height)), label="Grad-CAM (scaled)")
    return figure


def overlay(image: UInt8[np.ndarray, "h w c"], heat: Float[np.ndarray, "mh mw"]) -> Float[np.ndarray, "h w 3"]:
    """The image in grey under its map in colours.

    Args:
      image: uint8 [H, W, C], C = 1 or 3.
      heat: the map, in [0, 1], of any height and width.

    Returns:
      RGB intensities in [0, 255].
    """
    grey = image.mean(axis=-1, keepdims=True) / 255
    colours = matplotlib.colormaps[HEAT_COLOURS](resize_map(heat, image.shape[:2]))[..., :3]
    return 127.5 * (grey + colours)


def resize_map(heat: Float[np.ndarray, "mh mw"], image_size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Enlarges a map smoothly (bicubic) to an image's (height, width); values stay in [0, 1]."""
    from PIL import Image

    height, width = image_size
    enlarged = Image.fromarray(np.asarray(heat, np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), 0, 1)


def _mean_image(images: Images, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "h w c"] | None:
    """Mean of some of the images, float64 in [0, 255]; None of none. In parts: the set may fill half the memory."""
    if not len(rows):
        return None
    total = np.zeros(images.shape[1:])
    for start in range(0, len(rows), 512):
        total += images[rows[start : start + 512]].sum(axis=0, dtype=np.int64)
    return total / len(rows)
