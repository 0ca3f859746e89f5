"""Errors by the classes that the source had before they were put together (`data.merge`): who is taken for whom."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, metric_bounds
from fpclass.stats.metrics import Labels, Logits, image_log_losses

NUM_PAIRS_WITH_INTERVAL = 10
"""Of the hardest pairs; the others are there to be looked up."""


def class_table(logits: Logits, cohort: Cohort, originals: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """How often the images of every original class are right, the worst class first.

    Args:
      logits: of the merged classes [N, K].
      cohort: with merged classes and their names.
      originals: original class of each image [N].

    Returns:
      One row per original class: original, class, num_images, num_wrong, accuracy, low, high (its interval, that of
      all classes at once; None for a single person), mean_loss (nats), and predicted_<class>, a count per merged class.
    """
    predicted, names = logits.argmax(axis=1), cohort.class_names
    losses = image_log_losses(logits, cohort.labels)
    records, by_class = [], _rows_by_class(originals)
    wide = _simultaneous(bootstrap, len(by_class))
    for original, rows in by_class.items():
        low, high = metric_bounds(logits[rows], cohort.take(rows), wide, ("accuracy",))["accuracy"]
        counts = np.bincount(predicted[rows], minlength=len(names))
        num_wrong = int(np.sum(predicted[rows] != cohort.labels[rows]))
        records.append(
            {
                "original": original,
                "class": names[int(cohort.labels[rows[0]])],
                "num_images": len(rows),
                "num_wrong": num_wrong,
                "accuracy": 1 - num_wrong / len(rows),
                "low": low,
                "high": high,
                "mean_loss": float(losses[rows].mean()),
                **{f"predicted_{name}": int(count) for name, count in zip(names, counts, strict=True)},
            }
        )
    return pd.DataFrame(records).sort_values(["accuracy", "original"], ignore_index=True)


def pair_table(logits: Logits, cohort: Cohort, originals: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """How well two original classes are told apart that belong to different merged ones, the hardest pair first.

    A network that says "vehicle" or "animal" does not say which; but the more often a bird gets a higher score for
    "vehicle" than an airplane, the more alike the two look to it. Arguments as `class_table`.

    Returns:
      One row per pair: one, other, auc (area under the ROC curve of the difference of the two logits, over the
      images of both), low and high (its interval, that of all pairs at once, of the hardest; None for the others).
    """
    from sklearn.metrics import roc_auc_score

    by_class = _rows_by_class(originals)
    pairs: list[dict[str, Any]] = []
    for (one, a), (other, b) in itertools.combinations(by_class.items(), 2):
        if cohort.labels[a[0]] != cohort.labels[b[0]]:
            scores, is_other = _pair_scores(logits, cohort.labels, a, b)
            auc = roc_auc_score(is_other, scores[:, 1] - scores[:, 0])
            pairs.append({"one": one, "other": other, "auc": float(auc), "low": None, "high": None})
    pairs.sort(key=lambda pair: pair["auc"])
    wide = _simultaneous(bootstrap, len(pairs))
    for pair in pairs[:NUM_PAIRS_WITH_INTERVAL]:
        a, b = by_class[pair["one"]], by_class[pair["other"]]
        scores, is_other = _pair_scores(logits, cohort.labels, a, b)
        both = Cohort(is_other, cohort.groups[np.concatenate([a, b])])
        pair["low"], pair["high"] = metric_bounds(scores, both, wide, ("roc_auc",))["roc_auc"]
    return pd.DataFrame(pairs, columns=["one", "other", "auc", "low", "high"])


def _simultaneous(bootstrap: Bootstrap, number: int) -> Bootstrap:
    """The bootstrap whose intervals hold for all of so many values at once (Bonferroni).

    Who looks at the worst of many looks at an extreme, which an interval for one value does not know of.
    """
    return dataclasses.replace(bootstrap, confidence=1 - (1 - bootstrap.confidence) / max(number, 1))


def _rows_by_class(originals: np.ndarray) -> dict[str, Int[np.ndarray, " n"]]:
    return {str(name): np.flatnonzero(originals == name) for name in np.unique(originals)}


def _pair_scores(
    logits: Logits, labels: Labels, a: Int[np.ndarray, " a"], b: Int[np.ndarray, " b"]
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """The logits of the two merged classes, of the images of both original ones; and which of these an image is."""
    rows = np.concatenate([a, b])
    return logits[rows][:, [labels[a[0]], labels[b[0]]]], (np.arange(len(rows)) >= len(a)).astype(np.int64)


def findings(classes: pd.DataFrame, pairs: pd.DataFrame, confidence: float) -> list[str]:
    """What the two tables show, a line each."""
    worst: Any = classes.iloc[0]
    lines = [
        f"by original class, the most often wrong of {len(classes)}: {worst['original']} "
        f"({worst['num_wrong']} of {worst['num_images']}, "
        f"accuracy {Interval(worst['accuracy'], worst['low'], worst['high'])})"
        if worst["num_wrong"]
        else "by original class: no image of any of them is wrong"
    ]
    if len(pairs) and pairs["auc"].iloc[0] < 1:
        hardest: Any = pairs.iloc[0]
        lines.append(
            f"hardest to tell apart of {len(pairs)} pairs: {hardest['one']} and {hardest['other']} "
            f"(AUC {Interval(hardest['auc'], hardest['low'], hardest['high'])}"
            + (")" if pd.isna(hardest["low"]) else f"; {100 * confidence:g} % intervals, of all pairs at once)")
        )
    return lines
