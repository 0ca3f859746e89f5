"""Which differences between configs are real: paired comparisons with a baseline, and a verdict in words.

Two things make the error of a difference larger than a plain test over folds or images believes: a person's images are
alike, and the training sets of the folds overlap. The bootstrap draws people, which answers the first; it takes the
trained members as given, so it is silent about the second and, with one seed, about the noise of training. The
correction of Nadeau and Bengio answers the second, and the spread of the fold differences holds the noise of training,
but with five folds it is known poorly. The verdict's test, `corrected_t_test`, takes the larger of both variances, with
its degrees of freedom, and corrects it. On one split, without folds, there is no overlap to correct for and no spread
of folds: `split_t_test` adds the noise of training, which the seeds show, to that of people, and is silent about what
another training set would have changed. docs/statistics.md says how often each of these tests is wrong.

Sources:
  Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52 (2003) 239-281.
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

from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Bounds, Interval
from fpclass.stats.scores import NEGLIGIBLE, SeedLogits, member_scores, resampled_scores, score_interval
from fpclass.stats.weighted_metrics import LOWER_IS_BETTER

POWER = 0.8
CHANCE = 0.05
"""Error of the F test for whether folds spread more than people explain; it only plans, the verdict does without."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A config against the baseline; differences are candidate minus baseline. None where undefined.

    Attributes:
      difference: of the mean scores, with the interval of the paired bootstrap over groups (and seeds).
      tested: the same with the interval of the verdict's test, `corrected_t_test`, or `split_t_test` without folds,
        like standard_error and p_value (two-sided); it also knows of overlapping training sets and of training noise.
      p_holm: p_value adjusted for the family of comparisons; the verdict rests on it.
      p_folds: of the corrected t-test on the folds alone (Nadeau and Bengio), two-sided, not adjusted; None without.
      p_bootstrap: of the paired bootstrap, two-sided, not adjusted.
      groups_needed: how many more groups would show a difference as large as the observed one, or the margin if that
        is larger, with 80 % power; two significant digits. None also where no number would do: more seeds are needed.
    """

    difference: Interval = UNDEFINED
    tested: Interval = UNDEFINED
    standard_error: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    p_folds: float | None = None
    p_bootstrap: float | None = None
    groups_needed: int | None = None
    verdict: str = ""

    def record(self) -> dict[str, Any]:
        """Its columns of study.csv."""
        return {
            **self.difference.columns("difference"),
            "t_low": self.tested.low,
            "t_high": self.tested.high,
            "standard_error": self.standard_error,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "p_folds": self.p_folds,
            "p_bootstrap": self.p_bootstrap,
            "people_needed": self.groups_needed,
            "verdict": self.verdict,
        }


def compare_all(
    logits: Mapping[str, SeedLogits], baseline: str, cohort: Cohort, metric: str, bootstrap: Bootstrap, *, margin: float
) -> dict[str, Comparison]:
    """Compares every other config with the baseline, as one family of tests; the comparisons keep the order given.

    The error of the family, alpha, is 1 - confidence. Better or worse: the p value of `corrected_t_test` (one fold:
    `split_t_test`), adjusted by Holm, is below alpha. No difference that matters: the (1 - 2 alpha) interval of that
    test lies within the margin (two one-sided tests at alpha each, not adjusted).

    Args:
      logits: [S, N, K] of each config by name; S may differ. Configs that failed are left out.
      baseline: name of the config that the others are compared with.
      cohort: with folds, or with one: a split that was there before, with members that differ by their seeds alone.
      metric: one of `fpclass.stats.weighted_metrics.OVERALL_METRICS`, or one of a class, from `of_class`.
      bootstrap: its confidence, in (0.5, 1), is that of the tests too.
      margin: largest difference that does not matter, in units of the metric, at least 0.

    Raises:
      As `member_scores`.
    """
    reference = resampled_scores(logits[baseline], cohort, metric, bootstrap)
    run_test = _test_on_folds if cohort.num_folds > 1 else _test_on_split
    candidates = [name for name in logits if name != baseline]
    tests, comparisons, alpha = {}, {}, 1 - bootstrap.confidence
    for name in candidates:
        replicates = resampled_scores(logits[name], cohort, metric, bootstrap) - reference
        test, p_folds = run_test(logits[name], logits[baseline], cohort, metric, bootstrap, replicates)
        tests[name] = test
        value = math.nan if test.difference is None else test.difference
        comparisons[name] = Comparison(
            difference=score_interval(value, replicates, cohort, metric, bootstrap, is_difference=True),
            tested=Interval(test.difference, *test.bounds(bootstrap.confidence)),
            standard_error=test.standard_error,
            p_value=test.p_value,
            p_folds=p_folds,
            p_bootstrap=bootstrap_p_value(replicates),
        )
    for name, p_holm in zip(candidates, holm([tests[name].p_value for name in candidates]), strict=True):
        needed = groups_needed(tests[name], cohort.num_groups, margin, alpha, len(candidates))
        comparisons[name] = dataclasses.replace(
            comparisons[name],
            p_holm=p_holm,
            groups_needed=None if needed is None or math.isinf(needed) else int(needed),
            verdict=_verdict(tests[name], p_holm, needed, metric, margin, alpha, cohort),
        )
    return comparisons


def _test_on_folds(
    candidate: SeedLogits,
    baseline: SeedLogits,
    cohort: Cohort,
    metric: str,
    bootstrap: Bootstrap,
    replicates: Float[np.ndarray, " b"],
) -> tuple[TTest, float | None]:
    """`corrected_t_test` and its p value on the folds alone; the replicates are of the difference."""
    of_folds = [member_scores(logits, cohort, metric).mean(axis=1) for logits in (candidate, baseline)]
    differences = of_folds[0] - of_folds[1]
    test = corrected_t_test(differences, _variance(replicates), cohort.num_groups)
    return test, corrected_t_test(differences).p_value


def _test_on_split(
    candidate: SeedLogits,
    baseline: SeedLogits,
    cohort: Cohort,
    metric: str,
    bootstrap: Bootstrap,
    replicates: Float[np.ndarray, " b"],
) -> tuple[TTest, None]:
    """`split_t_test`, whose variance over groups leaves the seeds as they are, which the replicates do not."""
    del replicates
    both = candidate, baseline
    of_candidate, of_baseline = (member_scores(logits, cohort, metric)[0] for logits in both)
    drawn = [resampled_scores(logits, cohort, metric, bootstrap, draws_seeds=False) for logits in both]
    return split_t_test(of_candidate, of_baseline, _variance(drawn[0] - drawn[1]), cohort.num_groups), None


def _variance(replicates: Float[np.ndarray, " b"]) -> float | None:
    """Of those that are defined; None where none is."""
    defined = replicates[~np.isnan(replicates)]
    return float(defined.var()) if len(defined) else None


@dataclasses.dataclass(frozen=True)
class TTest:
    """Outcome of `corrected_t_test` or `split_t_test`. None where undefined.

    Attributes:
      difference: mean over folds and seeds.
      standard_error: of that mean.
      degrees_of_freedom: of the standard error.
      group_share: share of the variance that more groups would take away.
    """

    difference: float | None
    standard_error: float | None
    degrees_of_freedom: float
    group_share: float = 1.0

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
        from scipy import stats

        if self.difference is None or self.standard_error is None:
            return None, None
        half_width = float(stats.t.ppf((1 + confidence) / 2, self.degrees_of_freedom)) * self.standard_error
        return self.difference - half_width, self.difference + half_width


def corrected_t_test(
    fold_differences: Float[np.ndarray, " f"], group_variance: float | None = None, num_groups: int = 0
) -> TTest:
    """Tests a mean difference over the folds of one cross-validation, without and with what is known of people.

    With s^2 the variance of F fold differences and v the variance of their mean over people, the squared standard
    error is (1 + F / (F - 1)) max(v, s^2 / F), with people - 1 degrees of freedom if v is the larger and F - 1
    otherwise. So v, known well, decides where people are the only noise, and the excess s^2 / F - v is added where
    training is noisy. The excess is no third estimate: v plus the excess is s^2 / F and as uncertain, which is why
    Satterthwaite's degrees of freedom, which take the excess for independent, reject too often here.

    The first factor corrects for overlapping training sets: s^2 (1 / F + n_test / n_train), n_test / n_train being
    1 / (F - 1), is s^2 / F (1 + F / (F - 1)). Seeds are averaged within a fold before: all of them train on the same
    people, so they are no independent trials.

    Args:
      fold_differences: candidate minus baseline in each of the F folds; undefined ones, nan, are left out, and with
        fewer than two others the standard error is None.
      group_variance: of the mean difference when people (and seeds) are drawn anew, such as the variance of its
        bootstrap replicates; None leaves the test on the folds alone.
      num_groups: number of people behind that variance.

    Source: Nadeau and Bengio (2003), the corrected resampled t-test. That the larger variance is taken is this
      project's own, checked by simulation: docs/statistics.md.
    """
    from scipy import stats

    num_folds = len(fold_differences)
    defined = fold_differences[~np.isnan(fold_differences)]
    difference = float(defined.mean()) if len(defined) else None
    if difference is None or len(defined) < 2:
        return TTest(difference, None, 0)
    variance, degrees_of_freedom, group_share = float(defined.var(ddof=1)) / len(defined), len(defined) - 1, 1.0
    if group_variance is not None:
        by_chance = float(stats.f.isf(CHANCE, degrees_of_freedom, num_groups - 1)) * group_variance
        group_share = group_variance / variance if variance > by_chance else 1.0
        if group_variance >= variance:
            variance, degrees_of_freedom = group_variance, num_groups - 1
    standard_error = math.sqrt(variance * (1 + len(defined) / (num_folds - 1)))
    # Rounding is neither a difference nor spread.
    difference = 0.0 if abs(difference) < NEGLIGIBLE else difference
    standard_error = 0.0 if standard_error < NEGLIGIBLE else standard_error
    return TTest(difference, standard_error, degrees_of_freedom, group_share)


def split_t_test(
    candidate: Float[np.ndarray, " s"],
    baseline: Float[np.ndarray, " s"],
    group_variance: float | None,
    num_groups: int,
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
      group_variance: of the difference of the means when people are drawn anew; None where it is undefined.
      num_groups: number of people behind that variance, at least 2 for a test.

    Returns:
      A test without a standard error where a config has a single seed: one training says nothing of others.
    """
    means = [float(np.mean(of_seeds)) for of_seeds in (candidate, baseline)]
    difference = None if math.isnan(means[0] - means[1]) else means[0] - means[1]
    smallest = min(len(candidate), len(baseline), num_groups)
    if difference is None or group_variance is None or smallest < 2:
        return TTest(difference, None, 0)
    parts = [(group_variance, num_groups - 1)]
    parts += [
        (float(np.var(of_seeds, ddof=1)) / len(of_seeds), len(of_seeds) - 1) for of_seeds in (candidate, baseline)
    ]
    variance = sum(part for part, _ in parts)
    if math.sqrt(variance) <= NEGLIGIBLE:
        return TTest(0.0 if abs(difference) <= NEGLIGIBLE else difference, 0.0, num_groups - 1)
    degrees_of_freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    degrees_of_freedom = min(degrees_of_freedom, 2 * (len(candidate) + len(baseline) - 2))
    return TTest(difference, math.sqrt(variance), degrees_of_freedom, group_variance / variance)


def bootstrap_p_value(replicates: Float[np.ndarray, " b"]) -> float | None:
    """Two-sided p value of no difference: twice the share of replicates on the rarer side of 0, at least 2 / (B + 1).

    Undefined replicates, nan, are left out; None where all are.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 15.4: the percentile interval's
    achieved significance level; one is added to the count and to B.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return None
    rarer = min((defined <= NEGLIGIBLE).sum(), (defined >= -NEGLIGIBLE).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(defined) + 1)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values so that rejecting those below alpha errs anywhere in the family with probability alpha at most.

    None or nan (a config that failed) does not belong to the family and gives None. Source: Holm (1979).
    """
    family = sorted((p, i) for i, p in enumerate(p_values) if p is not None and not math.isnan(p))
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(family):
        largest = max(largest, min(1.0, (len(family) - rank) * p))
        adjusted[i] = largest
    return adjusted


def groups_needed(test: TTest, num_groups: int, margin: float, alpha: float, num_tests: int) -> float | None:
    """How many more groups than these would show the difference, if as large as observed, or as the margin if larger.

    Of the squared standard error the share of groups shrinks as 1 / groups, the rest, the noise of training, stays.
    The test is two-sided at alpha / num_tests, Holm's hardest step, with its present degrees of freedom and 80 %
    power by the noncentral t distribution.

    Rounded up to two significant digits; 0 where there are enough; infinite where the noise of training alone hides
    the difference; None where nothing is known or there is no difference to look for.
    """
    size = max(abs(test.difference or 0.0), margin)
    if test.standard_error is None or size == 0:
        return None
    if test.standard_error == 0:
        return 0
    ratio_needed = _noncentrality(alpha / num_tests, test.degrees_of_freedom)
    # To solve for n: group_share * num_groups / n + 1 - group_share = variance_needed, in units of the present one.
    variance_needed = (size / (ratio_needed * test.standard_error)) ** 2
    if variance_needed <= 1 - test.group_share:
        return math.inf
    more = num_groups * (test.group_share / (variance_needed - 1 + test.group_share) - 1)
    if more <= 0:
        return 0
    unit = 10 ** max(0, math.floor(math.log10(more)) - 1)
    return math.ceil(more / unit) * unit


def _noncentrality(alpha: float, degrees_of_freedom: float) -> float:
    """True difference in standard errors that a two-sided t-test at alpha detects with the power `POWER`."""
    from scipy import optimize, stats

    critical = float(stats.t.isf(alpha / 2, degrees_of_freedom))

    def missing_power(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, degrees_of_freedom, noncentrality)) - POWER

    return float(optimize.root_scalar(missing_power, bracket=(0, 100 * critical)).root)


def _verdict(
    test: TTest,
    p_holm: float | None,
    needed: float | None,
    metric: str,
    margin: float,
    alpha: float,
    cohort: Cohort,
) -> str:
    if test.difference is not None and p_holm is None and cohort.num_folds == 1:
        return f"not tested: that takes two seeds or more (--seeds), and two {cohort.groups_are}"
    if test.difference is None or p_holm is None:
        return "not comparable: the metric is undefined"
    if p_holm < alpha:
        return "better" if (test.difference > 0) != (metric in LOWER_IS_BETTER) else "worse"
    low, high = test.bounds(1 - 2 * alpha)
    if low is not None and high is not None and -margin < low and high < margin:
        return f"no difference that matters (within ±{margin:g})"
    if not needed:
        return "no detectable difference"
    if math.isinf(needed):
        return "no detectable difference (more seeds would be needed to tell)"
    more = cohort.groups_are + " in validation" * (cohort.num_folds == 1)
    return f"no detectable difference (about {needed:.0f} more {more} would be needed to tell)"
