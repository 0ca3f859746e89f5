"""Metrics of a set of predictions: the point values.

Definitions that leave room for choice, the same here and in `fpclass.stats.intervals`:
  - The predicted class is the one with the largest logit, the first of them on a tie.
  - A value whose denominator is zero is undefined, never 0: precision of a class that is never predicted, recall and F1
    of a class without images, ROC AUC where a class has no images. Undefined is None here, nan in arrays.
  - Balanced accuracy and macro F1 are means over the classes that have images.
  - ROC AUC is that of class 1 where there are two classes, else the mean over classes of one against the rest.
  - Log-loss is the mean of -log p(true class), natural logarithm, from the logits: nothing is clipped.
  - Brier score as scikit-learn has it: for two classes the mean of (p_1 - y)^2, in [0, 1]; for more, the mean
    over images of the sum over classes of (p_k - y_k)^2, in [0, 2].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.errors import DataError

Logits = Float[np.ndarray, "n k"]
"""Unnormalised log-probabilities; finite, of any real dtype."""
Labels = Int[np.ndarray, " n"]
"""Class index of each image, in [0, K)."""
PerImage = Float[np.ndarray, " n"]


def compute_metrics(logits: Logits, labels: Labels, class_names: Sequence[str]) -> dict[str, Any]:
    """Evaluates predictions against their labels.

    Returns:
      A dict that JSON can hold: accuracy, balanced_accuracy, macro_f1, roc_auc, log_loss, brier (float;
      roc_auc None where undefined); per_class, by class name: precision, recall, f1 (float or None), support
      (int); confusion_matrix (counts [K][K], rows true, columns predicted); num_images.

    Raises:
      DataError: as `check_predictions`.
    """
    from sklearn.metrics import confusion_matrix

    logits, labels = check_predictions(logits, labels, class_names)
    num_images, num_classes = logits.shape
    counts = confusion_matrix(labels, logits.argmax(axis=1), labels=np.arange(num_classes))
    correct, support, called = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = ratio(correct, called), ratio(correct, support)
    f1 = np.where(support > 0, ratio(2 * correct, support + called), np.nan)
    return {
        "accuracy": float(correct.sum() / num_images),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1[support > 0].mean()),
        "roc_auc": _roc_auc(logits, labels),
        "log_loss": float(image_log_losses(logits, labels).mean()),
        "brier": float(image_brier_scores(logits, labels).mean()),
        "per_class": {
            name: {
                "precision": _none_if_nan(precision[k]),
                "recall": _none_if_nan(recall[k]),
                "f1": _none_if_nan(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(class_names)
        },
        "confusion_matrix": counts.tolist(),
        "num_images": num_images,
    }


def check_predictions(
    logits: Logits, labels: Labels, class_names: Sequence[str] | None = None
) -> tuple[Logits, Labels]:
    """Refuses what cannot be evaluated; gives logits as float64 and labels as int64.

    Raises:
      DataError: there are no images, a logit is not finite, a label is out of range, the shapes do not agree,
        or the class names do not name the classes.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
        raise DataError(
            f"predictions: logits have shape {logits.shape} and labels {labels.shape}, expected (N, K) with "
            "at least two classes and (N,); predict again"
        )
    num_classes = logits.shape[1]
    if class_names is not None and not len(class_names) == len(set(class_names)) == num_classes:
        raise DataError(
            f"data.class_names: {list(class_names)} are not {num_classes} distinct names, one for each class "
            "of the predictions; give each class a name of its own"
        )
    if len(labels) == 0:
        raise DataError("predictions: there is no labelled image to evaluate; check the labels and the split")
    is_bad = ~np.isfinite(logits).all(axis=1)
    if is_bad.any():
        raise DataError(f"predictions: logits of {is_bad.sum()} images are not finite numbers; train again")
    is_outside = (labels < 0) | (labels >= num_classes)
    if is_outside.any():
        raise DataError(
            f"predictions: label {labels[is_outside][0]} is not a class index in [0, {num_classes}); "
            "evaluate labelled images only"
        )
    return logits, labels.astype(np.int64)


def log_softmax(logits: Logits) -> Logits:
    """Log-probabilities, float64 [N, K], exact however large the logits are."""
    from scipy import special

    return special.log_softmax(np.asarray(logits, np.float64), axis=1)


def image_log_losses(logits: Logits, labels: Labels) -> PerImage:
    """Cross-entropy of each image, -log p(true class), natural logarithm, [N]."""
    return -np.take_along_axis(log_softmax(logits), np.asarray(labels)[:, None], axis=1)[:, 0]


def image_brier_scores(logits: Logits, labels: Labels) -> PerImage:
    """Squared error of each image's probabilities [N]; of class 1 for two classes, summed over more."""
    errors = np.exp(log_softmax(logits))
    errors[np.arange(len(errors)), labels] -= 1
    return errors[:, 1] ** 2 if errors.shape[1] == 2 else (errors**2).sum(axis=1)


def one_vs_rest_scores(logits: Logits) -> Logits:
    """Log-odds of each class against all others [N, K], the scores that ROC curves are drawn from.

    They order the images as the probabilities do, but do not become equal where probabilities round to 0 or
    1, which would make ties that are none.
    """
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 2:
        difference = logits[:, 1] - logits[:, 0]
        return np.stack([-difference, difference], axis=1)
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    shifted = logits - logits[rows, top][:, None]
    odds = np.exp(shifted)
    # At least 1, which is the top class's share of the rest, so rounding below 1 is an error.
    log_rest = np.log(np.maximum(odds.sum(axis=1, keepdims=True) - odds, 1))
    # For the top class itself that difference would cancel: the rest is summed without it.
    without_top = shifted.copy()
    without_top[rows, top] = -np.inf
    second = without_top.max(axis=1)
    log_rest[rows, top] = second + np.log(np.exp(without_top - second[:, None]).sum(axis=1))
    return shifted - log_rest


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient as float64, of the shapes' common shape; nan where the denominator is zero."""
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _roc_auc(logits: Logits, labels: Labels) -> float | None:
    from sklearn.metrics import roc_auc_score

    num_classes = logits.shape[1]
    if np.unique(labels).size < num_classes:
        return None
    scores = one_vs_rest_scores(logits)
    positives = [1] if num_classes == 2 else range(num_classes)
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in positives]))


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
