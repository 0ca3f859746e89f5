"""McNemar's and DeLong's tests for images that come in groups, such as several of one person.

The plain tests take every image for independent. Images of one person are right or wrong together, so the plain
standard errors are too small, and equal classifiers differ "significantly" far more often than promised
(docs/statistics.md). The clustered forms sum within a person first. They are here for reviewers who ask for these tests
by name: like the plain ones they compare two sets of predictions as they are, and know nothing of another training.

Sources:
  McNemar, Psychometrika 12 (1947) 153-157.
  Obuchowski, On the comparison of correlated proportions for clustered data, Statistics in Medicine 17 (1998)
    1495-1507.
  Durkalski, Palesch, Lipsitz and Rust, Analysis of clustered matched-pair data, Statistics in Medicine 22 (2003)
    2417-2428.
  Yang, Sun and Hardin, A note on the tests for clustered matched-pair binary data, Biometrical Journal 52 (2010)
    638-652.
  DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver operating characteristic
    curves, Biometrics 44 (1988) 837-845.
  Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53 (1997) 567-578.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import Logits, one_vs_rest_scores

MCNEMAR_FORMS = ("obuchowski", "durkalski", "yang")


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """A difference of two classifiers on the same images; None where undefined.

    Attributes:
      difference: of the first less the second: of accuracies, or of areas under the curve.
      standard_error: of it; None of forms that have only a statistic.
      statistic: chi-squared with one degree of freedom, or the squared z.
      p_value: two-sided.
    """

    difference: float | None = None
    standard_error: float | None = None
    statistic: float | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return dataclasses.asdict(self)


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> PairedTest:
    """McNemar's test of whether each image is right, by two classifiers, without a correction for continuity."""
    gained, lost = int((first & ~second).sum()), int((~first & second).sum())
    return _chi_squared((gained - lost) / max(len(first), 1), (gained - lost) ** 2, gained + lost)


def mcnemar_clustered(
    first: Bool[np.ndarray, " n"],
    second: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    form: str = "obuchowski",
) -> PairedTest:
    """McNemar's test for images in groups; with one image per group all forms are, but for (m - 1) / m.

    With d_i the images of group i that the first has right and the second wrong, less those the other way round:
    Yang's statistic is (sum d_i)^2 / sum d_i^2, Obuchowski's, whose variance takes both accuracies for their mean as
    the null hypothesis does, is (m - 1) / m times that for m groups, and Durkalski's has d_i / n_i in place of d_i, so
    that groups weigh alike whatever the number n_i of their images.

    Args:
      groups: number of each image's group, 0, 1, …
      form: one of `MCNEMAR_FORMS`.

    Raises:
      ValueError: another form.
    """
    if form not in MCNEMAR_FORMS:
        raise ValueError(f"form {form!r}: expected one of {', '.join(MCNEMAR_FORMS)}")
    differences = first.astype(float) - second.astype(float)
    of_groups, sizes = np.bincount(groups, differences), np.bincount(groups)
    of_groups, sizes = of_groups[sizes > 0], sizes[sizes > 0]
    mean = float(differences.mean())
    if form == "durkalski":
        shares = of_groups / sizes
        return _chi_squared(float(shares.mean()), shares.sum() ** 2, float((shares**2).sum()))
    num_groups = len(sizes)
    factor = (num_groups - 1) / num_groups if form == "obuchowski" else 1.0
    return _chi_squared(mean, factor * of_groups.sum() ** 2, float((of_groups**2).sum()))


def delong(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]
) -> PairedTest:
    """DeLong's test of the areas under two ROC curves of the same images, each image by itself."""
    return delong_clustered(first, second, is_positive, np.arange(len(first)))


def delong_clustered(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    is_positive: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
) -> PairedTest:
    """DeLong's test for images in groups; with one image per group it is DeLong's, but for factors m / (m - 1).

    A group may hold images of both classes: the covariance of its two parts counts too (Obuchowski 1997, equation 3).

    Args:
      first: scores of the first classifier, larger for the positive class.
      second: of the second.
      groups: number of each image's group.

    Returns:
      Nothing where a class has images of fewer than two groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    of_classes = [codes[is_positive], codes[~is_positive]]
    if min(len(np.unique(of_class)) for of_class in of_classes) < 2:
        return PairedTest()
    placements = [_placements(scores, is_positive) for scores in (first, second)]
    areas = [float(positive.mean()) for positive, _ in placements]
    num_groups = int(codes.max()) + 1
    parts = []  # of each group, its images' placements less the area, for the difference of both classifiers
    for k, of_class in enumerate(of_classes):
        difference = (placements[0][k] - areas[0]) - (placements[1][k] - areas[1])
        parts.append(np.bincount(of_class, difference, minlength=num_groups))
    positives, negatives = (len(of_class) for of_class in of_classes)
    groups_of = [len(np.unique(of_class)) for of_class in of_classes]
    variance = 0.0
    for part, n, m in zip(parts, (positives, negatives), groups_of, strict=True):
        variance += m / (m - 1) * float((part**2).sum()) / n**2
    both = num_groups / (num_groups - 1) * float((parts[0] * parts[1]).sum()) / (positives * negatives)
    return _wald(areas[0] - areas[1], variance + 2 * both)


def _placements(
    scores: Float[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]:
    """Share of the negatives below each positive, and of the positives above each negative; a tie counts half."""
    ones, zeros = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    below = np.searchsorted(zeros, scores[is_positive], "left") + np.searchsorted(zeros, scores[is_positive], "right")
    above = np.searchsorted(ones, scores[~is_positive], "left") + np.searchsorted(ones, scores[~is_positive], "right")
    return below / (2 * len(zeros)), 1 - above / (2 * len(ones))


def clustered_tests(first: Logits, second: Logits, cohort: Cohort) -> dict[str, dict[str, Any]]:
    """All of these tests of two classifiers' logits [N, K]; those of areas of two classes alone.

    Returns:
      By name (mcnemar, mcnemar_clustered, mcnemar_durkalski, mcnemar_yang, delong, delong_clustered) what
      `PairedTest.to_json` gives.
    """
    one, two = (cohort.check(logits).argmax(axis=1) == cohort.labels for logits in (first, second))
    tests = {
        "mcnemar": mcnemar(one, two),
        "mcnemar_clustered": mcnemar_clustered(one, two, cohort.groups),
        "mcnemar_durkalski": mcnemar_clustered(one, two, cohort.groups, "durkalski"),
        "mcnemar_yang": mcnemar_clustered(one, two, cohort.groups, "yang"),
    }
    if np.shape(first)[1] == 2:
        scores, others = (one_vs_rest_scores(logits)[:, 1] for logits in (first, second))
        is_positive = cohort.labels == 1
        tests["delong"] = delong(scores, others, is_positive)
        tests["delong_clustered"] = delong_clustered(scores, others, is_positive, cohort.groups)
    return {name: test.to_json() for name, test in tests.items()}


def _chi_squared(difference: float, squared: float, variance: float) -> PairedTest:
    """The test of a squared sum over its variance; p is 1 where nothing differs."""
    from scipy import stats

    if variance == 0:
        return PairedTest(difference, None, 0.0, 1.0)
    statistic = float(squared / variance)
    return PairedTest(difference, None, statistic, float(stats.chi2.sf(statistic, 1)))


def _wald(difference: float, variance: float) -> PairedTest:
    if variance <= 0:
        return PairedTest(difference, 0.0, 0.0 if difference == 0 else None, 1.0 if difference == 0 else None)
    error = math.sqrt(variance)
    test = _chi_squared(difference, difference**2, variance)
    return dataclasses.replace(test, standard_error=error)
