"""Errors by the classes that the source had before they were put together (`data.merge`): who is taken for whom."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass import files
from fpclass.stats.intervals import bootstrap_groups
from fpclass.stats.metrics import Labels, Logits, image_log_losses

NUM_PAIRS_WITH_INTERVAL = 10
"""Of the hardest pairs; the others are there to be looked up."""


def judge_originals(
    logits: Logits,
    labels: Labels,
    originals: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    *,
    num_bootstrap: int,
    confidence: float,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Both tables, and what there is to say of them, a line each; arguments are those of `original_class_table`."""
    options: Any = {"num_bootstrap": num_bootstrap, "confidence": confidence}
    of_classes = original_class_table(logits, labels, originals, groups, classes, **options)
    of_pairs = original_pair_table(logits, labels, originals, groups, **options)
    return of_classes, of_pairs, findings(of_classes, of_pairs, confidence)


def write_originals(
    folder: pathlib.Path, classes: pd.DataFrame, pairs: pd.DataFrame, *, suffix: str = "", note: str = ""
) -> None:
    """Writes original_classes.csv, original_pairs.csv and their figure; a suffix goes before the ending of each."""
    from fpclass.report.grids import original_classes
    from fpclass.report.style import save_figure

    files.write_csv(folder / f"original_classes{suffix}.csv", classes)
    files.write_csv(folder / f"original_pairs{suffix}.csv", pairs)
    save_figure(original_classes(classes, pairs, note=note), folder / f"figures/original_classes{suffix}.png")


def original_class_table(
    logits: Logits,
    labels: Labels,
    originals: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    *,
    num_bootstrap: int,
    confidence: float,
) -> pd.DataFrame:
    """How often the images of every original class are right, the worst class first.

    Args:
      logits: of the merged classes [N, K].
      labels: merged class of each image [N], in [0, K).
      originals: original class of each image [N].
      groups: person of each image [N]; "" where none is known.
      classes: names of the merged classes.
      num_bootstrap: resamples behind the intervals.
      confidence: coverage of the intervals.

    Returns:
      One row per original class: original, class, num_images, num_wrong, accuracy, low, high (the interval; None for
      a single person), mean_loss (nats), and predicted_<class>, a count per merged class.
    """
    predicted = logits.argmax(axis=1)
    losses = image_log_losses(logits, labels)
    records = []
    for name, rows in _rows_by_class(originals).items():
        low, high = bootstrap_groups(
            logits[rows],
            labels[rows],
            groups[rows].tolist(),
            ("accuracy",),
            num_resamples=num_bootstrap,
            confidence=confidence,
        )["accuracy"] or (None, None)
        counts = np.bincount(predicted[rows], minlength=len(classes))
        num_wrong = int(np.sum(predicted[rows] != labels[rows]))
        records.append(
            {
                "original": name,
                "class": classes[int(labels[rows[0]])],
                "num_images": len(rows),
                "num_wrong": num_wrong,
                "accuracy": 1 - num_wrong / len(rows),
                "low": low,
                "high": high,
                "mean_loss": float(losses[rows].mean()),
                **{f"predicted_{value}": int(count) for value, count in zip(classes, counts, strict=True)},
            }
        )
    return pd.DataFrame(records).sort_values(["accuracy", "original"], ignore_index=True)


def original_pair_table(
    logits: Logits,
    labels: Labels,
    originals: np.ndarray,
    groups: np.ndarray,
    *,
    num_bootstrap: int,
    confidence: float,
) -> pd.DataFrame:
    """How well two original classes are told apart that belong to different merged ones, the hardest pair first.

    A network that says "vehicle" or "animal" does not say which; but the more often a bird gets a higher score for
    "vehicle" than an airplane, the more alike the two look to it.

    Args:
      logits: as `original_class_table`, like the others.
      labels: see there.
      originals: see there.
      groups: see there.
      num_bootstrap: see there.
      confidence: see there.

    Returns:
      One row per pair: one, other, auc (area under the ROC curve of the difference of the two logits, over the
      images of both), low and high (its interval, of the hardest pairs; None for the others).
    """
    from sklearn.metrics import roc_auc_score

    by_class = _rows_by_class(originals)
    pairs = []
    for (one, a), (other, b) in itertools.combinations(by_class.items(), 2):
        if labels[a[0]] != labels[b[0]]:
            scores, is_other = _pair_scores(logits, labels, a, b)
            auc = roc_auc_score(is_other, scores[:, 1] - scores[:, 0])
            pairs.append({"one": one, "other": other, "auc": float(auc), "low": None, "high": None})
    pairs.sort(key=lambda pair: pair["auc"])
    for pair in pairs[:NUM_PAIRS_WITH_INTERVAL]:
        a, b = by_class[pair["one"]], by_class[pair["other"]]
        scores, is_other = _pair_scores(logits, labels, a, b)
        bounds = bootstrap_groups(
            scores,
            is_other,
            groups[np.concatenate([a, b])].tolist(),
            ("roc_auc",),
            num_resamples=num_bootstrap,
            confidence=confidence,
        )["roc_auc"]
        pair["low"], pair["high"] = bounds or (None, None)
    return pd.DataFrame(pairs, columns=["one", "other", "auc", "low", "high"])


def _rows_by_class(originals: np.ndarray) -> dict[str, Int[np.ndarray, " n"]]:
    return {str(name): np.flatnonzero(originals == name) for name in np.unique(originals)}


def _pair_scores(
    logits: Logits, labels: Labels, a: Int[np.ndarray, " a"], b: Int[np.ndarray, " b"]
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """The logits of the two merged classes, of the images of both original ones; and which of these an image is."""
    rows = np.concatenate([a, b])
    return logits[rows][:, [labels[a[0]], labels[b[0]]]], (np.arange(len(rows)) >= len(a)).astype(np.int64)


def findings(classes: pd.DataFrame, pairs: pd.DataFrame, confidence: float) -> list[str]:
    """What there is to say, a line each."""
    worst: Any = classes.iloc[0]
    lines = [
        f"by original class, the most often wrong: {worst['original']} ({worst['num_wrong']} of {worst['num_images']}, "
        f"accuracy {worst['accuracy']:.3f}{_interval(worst)})"
        if worst["num_wrong"]
        else "by original class: no image of any of them is wrong"
    ]
    if len(pairs) and pairs["auc"].iloc[0] < 1:
        hardest: Any = pairs.iloc[0]
        lines.append(
            f"hardest to tell apart: {hardest['one']} and {hardest['other']} "
            f"(AUC {hardest['auc']:.3f}{_interval(hardest)}"
            + (")" if pd.isna(hardest["low"]) else f"; {100 * confidence:g} % intervals)")
        )
    return lines


def _interval(row: Any) -> str:
    return "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
