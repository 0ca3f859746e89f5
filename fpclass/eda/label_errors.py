"""Suspected label errors: confident learning on predictions that were made without seeing the image's own label."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """Suspicion of each label by the predictions.

    Attributes:
      quality: predicted probability of the given label ("self-confidence"); low is bad.
      suggested: the most probable class other than the given one.
      is_suspected: where confident learning counts the label as wrong.
      order: all positions, the suspected ones first, then by quality, worst first.
    """

    quality: Float[np.ndarray, " n"]
    suggested: Int[np.ndarray, " n"]
    is_suspected: Bool[np.ndarray, " n"]
    order: Int[np.ndarray, " n"]

    @property
    def num_suspected(self) -> int:
        """Number of suspected labels."""
        return int(self.is_suspected.sum())


def find_label_errors(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"]) -> LabelErrors:
    """Finds the labels that confident learning takes for wrong.

    An image is suspected if another class's probability reaches that class's threshold, which is its mean among the
    images that are labelled so, and is the higher one (the off-diagonal of the confident joint).

    Args:
      labels: class index as given, in [0, k); at least two classes occur.
      probabilities: of the classes, rows summing to 1, by models that were not trained on the image, on its person, or
        on a copy of it.

    Raises:
      ValueError: shapes or ranges do not fit.

    Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
      Artificial Intelligence Research 70, 2021, section 3.1, method C_confusion with the confident joint;
      `filter_by="confident_learning"` of cleanlab, its authors' library.
    """
    from cleanlab.filter import find_label_issues

    labels, probabilities = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} do not fit")
    present = np.unique(labels)
    if len(present) < 2 or present[0] < 0 or present[-1] >= probabilities.shape[1]:
        raise ValueError(f"labels {present[:5]} of {probabilities.shape[1]} classes: expected two or more, in range")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        raise ValueError("probabilities are not >= 0 with rows that sum to 1")
    # The library advises to leave classes out that nobody is labelled as.
    among = probabilities[:, present]
    among = among / np.maximum(among.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    with warnings.catch_warnings():
        # It warns where a class would be emptied; here nothing is removed.
        warnings.simplefilter("ignore")
        is_suspected = find_label_issues(
            np.searchsorted(present, labels), among, filter_by="confident_learning", n_jobs=1
        )
    rows = np.arange(len(labels))
    quality = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    return LabelErrors(
        quality=quality,
        suggested=others.argmax(axis=1),
        is_suspected=np.asarray(is_suspected, bool),
        order=np.lexsort((quality, ~is_suspected)),
    )
