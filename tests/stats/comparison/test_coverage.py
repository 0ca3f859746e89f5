"""How often intervals hold the truth, how often tests err and what they find, in studies with known truth.

pytest -m slow tests/stats/comparison/test_coverage.py -s -n 0 prints the tables of docs/statistics.md.
"""

import math

import numpy as np
import pytest
from scipy import stats
from study_simulation import (
    NUM_FOLDS,
    as_study,
    fold_differences_and_variances,
    make_study,
    people_study,
    simulate,
    with_training_noise,
)

from fpclass.stats.bounds import Support
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.family import family_p_values, holm
from fpclass.stats.comparison.scores import inflation, resample_configs, score_config
from fpclass.stats.comparison.selection import cross_fitted_choice
from fpclass.stats.comparison.verdicts import compare_all, corrected_t_test, fold_t_test
from fpclass.stats.intervals import Bootstrap, metric_bounds

BOOTSTRAP = Bootstrap(200, 0.95)


def binomial_bound(probability, num_trials):
    """Four standard deviations above: what a share of this probability exceeds once in thirty thousand runs."""
    return probability + 4 * math.sqrt(probability * (1 - probability) / num_trials)


def covers(interval, truth):
    """Whether it holds the truth; nan where there is none, as of six people one of whom has nearly all images."""
    return math.nan if interval[0] is None else interval[0] <= truth <= interval[1]


# One trained network, judged on people with several images.


def coverage_of_a_network(rng, num_people, accuracy, alike, num_studies, *, unequal):
    """Shares of studies whose interval, and whose percentile interval, hold the accuracy on a random image."""
    found = []
    for _ in range(num_studies):
        sizes = np.minimum(1 + rng.geometric(1 / 8, num_people), 60) if unequal else np.full(num_people, 10)
        people = np.arange(num_people).repeat(sizes)
        skill = rng.beta(alike * accuracy, alike * (1 - accuracy), num_people)[people]
        is_right, labels = rng.random(len(people)) < skill, people % 2
        cohort = Cohort(labels, people)
        logits = np.eye(2)[np.where(is_right, labels, 1 - labels)]
        weights = np.concatenate(list(BOOTSTRAP.weights(cohort)))
        percentiles = np.quantile(weights @ is_right / weights.sum(axis=1), [0.025, 0.975])
        bounds = metric_bounds(logits, cohort, BOOTSTRAP, ["accuracy"])["accuracy"]
        found.append([covers(bounds, accuracy), covers(percentiles, accuracy)])
    return np.nanmean(found, axis=0)


def test_intervals_hold_with_few_people_of_unequal_sizes():
    rng = np.random.default_rng(0)
    ours, percentiles = coverage_of_a_network(rng, 10, 0.66, 3, 400, unequal=True)
    assert 0.92 <= ours <= 0.985
    assert percentiles < 0.92


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_coverage_of_a_network_on_few_and_many_people():
    rng = np.random.default_rng(1)
    print("\n95 % intervals of one trained network: ours, percentiles")
    for accuracy, alike in ((0.66, 3), (0.85, 3), (0.97, 5)):
        for unequal in (False, True):
            for num_people in (6, 15, 30, 100):
                found = coverage_of_a_network(rng, num_people, accuracy, alike, 600, unequal=unequal)
                print(f"  accuracy {accuracy}, {num_people} people, unequal {unequal}: {np.round(found, 3)}")
                assert found[0] > 0.91


# The score of a config: people, overlapping training sets, noise of training.


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("num_seeds", [1, 2, 3, 5])
def test_coverage_of_scores_of_noisy_trainings(num_seeds):
    rng = np.random.default_rng(2)
    print(f"\n{num_seeds} seeds: 95 % interval of a score")
    for num_features, noise in ((5, 0.0), (30, 0.0), (5, 0.5), (30, 0.5), (5, 1.2), (30, 1.5)):
        if not noise and num_seeds > 1:
            continue
        for unequal in (False, True):
            cells = []
            for num_people in (6, 15, 40, 150):
                bounds, truths, deviations = [], [], []
                for _ in range(200):
                    logits, cohort, truth = people_study(
                        rng, num_people, num_seeds, num_features=num_features, noise=noise, unequal=unequal
                    )
                    mean = score_config(logits, cohort, "accuracy", BOOTSTRAP).mean
                    bounds.append((mean.low, mean.high))
                    truths.append(truth.mean())
                    deviations.append(truth.std())
                share = np.nanmean([covers(of_study, np.mean(truths)) for of_study in bounds])
                cells.append(share)
            print(
                f"  {num_features} features, true deviation of members {np.mean(deviations):.3f}, unequal {unequal}: "
                f"6, 15, 40, 150 people {np.round(cells, 3)}"
            )
            assert min(cells) > 0.86
            assert np.mean(cells) > 0.92


# Verdicts.


def family(margins, labels, jitter, num_seeds, rng):
    """Tests of configs 1, 2, … against config 0 of one set of studies: people's covariance by hand, three prints each.

    Yields for every study the p values, and the p values adjusted by Holm and as the family that it is.
    """
    right = np.stack([with_training_noise(rng, margins * labels > 0, jitter) for _ in range(num_seeds)], axis=-2)
    scores = right.mean(axis=-1)  # [R, C, F, S]
    by_person = right.mean(axis=-2).reshape(*right.shape[:3], -1, 3).mean(axis=-1)  # [R, C, F, P]
    per_fold = by_person.shape[-1]
    support = Support(NUM_FOLDS * per_fold, NUM_FOLDS / 2)
    for of_study, people in zip(scores, by_person, strict=True):
        differences = people[1:] - people[:1]
        centred = (differences - differences.mean(axis=-1, keepdims=True)).reshape(len(differences), -1)
        covariance = centred @ centred.T / per_fold**2 / NUM_FOLDS**2 * support.correction
        tests = [fold_t_test(of_study[i + 1], of_study[0], covariance[i, i], support) for i in range(len(differences))]
        p_values, errors = [test.p_value for test in tests], [test.standard_error for test in tests]
        noise = of_study[0].var(axis=1, ddof=1).sum() / num_seeds / NUM_FOLDS**2 if num_seeds > 1 else 0.0
        yield p_values, holm(p_values), family_p_values(p_values, errors, 2.25 * covariance + noise)


def test_verdicts_err_no_more_than_they_say():
    """Equal configs by symmetry, noisy training, and more features than 40 people can teach."""
    rng = np.random.default_rng(0)
    found = []
    for jitter, num_seeds in ((0.0, 1), (0.05, 1), (0.05, 3)):
        for _ in range(4):
            margins, labels, _ = simulate(rng, 50, 3, num_people=50, num_features=40)
            found += [
                [p[0] < 0.05, min(adjusted) < 0.05]
                for p, _, adjusted in family(margins, labels, jitter, num_seeds, rng)
            ]
    alone, anywhere = np.mean(found, axis=0)
    assert alone < binomial_bound(0.05, len(found))
    assert anywhere < binomial_bound(0.05, len(found))


def test_the_naive_fold_test_errs():
    rng = np.random.default_rng(0)
    corrected, naive = [], []
    for _ in range(10):
        margins, labels, _ = simulate(rng, 100, 2, num_people=50, num_features=40)
        for differences in fold_differences_and_variances(margins * labels > 0)[0][:, 0]:
            corrected.append(corrected_t_test(differences).p_value < 0.05)
            naive.append(differences.std() > 0 and stats.ttest_1samp(differences, 0).pvalue < 0.05)
    assert np.mean(corrected) < binomial_bound(0.05, 1000) < np.mean(naive)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_false_positives_and_power_in_a_family_of_ten(num_seeds):
    """A baseline and ten configs: all equal, then the last one really better by 0.10 or so."""
    rng = np.random.default_rng(3)
    print(
        f"\n{num_seeds} seeds: found alone, by Holm, in the family; a false find alone, anywhere by Holm, in the family"
    )
    for num_people, num_features in ((50, 20), (100, 20), (150, 20), (100, 60)):
        for jitter in (0.0, 0.03, 0.07):
            for signal in (1.0, 1.45):
                found, false, gains = [], [], []
                for _ in range(10):
                    margins, labels, truth = simulate(
                        rng, 40, 11, num_people=num_people, num_features=num_features, signals=[1.0] * 10 + [signal]
                    )
                    gains.append(truth[:, 10].mean() - truth[:, 0].mean())
                    for p, by_holm, adjusted in family(margins, labels, jitter, num_seeds, rng):
                        null = slice(0, 9 if signal > 1 else 10)
                        found.append([p[9] < 0.05, by_holm[9] < 0.05, adjusted[9] < 0.05])
                        false.append(
                            [np.mean(np.array(p[null]) < 0.05), min(by_holm[null]) < 0.05, min(adjusted[null]) < 0.05]
                        )
                print(
                    f"  {num_people} people, {num_features} features, jitter {jitter}, gain {np.mean(gains):+.3f}: "
                    f"found {np.round(np.mean(found, axis=0), 3)}, false {np.round(np.mean(false, axis=0), 4)}"
                )
                assert np.mean(false, axis=0).max() < binomial_bound(0.05, len(false))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_level_at_the_worst_overlap_and_any_noise(num_seeds):
    """Normal members whose training sets overlap as much as the correction allows for, and nearly so."""
    rng, num_studies = np.random.default_rng(4), 8000
    print(f"\n{num_seeds} seeds: error at 5 % and 0.5 %, by the share of noise of training and the overlap")
    for overlap in (2.0, 2.25):
        for noise in (0.0, 0.5, 2.0, 7.0, 30.0):
            # In units of the variance of the mean over people; no fold sees what all training sets have in common.
            common = rng.normal(0, math.sqrt(overlap - 1), (num_studies, 1, 1))
            people = rng.normal(0, math.sqrt(NUM_FOLDS), (num_studies, NUM_FOLDS, 1))
            of_seeds = rng.normal(0, math.sqrt(noise * NUM_FOLDS * num_seeds), (num_studies, NUM_FOLDS, num_seeds))
            of_people = rng.chisquare(97, num_studies) / 97
            scores, zeros = common + people + of_seeds, np.zeros((NUM_FOLDS, num_seeds))
            p = np.array(
                [
                    fold_t_test(of_study, zeros, v, Support(100, NUM_FOLDS / 2)).p_value
                    for of_study, v in zip(scores, of_people, strict=True)
                ]
            )
            shares = [(p < level).mean() for level in (0.05, 0.005)]
            print(f"  overlap {overlap}, noise {noise:>4} x people: {np.round(shares, 4)}")
            assert shares[0] < binomial_bound(0.05, num_studies)
            assert shares[1] < binomial_bound(0.005, num_studies) + 0.003


# The leak, and the choice.


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_no_leak_is_seldom_called_one(num_seeds):
    """Predictions that know nobody: the only difference between the two kinds of folds is luck of training."""
    rng, found = np.random.default_rng(5), []
    for study in range(400):
        logits, cohort = make_study(num_people=100, num_seeds=num_seeds, seed=study)
        folds = rng.permutation(cohort.folds)
        both = []
        for of_folds in (folds, cohort.folds):
            right = logits.argmax(axis=-1) == cohort.labels
            jittered = np.empty_like(right)
            for fold in range(NUM_FOLDS):
                rows = of_folds == fold
                jittered[:, rows] = with_training_noise(rng, right[:, rows], 0.05)
            both.append(np.where(jittered[..., None], 1, -1) * (2 * np.eye(2)[cohort.labels] - 1))
        difference = inflation(both[0], folds, both[1], cohort, "accuracy", BOOTSTRAP).difference
        found.append(not difference.low <= 0 <= difference.high)
    print(f"\n{num_seeds} seeds, no leak, members jitter by 0.05: called one in {np.mean(found):.3f}")
    assert np.mean(found) < binomial_bound(0.05, len(found))


@pytest.mark.slow
@pytest.mark.parametrize("num_people", [10, 40])
def test_configs_that_seldom_differ_are_not_taken_to_be_equal(num_people):
    """A candidate that is wrong of 0.05 of the people of whom the baseline, right of 0.9, is right."""
    rng, labels, covered, equal = np.random.default_rng(0), np.arange(num_people) % 2, [], []
    for _ in range(300):
        cohort = Cohort(labels, np.arange(num_people), rng.permutation(num_people) % NUM_FOLDS)
        is_right = rng.random(num_people) > 0.1
        both = {"baseline": is_right, "candidate": is_right & (rng.random(num_people) > 0.05)}
        logits = {name: 2 * np.eye(2)[np.where(right, labels, 1 - labels)][None] for name, right in both.items()}
        resampled = resample_configs(logits, cohort, "accuracy", BOOTSTRAP)
        found = compare_all(resampled, "baseline", margin=0.02)["candidate"]
        covered.append(found.difference.low <= -0.05 * 0.9 <= found.difference.high)
        equal.append(found.verdict.startswith("no difference that matters"))
    print(f"\n{num_people} people: covered {np.mean(covered):.2f}, taken for equal {np.mean(equal):.2f}")
    assert np.mean(covered) > 0.95
    assert np.mean(equal) < binomial_bound(0.05, len(equal))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("num_configs", "num_seeds"), [(2, 1), (4, 1), (4, 3), (10, 1), (10, 3)])
def test_coverage_of_the_choice(num_configs, num_seeds):
    """The interval of the cross-fitted choice among equal, noisy configs."""
    rng, names = np.random.default_rng(6), "abcdefghij"
    for num_people in (40, 100):
        cells = []
        for jitter in (0.0, 0.05, 0.09):
            bounds, values = [], []
            for _ in range(8):
                margins, labels, truth = simulate(rng, 25, num_configs, num_people=num_people)
                signs = np.where(labels > 0, 1.0, -1.0)
                right = [with_training_noise(rng, margins * labels > 0, jitter) for _ in range(num_seeds)]
                for of_study in np.moveaxis(np.where(right, signs, -signs), 1, 0):
                    seeds = [as_study(of_seed, labels) for of_seed in of_study]
                    logits = np.concatenate([of_seed for of_seed, _ in seeds], axis=1)
                    configs = dict(zip(names[:num_configs], logits, strict=True))
                    choice = cross_fitted_choice(resample_configs(configs, seeds[0][1], "accuracy", BOOTSTRAP))
                    bounds.append((choice.cross_fitted.low, choice.cross_fitted.high))
                values.append(truth.mean())
            cells.append(np.mean([covers(of_study, np.mean(values)) for of_study in bounds]))
        print(
            f"\n{num_configs} configs, {num_seeds} seeds, {num_people} people, jitter 0, .05, .09: {np.round(cells, 3)}"
        )
        # Lowest where 40 people choose among ten: what is left of the bias (`test_selection`) is 0.02 to 0.03 there.
        assert min(cells) > 0.86
        assert np.mean(cells) > 0.9
