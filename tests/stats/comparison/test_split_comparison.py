"""Comparisons, choices and scores on one split: members differ by their seeds, and there are no folds to test by."""

import math

import numpy as np
import pytest
from scipy import special, stats

from fpclass.stats.bounds import Support
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import member_scores, resample_configs, resample_scores, score_config
from fpclass.stats.comparison.selection import cross_fitted_choice_in_parts
from fpclass.stats.comparison.verdicts import compare_all, split_t_test
from fpclass.stats.intervals import Bootstrap

BOOTSTRAP = Bootstrap(400, 0.95)


def make_split(right, num_seeds=3, num_people=60, seed=0):
    """Logits [S, N, 2] that are right with this probability, other images with every seed; two images a person."""
    rng = np.random.default_rng(seed)
    people = np.arange(num_people).repeat(2)
    labels = people % 2
    is_right = rng.random((num_seeds, len(labels))) < right
    strength = np.where(is_right, 1, -1) * rng.exponential(size=(num_seeds, len(labels)))
    return strength[..., None] * (2 * np.eye(2)[labels] - 1), Cohort(labels, people)


def test_the_noise_of_seeds_is_added_to_that_of_people():
    candidate, baseline = np.array([0.80, 0.84, 0.88]), np.array([0.70, 0.71, 0.73, 0.74])
    test = split_t_test(candidate, baseline, 4e-3, Support(100))
    of_seeds = [candidate.var(ddof=1) / 3, baseline.var(ddof=1) / 4]
    assert test.difference == pytest.approx(0.84 - 0.72)
    assert test.standard_error == pytest.approx(math.sqrt(4e-3 + sum(of_seeds)))
    satterthwaite = (4e-3 + sum(of_seeds)) ** 2 / (4e-3**2 / 99 + of_seeds[0] ** 2 / 2 + of_seeds[1] ** 2 / 3)
    assert satterthwaite > 10 == test.degrees_of_freedom, "no more than twice those of the seeds"
    # Without people, Welch's test.
    welch = stats.ttest_ind(candidate, baseline, equal_var=False)
    assert split_t_test(candidate, baseline, 0.0, Support(100)).p_value == pytest.approx(welch.pvalue)


def test_one_training_says_nothing_of_others():
    one, two = np.array([0.9]), np.array([0.8, 0.82])
    for candidate, baseline, num_people in ((one, two, 50), (two, one, 50), (two, two, 1)):
        test = split_t_test(candidate, baseline, 1e-4, Support(num_people))
        assert (test.standard_error, test.p_value, test.bounds(0.95)) == (None, None, (None, None))
    assert split_t_test(np.array([math.nan]), two, 1e-4, Support(50)).difference is None
    same = split_t_test(np.full(3, 0.8), np.full(3, 0.8), 0.0, Support(50))
    assert (same.difference, same.p_value) == (0, 1)
    single = {"baseline": make_split(0.6, num_seeds=1)[0], "better": make_split(0.9, num_seeds=1)[0]}
    cohort = make_split(0.6)[1]
    found = compare_all(resample_configs(single, cohort, "accuracy", BOOTSTRAP), "baseline", margin=0.02)["better"]
    assert found.verdict.startswith("not tested: that takes two seeds or more")
    assert (found.p_value, found.p_adjusted) == (None, None)
    assert found.difference.low is not None, "of these trained networks the bootstrap knows"


def test_verdicts_without_folds():
    weak, cohort = make_split(0.6)
    strong, noise = make_split(0.95, seed=1)[0], make_split(0.6, seed=2)[0]
    configs = {"baseline": weak, "strong": strong, "noise": noise}
    found = compare_all(resample_configs(configs, cohort, "accuracy", BOOTSTRAP), "baseline", margin=0.0)
    assert found["strong"].verdict == "better"
    assert found["strong"].p_folds is None, "there are no folds"
    assert found["noise"].verdict.startswith("no detectable difference")
    # The difference is that of the mean scores, its error that of the test by hand.
    scores = [member_scores(logits, cohort, "accuracy")[0] for logits in (strong, weak)]
    drawn = [resample_scores(logits, cohort, "accuracy", BOOTSTRAP).replicates for logits in (strong, weak)]
    by_hand = split_t_test(*scores, (drawn[0] - drawn[1]).var() * 60 / 59, Support(60))
    assert found["strong"].standard_error == pytest.approx(by_hand.standard_error)
    assert found["strong"].difference.value == pytest.approx(scores[0].mean() - scores[1].mean())


def test_the_interval_of_a_score_holds_people_and_seeds():
    logits, cohort = make_split(0.7, num_seeds=2)
    score, scores = score_config(logits, cohort, "accuracy", BOOTSTRAP), member_scores(logits, cohort, "accuracy")
    assert (score.num_members, score.mean.value) == (2, pytest.approx(scores.mean()))
    of_people = resample_scores(logits, cohort, "accuracy", BOOTSTRAP).replicates.var() * 60 / 59
    of_seeds = scores.var(ddof=1) / 2
    freedom = (of_people + of_seeds) ** 2 / (of_people**2 / 59 + of_seeds**2)
    half_width = stats.t.ppf(0.975, freedom) * math.sqrt(of_people + of_seeds)
    value = score.mean.value
    odds = special.logit(value) + np.array([-1, 1]) * half_width / (value * (1 - value))
    assert (score.mean.low, score.mean.high) == pytest.approx(special.expit(odds))


def test_the_choice_is_judged_on_people_who_had_no_say():
    """Configs that are each right about one part of the people: who chooses by all looks too good."""
    cohort = make_split(0.5)[1]
    parts = (cohort.groups // 2) % 5
    signs = 2 * np.eye(2)[cohort.labels] - 1

    def right_in(part):
        return np.where((parts == part)[None, :, None], 1.0, -1.0) * signs[None].repeat(2, axis=0)

    configs = {f"of part {part}": right_in(part) for part in range(5)}
    choice = cross_fitted_choice_in_parts(
        configs, resample_configs(configs, cohort, "accuracy", BOOTSTRAP), parts, BOOTSTRAP
    )
    assert choice.optimistic.value == pytest.approx(0.2)
    assert choice.cross_fitted.value == 0, "where it is right, the others chose another"
    assert len(choice.chosen_per_fold) == 5
    assert choice.optimism == pytest.approx(0.2)
    by_loss = cross_fitted_choice_in_parts(
        configs, resample_configs(configs, cohort, "log_loss", BOOTSTRAP), parts, BOOTSTRAP
    )
    assert by_loss.optimism > 0, "a smaller loss is better"


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize(("noise_of_seeds", "largest"), [(0.0, 0.05), (0.3, 0.07)])
def test_it_errs_as_often_as_it_says(num_seeds, noise_of_seeds, largest):
    """Two equal configs, 100 people with three images; each config has its own people, each training its own images."""
    rng = np.random.default_rng(0)
    p_values, of_groups = [], []
    for _ in range(1000):
        shared = 1 + rng.normal(size=(100, 3))
        accuracies, people = [], []
        for _ in range(2):
            own = rng.normal(0, 0.5, (100, 1)) + rng.normal(0, 0.3, (100, 3))
            noise = rng.normal(0, 0.5, (num_seeds, 100, 3)) + rng.normal(0, noise_of_seeds, (num_seeds, 1, 1))
            right = shared + own + noise > 0
            accuracies.append(right.mean(axis=(1, 2)))
            people.append(right.mean(axis=(0, 2)))
        difference = people[0] - people[1]
        p_values.append(split_t_test(*accuracies, difference.var(ddof=1) / 100, Support(100)).p_value)
        of_groups.append(2 * stats.norm.sf(abs(difference.mean()) * 10 / difference.std()))
    errors = np.array([[np.mean(np.array(p) < level) for p in (p_values, of_groups)] for level in (0.05, 0.005)])
    print(f"\n{num_seeds} seeds, noise {noise_of_seeds}: test {errors[:, 0]}, people alone {errors[:, 1]}")
    assert errors[0, 0] < largest
    if noise_of_seeds:
        assert errors[0, 1] > 0.2, "who forgets the seeds errs often"
