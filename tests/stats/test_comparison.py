import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from study_simulation import (
    NUM_FOLDS,
    as_study,
    fold_differences_and_variances,
    make_study,
    simulate,
    with_training_noise,
)

from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison import bootstrap_p_value, compare_all, corrected_t_test, groups_needed, holm
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.scores import member_scores, resampled_scores, score_config

BOOTSTRAP = Bootstrap(200, 0.95)


def test_corrected_t_test_by_hand():
    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.06])
    test = corrected_t_test(differences)
    standard_error = math.sqrt(differences.var(ddof=1) * (1 / 5 + 1 / 4))
    assert (test.difference, test.standard_error) == pytest.approx((0.03, standard_error))
    # The uncorrected test has 1 / 5 in place of 1 / 5 + 1 / 4: everything else is SciPy's.
    naive = stats.ttest_1samp(differences, 0)
    assert test.p_value == pytest.approx(2 * stats.t.sf(naive.statistic * math.sqrt(0.2 / 0.45), 4))
    low, high = naive.confidence_interval(0.95)
    widened = math.sqrt(0.45 / 0.2) * (high - low) / 2
    assert test.bounds(0.95) == pytest.approx((0.03 - widened, 0.03 + widened))


def test_the_larger_variance_counts_with_its_own_degrees_of_freedom():
    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.06])
    of_folds = differences.var(ddof=1) / 5
    for group_variance, larger, degrees_of_freedom, group_share in (
        (2 * of_folds, 2 * of_folds, 39, 1),
        (0.9 * of_folds, of_folds, 4, 1),  # no more than chance
        (0.1 * of_folds, of_folds, 4, 0.1),
    ):
        test = corrected_t_test(differences, group_variance, 40)
        standard_error = math.sqrt(larger * (1 + 5 / 4))
        assert (test.difference, test.standard_error) == pytest.approx((0.03, standard_error))
        assert test.degrees_of_freedom == degrees_of_freedom
        assert test.group_share == pytest.approx(group_share)
        assert test.p_value == pytest.approx(2 * stats.t.sf(0.03 / standard_error, degrees_of_freedom))
    # Where the folds' share stops being chance: the F test.
    edge = stats.f.isf(0.05, 4, 39)
    for above, is_chance in ((1.001, False), (0.999, True)):
        assert (corrected_t_test(differences, of_folds / edge / above, 40).group_share == 1) == is_chance


def test_corrected_t_test_without_spread():
    none = corrected_t_test(np.full(5, 1e-17))
    assert (none.difference, none.p_value) == (0, 1)
    assert corrected_t_test(np.full(5, 0.1)).p_value == 0
    # Folds that happen to agree prove nothing where people differ.
    assert corrected_t_test(np.full(5, 0.1), 0.2**2, 50).standard_error == pytest.approx(0.2 * 1.5)
    assert corrected_t_test(np.array([0.1, np.nan, np.nan])).p_value is None
    left_out = corrected_t_test(np.array([0.1, 0.3, np.nan]))
    assert left_out.standard_error == pytest.approx(math.sqrt(0.02 * (1 / 2 + 1 / 2)))


def test_bootstrap_p_value():
    assert bootstrap_p_value(np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p_value(-np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p_value(np.zeros(99)) == 1
    assert bootstrap_p_value(np.array([np.nan, np.nan])) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(0, 1), st.none(), st.just(math.nan)), max_size=7), st.floats(0.001, 0.999))
def test_holm_rejects_what_its_definition_rejects(p_values, alpha):
    adjusted = holm(p_values)
    family = [p for p in p_values if p is not None and not math.isnan(p)]
    for p, value in zip(p_values, adjusted, strict=True):
        assert (value is None) == (p is None or math.isnan(p))
        if value is None or abs(value - alpha) < 1e-9:
            continue
        # Step down: p is rejected if every p value up to it passes its own step.
        steps = [q <= alpha / (len(family) - rank) for rank, q in enumerate(sorted(family)) if q <= p]
        assert (value <= alpha) == all(steps)


@pytest.mark.parametrize(
    ("group_variance", "margin", "degrees_of_freedom", "noise"),
    [(4e-4, 0.02, 499, 0.0), (2e-4, 0.02, 4, 0.0), (4e-5, 0.15, 4, 1.86e-4)],
    ids=["people alone", "folds by chance", "noise of training"],
)
def test_groups_needed_have_the_stated_power(group_variance, margin, degrees_of_freedom, noise):
    """Simulated: with that many people the verdict's test finds the margin in 80 % of studies."""
    differences = np.array([0.04, -0.05, 0.01, 0.0, 0.02])  # s^2 / F = 2.26e-4
    test = dataclasses.replace(corrected_t_test(differences, group_variance, 500), difference=0.004)
    more = groups_needed(test, 500, margin, alpha=0.05, num_tests=10)
    assert more is not None
    assert math.inf > more == float(f"{more:.1e}") > 0  # two significant digits
    rng = np.random.default_rng(0)
    of_people = (max(group_variance, 2.26e-4) - noise) * 500 / (500 + more)
    standard_error = math.sqrt(2.25 * (noise + of_people))
    estimates = rng.normal(margin, standard_error, 20_000)
    spread = rng.chisquare(degrees_of_freedom, 20_000) / degrees_of_freedom
    critical = stats.t.isf(0.05 / 10 / 2, degrees_of_freedom)
    power = (estimates / (standard_error * np.sqrt(spread)) > critical).mean()
    assert power == pytest.approx(0.8, abs=0.02)


def test_groups_needed_at_the_edges():
    noisy = corrected_t_test(np.array([0.04, -0.05, 0.01, 0.0, 0.02]), 4e-5, 500)
    assert groups_needed(noisy, 500, margin=0.02, alpha=0.05, num_tests=10) == math.inf
    assert groups_needed(noisy, 500, margin=10.0, alpha=0.05, num_tests=10) == 0
    assert groups_needed(corrected_t_test(np.full(5, 0.1)), 500, margin=0.0, alpha=0.05, num_tests=1) == 0
    assert groups_needed(corrected_t_test(np.zeros(5)), 500, margin=0.0, alpha=0.05, num_tests=1) is None
    assert groups_needed(corrected_t_test(np.array([0.1])), 500, margin=0.02, alpha=0.05, num_tests=1) is None


def compare(candidate, baseline, *arguments, **options):
    """A family of one comparison."""
    both = {"baseline": baseline, "candidate": candidate}
    return compare_all(both, "baseline", *arguments, **options)["candidate"]


def shifted(cohort, *, by):
    """Logits for the true class that differ a little between the folds; `by` makes a config better in all."""
    strength = by + 0.01 * cohort.folds
    return (strength[:, None] * np.eye(2)[cohort.labels])[None]


def test_verdicts():
    coarse, cohort = make_study(num_people=60)
    weak, strong = shifted(cohort, by=0.2), shifted(cohort, by=2.0)
    configs = {"strong": strong, "baseline": weak, "same": weak, "noise": coarse}
    result = compare_all(configs, "baseline", cohort, "log_loss", BOOTSTRAP, margin=0.02)
    assert list(result) == ["strong", "same", "noise"]
    # A smaller loss is better.
    assert result["strong"].difference.value < 0
    assert result["strong"].verdict == "better"
    assert result["same"].verdict == "no difference that matters (within ±0.02)"
    assert (result["same"].difference.value, result["same"].p_value, result["same"].p_bootstrap) == (0, 1, 1)
    swapped = compare(weak, strong, cohort, "log_loss", BOOTSTRAP, margin=0.02)
    assert swapped.verdict == "worse"
    assert swapped.difference.value == pytest.approx(-result["strong"].difference.value)
    other = make_study(60, seed=1)[0]
    accuracy = compare(coarse, other, cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert (
        accuracy.verdict
        == f"no detectable difference (about {accuracy.groups_needed} more people would be needed to tell)"
    )
    assert accuracy.groups_needed > 0
    resampled, tested = accuracy.difference, accuracy.tested
    assert tested.low < resampled.low < resampled.value == tested.value < resampled.high < tested.high
    alone = compare(coarse, other, Cohort(cohort.labels, None, cohort.folds), "accuracy", BOOTSTRAP, margin=0.02)
    assert "more images would" in alone.verdict
    wrong, right = -np.eye(2)[cohort.labels][None], np.eye(2)[cohort.labels][None]
    assert compare(right, wrong, cohort, "accuracy", BOOTSTRAP, margin=0.02).verdict == "better"
    record = accuracy.record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["difference_low"], record["t_high"]) == (resampled.low, tested.high)


def test_noise_of_training_asks_for_seeds():
    """Every member is far from its neighbours, its people all alike: people cannot tell."""
    _, cohort = make_study(num_people=60)
    steady = shifted(cohort, by=1.0)
    noisy = steady * np.array([1.6, 0.7, 1.3, 0.6, 1.2])[cohort.folds][:, None]
    result = compare(noisy, steady, cohort, "log_loss", BOOTSTRAP, margin=0.02)
    assert result.verdict == "no detectable difference (more seeds would be needed to tell)"
    assert result.groups_needed is None
    assert result.p_value == pytest.approx(result.p_folds)


def verdict_test(candidate, baseline, cohort, bootstrap):
    both = candidate, baseline
    differences = np.subtract(*(member_scores(x, cohort, "accuracy").mean(axis=1) for x in both))
    replicates = np.subtract(*(resampled_scores(x, cohort, "accuracy", bootstrap) for x in both))
    return corrected_t_test(differences, replicates.var(), cohort.num_groups), corrected_t_test(differences)


def test_equivalence_is_two_one_sided_tests():
    """The margin just holds, or just does not hold, the 90 % interval of the verdict's test."""
    logits, cohort = make_study(60)
    other, bootstrap = make_study(60, seed=1)[0], Bootstrap(50, 0.95)
    edge = np.abs(verdict_test(other, logits, cohort, bootstrap)[0].bounds(0.9)).max()
    for margin, words in ((edge + 1e-6, "no difference that matters"), (edge - 1e-6, "no detectable difference")):
        assert compare(other, logits, cohort, "accuracy", bootstrap, margin=margin).verdict.startswith(words)


def test_the_family_is_adjusted_and_seeds_may_differ():
    baseline, cohort = make_study(60, num_seeds=3)
    others = {f"config {i}": make_study(60, seed=i, right=0.8)[0] for i in range(1, 4)}
    both = {"baseline": baseline, **others}
    result = compare_all(both, "baseline", cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert [r.p_holm for r in result.values()] == pytest.approx(holm([r.p_value for r in result.values()]))
    single = compare(others["config 1"], baseline, cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert single.p_holm == single.p_value == result["config 1"].p_value
    test, on_folds = verdict_test(others["config 1"], baseline, cohort, BOOTSTRAP)
    assert test.standard_error != on_folds.standard_error
    assert (single.standard_error, single.p_value, single.p_folds) == pytest.approx(
        (test.standard_error, test.p_value, on_folds.p_value)
    )
    assert (single.tested.low, single.tested.high) == pytest.approx(test.bounds(0.95))


def test_undefined_metric_has_no_verdict():
    logits, cohort = make_study()
    of_one_class = Cohort(np.zeros_like(cohort.labels), cohort.groups, cohort.folds)
    result = compare(logits, logits, of_one_class, "roc_auc", BOOTSTRAP, margin=0.02)
    assert result.verdict == "not comparable: the metric is undefined"
    assert {value for name, value in result.record().items() if name != "verdict"} == {None}


def binomial_bound(probability, num_trials):
    """Four standard deviations above: what a share of this probability exceeds once in thirty thousand runs."""
    return probability + 4 * math.sqrt(probability * (1 - probability) / num_trials)


def test_fold_test_holds_its_level_where_the_naive_one_does_not():
    """Two exchangeable configs with more features than 40 people can teach: the training sets matter most here."""
    rng = np.random.default_rng(0)
    corrected, naive = [], []
    for _ in range(10):
        margins, labels, _ = simulate(rng, 100, 2, num_people=50, num_features=40)
        of_folds, of_people = fold_differences_and_variances(margins * labels > 0)
        for differences, variance in zip(of_folds[:, 0], of_people[:, 0], strict=True):
            tests = corrected_t_test(differences), corrected_t_test(differences, variance, 50)
            corrected.append([test.p_value < 0.05 for test in tests])
            naive.append(differences.std() > 0 and stats.ttest_1samp(differences, 0).pvalue < 0.05)
    assert np.mean(corrected, axis=0).max() < binomial_bound(0.05, 1000)
    assert np.mean(naive) > binomial_bound(0.05, 1000)


def p_values_with_training_noise(rng, num_studies, noise, overlap):
    """Two equal configs whose mean difference varies by 1 over people and by `noise` over trainings, 100 people.

    Overlapping training sets multiply what people contribute to the true variance by `overlap`, at most 1 + 5 / 4;
    no fold sees that.

    Returns:
      p of the verdict's test, of the fold test, by the people's variance alone, and as the verdict's but with
      Satterthwaite's degrees of freedom for people and excess as two independent parts [num_studies, 4].
    """
    in_all_folds = rng.normal(0, math.sqrt(overlap - 1), (num_studies, 1))
    folds = in_all_folds + rng.normal(0, math.sqrt(NUM_FOLDS * (1 + noise)), (num_studies, NUM_FOLDS))
    people = rng.chisquare(99, num_studies) / 99
    p_values = []
    for differences, variance in zip(folds, people, strict=True):
        test = corrected_t_test(differences, variance, 100)
        excess = max(0, test.standard_error**2 / 2.25 - variance)
        satterthwaite = (variance + excess) ** 2 / (variance**2 / 99 + excess**2 / 4)
        ratio = abs(test.difference) / test.standard_error
        alone = 2 * stats.t.sf(abs(test.difference) / math.sqrt(2.25 * variance), 99)
        on_folds = corrected_t_test(differences).p_value
        p_values.append([test.p_value, on_folds, alone, 2 * stats.t.sf(ratio, satterthwaite)])
    return np.array(p_values)


def test_noise_of_training_does_not_become_a_finding():
    p_values = p_values_with_training_noise(np.random.default_rng(0), 1500, noise=7, overlap=2.0)
    for level in (0.05, 0.005):
        found = (p_values < level).mean(axis=0)
        assert found[0] < binomial_bound(level, 1500)
        assert found[2] > binomial_bound(level, 1500)  # people alone know nothing of it


@pytest.mark.slow
def test_level_for_any_share_of_training_noise():
    num_studies = 8000
    rng = np.random.default_rng(2)
    print("\nerror at 5 % and 0.5 %: verdict's test, fold test, people's variance alone, Satterthwaite")
    for noise in (0, 0.5, 2, 7, 30):
        p_values = p_values_with_training_noise(rng, num_studies, noise, overlap=2.0)
        found = {level: (p_values < level).mean(axis=0) for level in (0.05, 0.005)}
        print(f"  noise of training {noise:>4} x people's:", *(np.round(shares, 4) for shares in found.values()))
        for level, shares in found.items():
            assert shares[0] < binomial_bound(level, num_studies)
        # At the hardest step of a family of ten Satterthwaite's degrees of freedom err more.
        if 2 <= noise <= 7:
            assert found[0.005][3] > found[0.005][0]


@pytest.mark.slow
@pytest.mark.parametrize(("num_people", "num_features"), [(50, 20), (100, 20), (100, 60), (300, 20)])
def test_false_positives_under_a_true_null(num_people, num_features):
    """How often each test at 5 % finds a difference between two configs that are equal by symmetry."""
    num_studies, chunk = 2000, 100
    rng = np.random.default_rng(0)
    names = ("verdict's test", "corrected fold test", "fold t-test", "paired bootstrap", "McNemar")
    found, covered, values = [], [], []
    for _ in range(num_studies // chunk):
        margins, labels, truth = simulate(rng, chunk, 2, num_people=num_people, num_features=num_features)
        for of_study in margins:
            logits, cohort = as_study(of_study, labels)
            result = compare(logits[1], logits[0], cohort, "accuracy", BOOTSTRAP, margin=0.02)
            score = score_config(logits[0], cohort, "accuracy", BOOTSTRAP).mean
            right = of_study * labels > 0
            folds = right[1].mean(axis=-1) - right[0].mean(axis=-1)
            naive = stats.ttest_1samp(folds, 0).pvalue if folds.std() > 0 else 1.0
            only = [(right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum()]
            by_image = stats.binomtest(int(min(only)), int(sum(only))).pvalue if sum(only) else 1.0
            found.append([p < 0.05 for p in (result.p_value, result.p_folds, naive, result.p_bootstrap, by_image)])
            covered.append((score.low, score.high))
        values.append(truth[:, 0])
    shares = dict(zip(names, np.mean(found, axis=0), strict=True))
    expected = np.mean(values)
    low, high = np.array(covered).T
    coverage = ((low <= expected) & (expected <= high)).mean()
    print(
        f"\n{num_people} people, {num_features} features, accuracy {expected:.3f}, {num_studies} studies, error at 5 %:"
    )
    print("  " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    print(f"  95 % interval of a score covers the expected score in {coverage:.3f}")
    assert shares["verdict's test"] < binomial_bound(0.05, num_studies)
    assert shares["corrected fold test"] < binomial_bound(0.05, num_studies)
    assert shares["McNemar"] > binomial_bound(0.05, num_studies)
    assert shares["fold t-test"] > shares["corrected fold test"]
    assert coverage > 0.83


@pytest.mark.slow
@pytest.mark.parametrize(("num_people", "num_studies"), [(100, 2000), (3000, 1000)])
def test_false_positives_under_noisy_training(num_people, num_studies):
    """Two equal configs whose members' accuracies jitter by 0.03: the people's variance alone takes noise for news."""
    rng = np.random.default_rng(3)
    chunk = 2000 // num_people * 5 or 5
    found = []
    for _ in range(num_studies // chunk):
        margins, labels, _ = simulate(rng, chunk, 2, num_people=num_people)
        of_folds, of_people = fold_differences_and_variances(with_training_noise(rng, margins * labels > 0, 0.03))
        for differences, variance in zip(of_folds[:, 0], of_people[:, 0], strict=True):
            test, on_folds = corrected_t_test(differences, variance, num_people), corrected_t_test(differences)
            alone = 2 * stats.t.sf(abs(test.difference) / math.sqrt(2.25 * variance), num_people - 1)
            found.append([p < level for level in (0.05, 0.005) for p in (test.p_value, on_folds.p_value, alone)])
    shares = np.mean(found, axis=0)
    print(
        f"\n{num_people} people, members jitter by 0.03, error of verdict's test, fold test, people's variance alone:"
    )
    print(f"  at 5 % {np.round(shares[:3], 4)}, at 0.5 % {np.round(shares[3:], 4)}")
    assert shares[:2].max() < binomial_bound(0.05, num_studies)
    assert shares[3:5].max() < binomial_bound(0.005, num_studies)
    if num_people == 3000:
        assert shares[2] > 0.3


@pytest.mark.slow
def test_family_wise_error_and_power_with_ten_experiments():
    """A baseline and ten experiments: all equal by symmetry, then one of them really better."""
    num_studies, chunk = 1000, 50
    rng = np.random.default_rng(1)
    names = ("verdict's test", "corrected fold test", "people's variance alone")
    print()
    for signal in (1.0, 1.3, 1.6):
        with_holm, without, alone, in_family, gain = [], [], [], [], []
        is_null = np.array([True] * 9 + [signal == 1])
        for _ in range(num_studies // chunk):
            margins, labels, truth = simulate(rng, chunk, 11, signals=[1.0] * 10 + [signal])
            gain.append(truth[:, 10].mean() - truth[:, 0].mean())
            for of_folds, of_people in zip(*fold_differences_and_variances(margins * labels > 0), strict=True):
                tests = [corrected_t_test(f, v, 100) for f, v in zip(of_folds, of_people, strict=True)]
                differences = np.array([test.difference for test in tests])
                p_values = np.array(
                    [
                        [test.p_value for test in tests],
                        [corrected_t_test(f).p_value for f in of_folds],
                        2 * stats.t.sf(np.abs(differences) / np.sqrt(2.25 * of_people), 99),
                    ]
                )
                adjusted = np.array([holm(of_test) for of_test in p_values])
                with_holm.append((adjusted[:, is_null] < 0.05).any(axis=1))
                without.append((p_values[:, is_null] < 0.05).any(axis=1))
                alone.append(p_values[:, 9] < 0.05)
                in_family.append(adjusted[:, 9] < 0.05)
        print(f"one experiment better by {np.mean(gain):+.3f}")
        results = [np.mean(shares, axis=0) for shares in (alone, in_family, with_holm, without)]
        for name, found, found_in_family, errors, errors_without in zip(names, *results, strict=True):
            print(
                f"  {name}: found alone {found:.3f}, in the family of ten {found_in_family:.3f}; "
                f"false finds with Holm {errors:.3f}, without {errors_without:.3f}"
            )
        assert results[2][:2].max() < binomial_bound(0.05, num_studies)
        if signal == 1.6:
            assert results[0][0] > 0.5
            assert results[1][0] > 0.18 > results[1][1]
