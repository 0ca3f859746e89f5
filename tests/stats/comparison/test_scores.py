import itertools

import numpy as np
import pytest
from scipy import special, stats
from study_simulation import NUM_FOLDS, make_study

from fpclass.errors import DataError
from fpclass.stats.bounds import wilson_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import (
    Noise,
    inflation,
    member_scores,
    resample_scores,
    score_config,
    training_noise,
)
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import compute_metrics
from fpclass.stats.weighted_metrics import OVERALL_METRICS


@pytest.mark.parametrize("metric", OVERALL_METRICS)
def test_members_are_scored_on_their_own_folds(metric):
    logits, cohort = make_study(num_seeds=2)
    scores = member_scores(logits, cohort, metric)
    assert scores.shape == (NUM_FOLDS, 2)
    for fold, seed in itertools.product(range(NUM_FOLDS), range(2)):
        here = cohort.folds == fold
        expected = compute_metrics(logits[seed][here], cohort.labels[here], "ab")[metric]
        assert scores[fold, seed] == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss"])
def test_replicates_are_means_over_members_of_drawn_people(metric):
    """The same the slow way: copy the images of the drawn people, score every member, take the mean."""
    logits, cohort = make_study(num_people=20, num_seeds=1)
    bootstrap, labels = Bootstrap(20, 0.95, seed=3), cohort.labels
    replicates = resample_scores(logits, cohort, metric, bootstrap).replicates
    weights = np.concatenate(list(bootstrap.weights(cohort, within_classes=metric == "roc_auc")))
    num_left_out = 0
    for replicate, row in zip(replicates, weights.astype(int), strict=True):
        scores = []
        for fold in range(NUM_FOLDS):
            here = np.arange(len(labels)).repeat(row * (cohort.folds == fold))
            scores.append(compute_metrics(logits[0][here], labels[here], "ab")[metric] if len(here) else None)
        num_left_out += scores.count(None)
        assert replicate == pytest.approx(np.mean([score for score in scores if score is not None]))
    assert num_left_out > 0


def test_replicates_leave_the_seeds_as_they_are():
    """Two seeds, one always right and one always wrong: their noise is counted apart, once."""
    _, cohort = make_study()
    right = np.eye(2)[cohort.labels]
    fold_scores = resample_scores(np.stack([right, -right]), cohort, "accuracy", Bootstrap(50, 0.95)).folds
    np.testing.assert_allclose(fold_scores[~np.isnan(fold_scores)], 0.5)


def test_replicates_are_paired_across_configs():
    first, cohort = make_study(num_seeds=3)
    flipped = first + np.array([0.0, 1e-9])  # another config that happens to decide the same
    bootstrap = Bootstrap(50, 0.95, seed=7)
    one = resample_scores(first, cohort, "accuracy", bootstrap).replicates
    np.testing.assert_array_equal(one, resample_scores(flipped, cohort, "accuracy", bootstrap).replicates)
    assert (one != resample_scores(first, cohort, "accuracy", Bootstrap(50, 0.95, seed=8)).replicates).any()


def test_score_of_a_config():
    logits, cohort = make_study(num_seeds=2)
    bootstrap = Bootstrap(300, 0.9)
    score = score_config(logits, cohort, "accuracy", bootstrap)
    members = member_scores(logits, cohort, "accuracy")
    assert (score.mean.value, score.sd, score.num_members) == (members.mean(), members.std(ddof=1), 10)
    # By hand: 40 people in 5 folds of 2 seeds, which tell of the noise within the folds.
    of_people = resample_scores(logits, cohort, "accuracy", bootstrap).replicates.var() * 40 / 37.5 * 5 / 4
    noise = members.var(axis=1, ddof=1).sum() / 2 / 25
    assert members.mean(axis=1).var(ddof=1) / 5 - of_people * 4 / 5 < noise, "the folds differ no more than that"
    freedom = (of_people + noise) ** 2 / (of_people**2 / 37.5 + noise**2 / 5)
    value = score.mean.value
    half_width = stats.t.ppf(0.95, freedom) * np.sqrt(of_people + noise) / (value * (1 - value))
    bounds = special.expit(special.logit(value) + np.array([-1, 1]) * half_width)
    assert (score.mean.low, score.mean.high) == pytest.approx(bounds)
    assert list(score.record().values()) == [score.mean.value, score.sd, score.mean.low, score.mean.high, 10]
    certain = score_config(np.eye(2)[cohort.labels][None], cohort, "roc_auc", Bootstrap(50, 0.95)).mean
    # Rests on the 20 people of the smaller class.
    assert (certain.low, certain.high) == pytest.approx(wilson_bounds(20, 20, 0.95))


def test_inflation_resamples_people_for_both():
    grouped, cohort = make_study(num_people=100, num_seeds=3, right=0.7)
    images, bootstrap = np.arange(len(cohort)), Bootstrap(400, 0.95)
    leaking = np.where(images[:, None] % 4 == 0, 3 * np.eye(2)[cohort.labels], grouped)
    result = inflation(leaking, images % NUM_FOLDS, grouped, cohort, "accuracy", bootstrap)
    difference = result.difference
    assert difference.value == pytest.approx(result.random - result.grouped)
    assert 0 < difference.low < difference.value < difference.high
    same = inflation(grouped, cohort.folds, grouped, cohort, "accuracy", bootstrap).difference
    assert same.value == 0
    assert same.low == -same.high, "nothing differs but, with one seed, what training may have done to the folds"


def test_the_noise_of_training_widens():
    """Members of one config differ in skill: people alone would not tell."""
    still, cohort = make_study(num_people=200, num_seeds=3, right=0.8)
    rng = np.random.default_rng(1)
    sign = 2 * np.eye(2)[cohort.labels] - 1
    noisy = np.stack([sign * np.where(rng.random(400) < (0.95, 0.8, 0.65)[s], 1, -1)[:, None] for s in range(3)])
    widths = []
    for logits in (still, noisy):
        mean = score_config(logits, cohort, "accuracy", Bootstrap(200, 0.95)).mean
        widths.append(mean.high - mean.low)
    assert widths[1] > 1.5 * widths[0]
    # Of several seeds those within the folds count; of one what the folds differ by.
    scores = np.array([[0.7, 0.8, 0.9], [0.7, 0.8, 0.9]])
    assert training_noise(scores, 0.0) == Noise(pytest.approx(2 * 0.01 / 3 / 4), 4)
    assert training_noise(scores[:, :1] + np.array([[0.0], [0.1]]), 1e-3) == Noise(
        pytest.approx(0.005 / 2 - 1e-3), 1, is_all=True
    )
    assert training_noise(scores[:, :1], 1e-3) == Noise(0.0, np.inf)
    apart = scores + np.array([[0.0], [0.2]])
    assert not training_noise(apart, 0.0).is_all
    assert training_noise(apart, 0.0, floor=True) == Noise(pytest.approx(0.02 / 2), 1, is_all=True)


def test_what_does_not_fit_is_refused():
    logits, cohort = make_study()
    for bad in (logits[0], logits[:, 1:], logits[:0]):
        with pytest.raises(ValueError, match="are not"):
            member_scores(bad, cohort, "accuracy")
    with pytest.raises(ValueError, match="are not"):
        member_scores(logits[:, :0], Cohort([]), "accuracy")
    logits[0, 3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        member_scores(logits, cohort, "accuracy")


def test_members_of_one_loss_have_no_interval():
    labels = np.arange(80) % 2
    cohort = Cohort(labels, None, np.arange(80) // 2 % 5)
    logits = 6 * np.eye(2)[labels][None]
    assert score_config(logits, cohort, "log_loss", Bootstrap(200, 0.95)).mean.low is None
    assert score_config(logits, cohort, "accuracy", Bootstrap(200, 0.95)).mean.low == pytest.approx(0.954, abs=1e-3)
