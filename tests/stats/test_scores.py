import itertools

import numpy as np
import pytest
from study_simulation import NUM_FOLDS, make_study

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, wilson_bounds
from fpclass.stats.metrics import compute_metrics
from fpclass.stats.scores import inflation, member_scores, resampled_fold_scores, resampled_scores, score_config
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
    replicates = resampled_scores(logits, cohort, metric, bootstrap)
    weights = np.concatenate(list(bootstrap.weights(cohort)))
    num_left_out = 0
    for replicate, row in zip(replicates, weights.astype(int), strict=True):
        scores = []
        for fold in range(NUM_FOLDS):
            here = np.arange(len(labels)).repeat(row * (cohort.folds == fold))
            scores.append(compute_metrics(logits[0][here], labels[here], "ab")[metric] if len(here) else None)
        num_left_out += scores.count(None)
        assert replicate == pytest.approx(np.mean([score for score in scores if score is not None]))
    assert num_left_out > 0


def test_replicates_draw_seeds_too():
    """Two seeds, one always right and one always wrong: the only spread is that of the drawn seeds."""
    _, cohort = make_study()
    right = np.eye(2)[cohort.labels]
    fold_scores = resampled_fold_scores(np.stack([right, -right]), cohort, "accuracy", Bootstrap(2000, 0.95))
    # All folds have the same seeds in one replicate; with two seeds each is drawn 0, 1 or 2 times.
    spread = np.nanmax(fold_scores, axis=1) - np.nanmin(fold_scores, axis=1)
    assert spread.max() < 1e-12
    shares = np.bincount(np.round(2 * np.nanmax(fold_scores, axis=1)).astype(int)) / 2000
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.04)


def test_replicates_are_paired_across_configs():
    first, cohort = make_study(num_seeds=3)
    flipped = first + np.array([0.0, 1e-9])  # another config that happens to decide the same
    bootstrap = Bootstrap(50, 0.95, seed=7)
    one = resampled_scores(first, cohort, "accuracy", bootstrap)
    np.testing.assert_array_equal(one, resampled_scores(flipped, cohort, "accuracy", bootstrap))
    assert (one != resampled_scores(first, cohort, "accuracy", Bootstrap(50, 0.95, seed=8))).any()


def test_score_of_a_config():
    logits, cohort = make_study(num_seeds=2)
    bootstrap = Bootstrap(300, 0.9)
    score = score_config(logits, cohort, "accuracy", bootstrap)
    members = member_scores(logits, cohort, "accuracy")
    assert (score.mean.value, score.sd, score.num_members) == (members.mean(), members.std(ddof=1), 10)
    replicates = resampled_scores(logits, cohort, "accuracy", bootstrap)
    assert (score.mean.low, score.mean.high) == pytest.approx(np.quantile(replicates, [0.05, 0.95]))
    assert list(score.record().values()) == [score.mean.value, score.sd, score.mean.low, score.mean.high, 10]
    certain = score_config(np.eye(2)[cohort.labels][None], cohort, "roc_auc", Bootstrap(50, 0.95)).mean
    # Rests on the 20 people of the smaller class.
    assert (certain.low, certain.high) == pytest.approx(wilson_bounds(20, 20, 0.95))


def test_inflation_resamples_people_for_both():
    grouped, cohort = make_study(num_people=100, right=0.7)
    images, bootstrap = np.arange(len(cohort)), Bootstrap(400, 0.95)
    leaking = np.where(images[:, None] % 4 == 0, 3 * np.eye(2)[cohort.labels], grouped)
    result = inflation(leaking, images % NUM_FOLDS, grouped, cohort, "accuracy", bootstrap)
    difference = result.difference
    assert difference.value == pytest.approx(result.random - result.grouped)
    assert 0 < difference.low < difference.value < difference.high
    # Paired: the interval of the difference is narrower than that of either score.
    alone = score_config(grouped, cohort, "accuracy", bootstrap).mean
    assert difference.high - difference.low < alone.high - alone.low
    same = inflation(grouped, cohort.folds, grouped, cohort, "accuracy", bootstrap)
    assert same.difference == Interval(0, 0, 0)


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
