import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from study_simulation import make_study

from fpclass.stats.bounds import Support, wilson_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.family import family_p_values, holm
from fpclass.stats.comparison.scores import resample_configs, resample_scores
from fpclass.stats.comparison.verdicts import TTest, compare_all, corrected_t_test, fold_t_test
from fpclass.stats.intervals import Bootstrap

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


def test_fold_t_test_by_hand():
    """The formula of its docstring: several seeds, paired and not, and one."""
    rng = np.random.default_rng(0)
    candidate, baseline = 0.8 + rng.normal(0, 0.03, (5, 3)), 0.75 + rng.normal(0, 0.03, (5, 3))
    of_people, support = 2e-4, Support(41)
    differences = candidate - baseline
    noise = differences.var(axis=1, ddof=1).sum() / 3 / 25
    test = fold_t_test(candidate, baseline, of_people, support)
    assert test.difference == pytest.approx(differences.mean())
    assert test.standard_error == pytest.approx(math.sqrt(2.25 * of_people + noise))
    freedom = (2.25 * of_people + noise) ** 2 / ((2.25 * of_people) ** 2 / 40 + noise**2 / 10)
    assert test.degrees_of_freedom == pytest.approx(freedom)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(test.difference) / test.standard_error, freedom))
    fewer = fold_t_test(candidate, baseline[:, :2], of_people, support)
    apart = [candidate.var(axis=1, ddof=1).sum() / 3 / 25, baseline[:, :2].var(axis=1, ddof=1).sum() / 2 / 25]
    assert fewer.standard_error == pytest.approx(math.sqrt(2.25 * of_people + sum(apart)))
    # One seed: what the folds differ by beyond people, as uncertain as the folds are.
    one = fold_t_test(candidate[:, :1], baseline[:, :1], of_people, support)
    of_folds = differences[:, 0].var(ddof=1) / 5
    assert of_folds > of_people
    assert one.standard_error == pytest.approx(math.sqrt(2.25 * of_people + of_folds - of_people))
    assert one.degrees_of_freedom == 4
    alike = fold_t_test(candidate[:, :1], baseline[:, :1], 2 * of_folds, support)
    assert (alike.standard_error, alike.degrees_of_freedom) == pytest.approx((math.sqrt(4.5 * of_folds), 40))
    assert fold_t_test(candidate, baseline, of_people, Support(1)).p_value is None


def test_corrected_t_test_without_spread():
    none = corrected_t_test(np.full(5, 1e-17))
    assert (none.difference, none.p_value) == (0, 1)
    assert corrected_t_test(np.full(5, 0.1)).p_value == 0
    # Folds that happen to agree prove nothing where people differ.
    agreed = fold_t_test(np.full((5, 1), 0.8), np.full((5, 1), 0.7), 0.2**2, Support(50))
    assert agreed.standard_error == pytest.approx(0.2 * 1.5)
    assert corrected_t_test(np.array([0.1, np.nan, np.nan])).p_value is None
    left_out = corrected_t_test(np.array([0.1, 0.3, np.nan]))
    assert left_out.standard_error == pytest.approx(math.sqrt(0.02 * (1 / 2 + 1 / 2)))


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


def test_alike_comparisons_are_adjusted_less():
    """Between no adjustment, where all are one, and Holm's, where each is another."""
    p_values, errors = [0.004, 0.02, None, 0.3], [1.0, 2.0, None, 1.0]
    outer = np.outer([1, 2, 0, 1], [1, 2, 0, 1])
    apart, alike, one = (family_p_values(p_values, errors, share * outer) for share in (0.0, 0.9, 1.0))
    by_holm = holm(p_values)
    assert apart[2] is None
    for i in (0, 1, 3):
        assert one[i] <= alike[i] <= apart[i] <= by_holm[i]
    # Independent: Sidak's; all one: nothing to adjust.
    assert apart[0] == pytest.approx(1 - (1 - 0.004) ** 3, abs=2e-3)
    assert one[0] == pytest.approx(0.004, abs=1e-3)
    assert alike[0] < 0.8 * by_holm[0]
    # So small that draws cannot tell: Holm's. And what has no error of its own keeps Holm's too.
    assert family_p_values([1e-9, 0.5], [1.0, 1.0], np.zeros((2, 2)))[0] == pytest.approx(2e-9)
    assert family_p_values([0.0, 0.03], [0.0, 1.0], np.zeros((2, 2))) == holm([0.0, 0.03])
    assert family_p_values([], [], np.zeros((0, 0))) == []


def test_detectable_differences_have_the_stated_power():
    """Simulated: the test finds a difference of this size in 80 % of studies."""
    test = TTest(0.01, 0.02, 12.0)
    size = test.detectable(0.05 / 10)
    rng = np.random.default_rng(0)
    spread = rng.chisquare(12, 20_000) / 12
    statistics = rng.normal(size / 0.02, 1, 20_000) / np.sqrt(spread)
    assert (np.abs(statistics) > stats.t.isf(0.05 / 10 / 2, 12)).mean() == pytest.approx(0.8, abs=0.02)
    assert TTest(0.1, None, 0).detectable(0.05) is None


def compare(candidate, baseline, *arguments, **options):
    """A family of one comparison."""
    both = {"baseline": baseline, "candidate": candidate}
    return compare_all(resample_configs(both, *arguments), "baseline", **options)["candidate"]


def shifted(cohort, *, by):
    """Logits for the true class that differ a little between the folds; `by` makes a config better in all."""
    strength = by + 0.01 * cohort.folds
    return (strength[:, None] * np.eye(2)[cohort.labels])[None]


@pytest.mark.parametrize(("num_people", "is_small"), [(10, False), (600, True)])
def test_the_same_answers_of_few_people_are_no_proof_that_there_is_no_difference(num_people, is_small):
    cohort = Cohort(np.arange(num_people) % 2, np.arange(num_people), np.arange(num_people) // 2 % 5)
    weak, strong = shifted(cohort, by=0.2), shifted(cohort, by=2.0)  # all right, and not equally sure
    found = compare(weak, strong, cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert (found.difference.value, found.p_value) == (0, 1)
    low, high = found.difference.low, found.difference.high
    one = wilson_bounds(0, num_people, BOOTSTRAP.confidence)[1]  # of these networks; training sets that overlap add
    assert high == -low == pytest.approx(one * np.sqrt(1 + 5 / 4), rel=0.05)
    assert found.detectable > high
    assert found.verdict.startswith("no difference that matters" if is_small else "no detectable difference")


def test_verdicts():
    coarse, cohort = make_study(num_people=60)
    weak, strong = shifted(cohort, by=0.2), shifted(cohort, by=2.0)
    configs = {"strong": strong, "baseline": weak, "same": weak, "noise": coarse}
    result = compare_all(resample_configs(configs, cohort, "log_loss", BOOTSTRAP), "baseline", margin=0.02)
    assert list(result) == ["strong", "same", "noise"]
    # A smaller loss is better.
    assert result["strong"].difference.value < 0
    assert result["strong"].verdict == "better"
    assert result["same"].verdict == "no difference that matters (within ±0.02)"
    assert (result["same"].difference.value, result["same"].p_value) == (0, 1)
    swapped = compare(weak, strong, cohort, "log_loss", BOOTSTRAP, margin=0.02)
    assert swapped.verdict == "worse"
    assert swapped.difference.value == pytest.approx(-result["strong"].difference.value)
    other = make_study(60, seed=1)[0]
    accuracy = compare(coarse, other, cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert accuracy.verdict == f"no detectable difference (this study would find ±{accuracy.detectable:.3f})"
    assert accuracy.difference.low < accuracy.difference.value < accuracy.difference.high
    wrong, right = -np.eye(2)[cohort.labels][None], np.eye(2)[cohort.labels][None]
    assert compare(right, wrong, cohort, "accuracy", BOOTSTRAP, margin=0.02).verdict == "better"
    record = accuracy.record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["difference_low"] == accuracy.difference.low


def test_better_by_less_than_matters():
    _, cohort = make_study(num_people=400)
    weak, strong = shifted(cohort, by=0.5), shifted(cohort, by=0.515)
    for margin, verdict in ((0.001, "better"), (0.05, "better, by less than matters (within ±0.05)")):
        assert compare(strong, weak, cohort, "log_loss", BOOTSTRAP, margin=margin).verdict == verdict


def test_every_look_costs():
    logits, cohort = make_study(60)
    other = make_study(60, seed=1, right=0.8)[0]
    once, thrice = (
        compare(other, logits, cohort, "accuracy", BOOTSTRAP, margin=0.02, num_looks=looks) for looks in (1, 3)
    )
    assert thrice.p_adjusted == pytest.approx(min(1, 3 * once.p_adjusted))
    assert thrice.p_value == once.p_value
    assert thrice.detectable > once.detectable


def test_noise_of_training_hides_a_difference():
    """Every member is far from its neighbours, its people all alike: people cannot tell."""
    _, cohort = make_study(num_people=60)
    steady = shifted(cohort, by=1.0)
    noisy = steady * np.array([1.6, 0.7, 1.3, 0.6, 1.2])[cohort.folds][:, None]
    result = compare(noisy, steady, cohort, "log_loss", BOOTSTRAP, margin=0.02)
    assert result.verdict.startswith("no detectable difference (this study would find ±0.")
    assert result.detectable > 0.1 > abs(result.difference.value)


def verdict_test(candidate, baseline, cohort, bootstrap):
    both = [resample_scores(x, cohort, "accuracy", bootstrap) for x in (candidate, baseline)]
    scores = [of.members for of in both]
    replicates = both[0].replicates - both[1].replicates
    support = Support(cohort.effective_groups(), cohort.num_folds / 2)
    of_people = replicates.var() * cohort.num_groups / (cohort.num_groups - cohort.num_folds / 2)
    return fold_t_test(*scores, of_people, support), corrected_t_test(np.subtract(*scores).mean(axis=1))


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
    result = compare_all(resample_configs(both, cohort, "accuracy", BOOTSTRAP), "baseline", margin=0.02)
    by_holm = holm([r.p_value for r in result.values()])
    for r, p_holm in zip(result.values(), by_holm, strict=True):
        assert r.p_value <= r.p_adjusted <= p_holm
    assert sum(r.p_adjusted for r in result.values()) < sum(by_holm)
    single = compare(others["config 1"], baseline, cohort, "accuracy", BOOTSTRAP, margin=0.02)
    assert single.p_adjusted == single.p_value == result["config 1"].p_value
    test, on_folds = verdict_test(others["config 1"], baseline, cohort, BOOTSTRAP)
    assert test.standard_error != on_folds.standard_error
    assert (single.standard_error, single.p_value, single.p_folds) == pytest.approx(
        (test.standard_error, test.p_value, on_folds.p_value)
    )
    assert (single.difference.low, single.difference.high) == pytest.approx(test.bounds(0.95))


def test_the_verdict_rests_on_the_p_value_that_is_adjusted_for_the_family():
    other, (logits, cohort) = make_study(60, seed=1)[0], make_study(60)
    p_value = compare(logits, other, cohort, "accuracy", BOOTSTRAP, margin=0.0).p_value
    strict = Bootstrap(BOOTSTRAP.num_resamples, 1 - 1.5 * p_value)  # alpha is between p and two times p
    assert compare(logits, other, cohort, "accuracy", strict, margin=0.0).verdict in ("better", "worse")
    family = {"baseline": other, "candidate": logits, "same": other}
    of_two = compare_all(resample_configs(family, cohort, "accuracy", strict), "baseline", margin=0.0)["candidate"]
    assert of_two.p_value == pytest.approx(p_value)
    assert of_two.verdict.startswith("no detectable difference")


def test_undefined_metric_has_no_verdict():
    logits, cohort = make_study()
    of_one_class = Cohort(np.zeros_like(cohort.labels), cohort.groups, cohort.folds)
    result = compare(logits, logits, of_one_class, "roc_auc", BOOTSTRAP, margin=0.02)
    assert result.verdict == "not comparable: the metric is undefined"
    assert {value for name, value in result.record().items() if name != "verdict"} == {None}
