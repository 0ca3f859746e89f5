"""Which differences between configs are real: paired comparisons with a baseline, and a verdict in words.

Three things make the error of a difference larger than a plain test over folds or images believes: a person's images
are alike, the training sets of the folds overlap, and training is noisy. The variance over people (v, the bootstrap's,
which takes the trained members as given) answers the first, the factor of Nadeau and Bengio for it the second, and the
spread of the seeds the third: `fold_t_test`. On one split, without folds, there is no overlap to correct for:
`split_t_test` adds the noise of training to the variance over people, and is silent about what another training set
would have changed.

Comparisons with one baseline resemble each other, since all of them have its luck in them. `family_p_values` uses that:
it adjusts for the largest of the statistics as they vary together, in place of Bonferroni's sum (Holm), which takes
them as if each could be the largest on its own. docs/statistics.md says how often all of this errs, and what it finds.

Sources:
  Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52 (2003) 239-281.
  Dunnett and Tamhane, Step-down multiple tests for comparing treatments with a control, Statistics in Medicine 10
    (1991) 939-947; Westfall and Young, Resampling-based Multiple Testing (1993), the step-down min P.
  Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6 (1979) 65-70.
  Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680 (two one-sided tests).
  Satterthwaite, Biometrics Bulletin 2 (1946) 110-114; Welch, Biometrika 34 (1947) 28-35 (degrees of freedom of sums).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.stats.bounds import NEGLIGIBLE, Bounds, Support, scale_of, support_of, t_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.family import family_p_values
from fpclass.stats.comparison.scores import (
    Noise,
    Resampled,
    group_variance,
    overlap_of,
    sum_of_errors,
    training_noise,
)
from fpclass.stats.intervals import UNDEFINED, Interval, format_number
from fpclass.stats.weighted_metrics import is_lower_better

POWER = 0.8


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A config against the baseline; differences are candidate minus baseline. None where undefined.

    Attributes:
      difference: of the mean scores, with the interval of the verdict's test, `fold_t_test`, or `split_t_test` without
        folds, like standard_error and p_value (two-sided); where that cannot be done, of these very networks.
      p_adjusted: p_value adjusted for the family of comparisons and for earlier looks; the verdict rests on it.
      p_folds: of the corrected t-test on the folds alone (Nadeau and Bengio), two-sided, not adjusted; None without.
      detectable: the smallest difference that this study could have found with 80 % power, at the hardest step of the
        family.
    """

    difference: Interval = UNDEFINED
    standard_error: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    p_folds: float | None = None
    detectable: float | None = None
    verdict: str = ""

    def record(self) -> dict[str, Any]:
        """Its columns of study.csv."""
        return {
            **self.difference.columns("difference"),
            "standard_error": self.standard_error,
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "p_folds": self.p_folds,
            "detectable": self.detectable,
            "verdict": self.verdict,
        }


def compare_all(
    resampled: Mapping[str, Resampled], baseline: str, *, margin: float, num_looks: int = 1
) -> dict[str, Comparison]:
    """Compares every other config with the baseline, as one family of tests; the comparisons keep the order given.

    The error of the family, alpha, is 1 - confidence. Better or worse: the adjusted p value is below alpha; by less
    than matters, where the interval of the next lines lies within the margin as well. No difference that matters: the
    (1 - 2 alpha) interval of the test lies within the margin (two one-sided tests at alpha each, not adjusted).

    Args:
      resampled: of each config by name, by one metric and from the same resamples; the numbers of seeds may differ.
        Configs that failed are left out. The confidence, in (0.5, 1), is that of the tests too. The cohort has folds,
        or one: a split that was there before, with members that differ by their seeds alone.
      baseline: name of the config that the others are compared with.
      margin: largest difference that does not matter, in units of the metric, at least 0.
      num_looks: how often this study has been judged, by other seeds or rules; Bonferroni's correction for them.
    """
    of_baseline = resampled[baseline]
    cohort, metric, confidence = of_baseline.cohort, of_baseline.metric, of_baseline.confidence
    alpha = 1 - confidence
    scores = {name: of_config.members for name, of_config in resampled.items()}
    replicates = {name: of_config.replicates for name, of_config in resampled.items()}
    support = support_of(metric, cohort, cohort.num_folds)
    candidates = [name for name in resampled if name != baseline]
    tests, alone, p_folds = {}, {}, {}
    for name in candidates:
        of_people = group_variance(replicates[name] - replicates[baseline])
        of_people = None if of_people is None else of_people * support.correction
        if of_people is not None and of_people < NEGLIGIBLE**2 and scale_of(metric) == "proportion":
            of_people = _unseen_variance(support, confidence)
        if cohort.num_folds > 1:
            tests[name] = fold_t_test(scores[name], scores[baseline], of_people, support)
            differences = scores[name].mean(axis=1) - scores[baseline].mean(axis=1)
            p_folds[name] = corrected_t_test(differences).p_value
        else:
            tests[name] = split_t_test(scores[name][0], scores[baseline][0], of_people, support)
        # Of these very networks, where nothing is known of other trainings.
        error = None if of_people is None or support.groups < 2 else math.sqrt(of_people)
        alone[name] = TTest(tests[name].difference, error, support.degrees_of_freedom)
    shared = _shared_variance(
        [replicates[name] - replicates[baseline] for name in candidates], scores[baseline], support, cohort.num_folds
    )
    family = [tests[name] for name in candidates]
    adjusted = family_p_values([t.p_value for t in family], [t.standard_error for t in family], shared)
    comparisons = {}
    for name, p in zip(candidates, adjusted, strict=True):
        test = tests[name]
        p = None if p is None else min(1.0, p * num_looks)
        detectable = test.detectable(alpha / len(candidates) / num_looks)
        comparisons[name] = Comparison(
            difference=Interval(
                test.difference, *(test if test.p_value is not None else alone[name]).bounds(confidence)
            ),
            standard_error=test.standard_error,
            p_value=test.p_value,
            p_adjusted=p,
            p_folds=p_folds.get(name),
            detectable=detectable,
            verdict=_verdict(test, p, detectable, metric, margin, alpha, cohort),
        )
    return comparisons


@dataclasses.dataclass(frozen=True)
class TTest:
    """Outcome of `fold_t_test` or `split_t_test`. None where undefined.

    Attributes:
      difference: mean over folds and seeds.
      standard_error: of that mean.
      degrees_of_freedom: of the standard error.
    """

    difference: float | None
    standard_error: float | None
    degrees_of_freedom: float

    @property
    def p_value(self) -> float | None:
        """Two-sided; 1 where there is neither difference nor spread, 0 for a difference without any spread."""
        from scipy import stats

        if self.difference is None or self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.difference) / self.standard_error, self.degrees_of_freedom))

    def bounds(self, confidence: float) -> Bounds:
        """Of the interval that covers the difference with this probability."""
        if self.difference is None or self.standard_error is None:
            return None, None
        return t_bounds(self.difference, self.standard_error, self.degrees_of_freedom, confidence)

    def detectable(self, alpha: float) -> float | None:
        """The smallest true difference that this test finds at the level alpha with the probability `POWER`."""
        if self.standard_error is None:
            return None
        return self.standard_error * _noncentrality(alpha, self.degrees_of_freedom)


def _unseen_variance(support: Support, confidence: float) -> float:
    """Variance over people of a difference of two proportions that differ in nobody: nobody yet is not nobody at all.

    Such that the interval of these very networks is as wide as `Support.unseen` says.
    """
    if support.groups < 2:
        return 0.0
    _, one = t_bounds(0.0, 1.0, support.degrees_of_freedom, confidence)
    return (support.unseen(confidence) / one) ** 2


def fold_t_test(
    candidate: Float[np.ndarray, "f s"], baseline: Float[np.ndarray, "f t"], of_people: float | None, support: Support
) -> TTest:
    """Tests the mean difference of two configs over the folds and seeds of one cross-validation.

    With v the variance over people of the mean difference, d[f, s] the differences and s_f^2 their variance over the S
    seeds of a fold, the squared standard error is

        (1 + F / (F - 1)) v + sum_f s_f^2 / S / F^2          with Satterthwaite's degrees of freedom
        (1 + F / (F - 1)) v + max(0, s^2 / F - v)            with one seed; F - 1 where the folds add something

    Seeds of several configs are paired where there are as many; otherwise their variances are added.

    Args:
      candidate: score of each of its members, undefined ones nan.
      baseline: likewise; other seeds or not.
      of_people: variance of the mean difference when people are drawn anew, its small-sample correction included.
      support: the people behind that variance, at least 2 for a test.
    """
    differences = candidate.mean(axis=1) - baseline.mean(axis=1)
    differences = differences[~np.isnan(differences)]
    difference = float(differences.mean()) if len(differences) else None
    if difference is None or of_people is None or len(differences) < 2 or support.groups < 2:
        return TTest(difference, None, 0)
    if candidate.shape == baseline.shape:
        noises: list[Noise] = [training_noise(candidate - baseline, of_people)]
    else:
        noises = [training_noise(scores, of_people) for scores in (candidate, baseline)]
    variance, degrees_of_freedom = sum_of_errors(of_people * overlap_of(len(candidate)), support, noises)
    return _without_rounding(difference, variance, degrees_of_freedom)


def corrected_t_test(fold_differences: Float[np.ndarray, " f"]) -> TTest:
    """The corrected resampled t-test of Nadeau and Bengio (2003) on the mean differences of F folds; nan is left out.

    With s^2 their variance the squared standard error is s^2 / F (1 + F / (F - 1)), with F - 1 degrees of freedom.
    Seeds are averaged within a fold before: all of them train on the same people, so they are no independent trials.
    """
    defined = fold_differences[~np.isnan(fold_differences)]
    if len(defined) < 2:
        return TTest(float(defined.mean()) if len(defined) else None, None, 0)
    variance = float(defined.var(ddof=1)) / len(defined) * (1 + len(defined) / (len(fold_differences) - 1))
    return _without_rounding(float(defined.mean()), variance, len(defined) - 1)


def _without_rounding(difference: float, variance: float, degrees_of_freedom: float) -> TTest:
    """The test; rounding is neither a difference nor spread."""
    difference = 0.0 if abs(difference) < NEGLIGIBLE else difference
    standard_error = math.sqrt(variance)
    return TTest(difference, 0.0 if standard_error < NEGLIGIBLE else standard_error, degrees_of_freedom)


def split_t_test(
    candidate: Float[np.ndarray, " s"], baseline: Float[np.ndarray, " s"], of_people: float | None, support: Support
) -> TTest:
    """Tests the difference of two configs whose members all learn from one training set and judge one validation set.

    With v the variance of the difference over people, seeds as they are, and s^2 / S that of each config's mean over
    its S seeds, the squared standard error is v + s_1^2 / S_1 + s_2^2 / S_2, with Satterthwaite's degrees of freedom,
    but at most 2 (S_1 + S_2 - 2): seeds that happen to agree would pass for training without noise, and with two or
    three they often do (docs/statistics.md). What people and seeds do together (another seed errs on others) is in
    both parts, so the sum is rather too large.
    Seeds are not paired: the same seed means the same order of images, and hardly anything else, to another network.

    The difference is one between trainings on these training images: their choice is in no variance.

    Args:
      candidate: score of each of its members on the whole validation set.
      baseline: likewise; as many or not.
      of_people: variance of the difference of the means when people are drawn anew; None where it is undefined.
      support: the people behind that variance, at least 2 for a test.

    Returns:
      A test without a standard error where a config has a single seed: one training says nothing of others.
    """
    means = [float(np.mean(of_seeds)) for of_seeds in (candidate, baseline)]
    difference = None if math.isnan(means[0] - means[1]) else means[0] - means[1]
    smallest = min(len(candidate), len(baseline), support.groups)
    if difference is None or of_people is None or smallest < 2:
        return TTest(difference, None, 0)
    noises = [training_noise(of_seeds[None], 0.0) for of_seeds in (candidate, baseline)]
    variance, degrees_of_freedom = sum_of_errors(of_people, support, noises)
    most = 2 * (len(candidate) + len(baseline) - 2) if variance > NEGLIGIBLE**2 else math.inf
    return _without_rounding(difference, variance, min(degrees_of_freedom, most))


def _shared_variance(
    replicates: Sequence[Float[np.ndarray, " b"]],
    baseline: Float[np.ndarray, "f s"],
    support: Support,
    num_folds: int,
) -> Float[np.ndarray, "k k"]:
    """Covariance of differences to a baseline: what people have in common in them, and the noise of the baseline.

    With one seed the noise of the baseline cannot be told from others'; then none is taken to be shared, which errs on
    the side of Holm.
    """
    if not replicates:
        return np.zeros((0, 0))
    drawn = np.stack(replicates)
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    covariance = np.zeros((len(replicates),) * 2) if drawn.shape[1] < 2 else np.atleast_2d(np.cov(drawn, ddof=0))
    covariance = covariance * support.correction * overlap_of(num_folds)
    return covariance + (training_noise(baseline, math.inf).variance if baseline.shape[1] > 1 else 0.0)


def _noncentrality(alpha: float, degrees_of_freedom: float) -> float:
    """True difference in standard errors that a two-sided t-test at alpha detects with the power `POWER`."""
    from scipy import optimize, stats

    critical = float(stats.t.isf(alpha / 2, degrees_of_freedom))

    def missing_power(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, degrees_of_freedom, noncentrality)) - POWER

    return float(optimize.root_scalar(missing_power, bracket=(0, 100 * critical)).root)


def _verdict(
    test: TTest,
    p_adjusted: float | None,
    detectable: float | None,
    metric: str,
    margin: float,
    alpha: float,
    cohort: Cohort,
) -> str:
    if test.difference is not None and p_adjusted is None and cohort.num_folds == 1:
        more = "two seeds or more (`study --resume --seeds=2 --workdir=` this folder)"
        return f"not tested: that takes {more}, and two {cohort.groups_are}"
    if test.difference is None or p_adjusted is None:
        return "not comparable: the metric is undefined"
    low, high = test.bounds(1 - 2 * alpha)
    is_small = low is not None and high is not None and -margin < low and high < margin
    if p_adjusted < alpha:
        word = "better" if (test.difference > 0) != is_lower_better(metric) else "worse"
        return f"{word}, by less than matters (within ±{margin:g})" if is_small else word
    if is_small:
        return f"no difference that matters (within ±{margin:g})"
    return f"no detectable difference (this study would find ±{format_number(detectable)})"
