import itertools

import numpy as np
import pytest
from study_simulation import NUM_FOLDS, make_study

from fpclass.errors import DataError
from fpclass.stats import intervals
from fpclass.stats.metrics import compute_metrics
from fpclass.stats.scores import inflation, member_scores, resampled_fold_scores, resampled_scores, score_config


@pytest.mark.parametrize("metric", intervals.OVERALL_METRICS)
def test_members_are_scored_on_their_own_folds(metric):
    logits, labels, folds, _ = make_study(num_seeds=2)
    scores = member_scores(logits, labels, folds, metric)
    assert scores.shape == (NUM_FOLDS, 2)
    for fold, seed in itertools.product(range(NUM_FOLDS), range(2)):
        here = folds == fold
        assert scores[fold, seed] == pytest.approx(compute_metrics(logits[seed][here], labels[here], "ab")[metric])


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss"])
def test_replicates_are_means_over_members_of_drawn_people(metric):
    """The same the slow way: copy the images of the drawn people, score every member, take the mean."""
    logits, labels, folds, units = make_study(num_people=20, num_seeds=1)
    replicates = resampled_scores(logits, labels, folds, units, metric, num_resamples=20, seed=3)
    weights = np.concatenate(list(intervals.group_resamples(intervals.group_codes(units), 20, seed=3)))
    num_left_out = 0
    for replicate, row in zip(replicates, weights.astype(int), strict=True):
        scores = []
        for fold in range(NUM_FOLDS):
            here = np.arange(len(labels)).repeat(row * (folds == fold))
            scores.append(compute_metrics(logits[0][here], labels[here], "ab")[metric] if len(here) else None)
        num_left_out += scores.count(None)
        assert replicate == pytest.approx(np.mean([score for score in scores if score is not None]))
    assert num_left_out > 0


def test_replicates_draw_seeds_too():
    """Two seeds, one always right and one always wrong: the only spread is that of the drawn seeds."""
    _, labels, folds, units = make_study()
    right = np.eye(2)[labels]
    fold_scores = resampled_fold_scores(
        np.stack([right, -right]), labels, folds, units, "accuracy", num_resamples=2000, seed=0
    )
    # All folds have the same seeds in one replicate; with two seeds each is drawn 0, 1 or 2 times.
    spread = np.nanmax(fold_scores, axis=1) - np.nanmin(fold_scores, axis=1)
    assert spread.max() < 1e-12
    shares = np.bincount(np.round(2 * np.nanmax(fold_scores, axis=1)).astype(int)) / 2000
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.04)


def test_replicates_are_paired_across_configs():
    first, labels, folds, units = make_study(num_seeds=3)
    flipped = first + np.array([0.0, 1e-9])  # another config that happens to decide the same
    options = {"num_resamples": 50, "seed": 7}
    one = resampled_scores(first, labels, folds, units, "accuracy", **options)
    np.testing.assert_array_equal(one, resampled_scores(flipped, labels, folds, units, "accuracy", **options))
    assert (one != resampled_scores(first, labels, folds, units, "accuracy", num_resamples=50, seed=8)).any()


def test_score_of_a_config():
    logits, labels, folds, units = make_study(num_seeds=2)
    score = score_config(logits, labels, folds, units, "accuracy", num_resamples=300, confidence=0.9)
    members = member_scores(logits, labels, folds, "accuracy")
    assert (score.mean, score.sd, score.num_members) == (members.mean(), members.std(ddof=1), 10)
    replicates = resampled_scores(logits, labels, folds, units, "accuracy", num_resamples=300)
    assert (score.low, score.high) == pytest.approx(np.quantile(replicates, [0.05, 0.95]))
    certain = score_config(np.eye(2)[labels][None], labels, folds, units, "roc_auc", num_resamples=50, confidence=0.95)
    # Rests on the 20 people of the smaller class.
    assert (certain.low, certain.high) == pytest.approx(intervals.wilson_interval(20, 20, 0.95))


def test_inflation_resamples_people_for_both():
    grouped, labels, folds, units = make_study(num_people=100, right=0.7)
    random_folds = np.arange(len(labels)) % NUM_FOLDS
    leaking = np.where(np.arange(len(labels))[:, None] % 4 == 0, 3 * np.eye(2)[labels], grouped)
    options = {"num_resamples": 400, "confidence": 0.95}
    result = inflation(leaking, random_folds, grouped, folds, labels, units, "accuracy", **options)
    assert result.difference == pytest.approx(result.random - result.grouped)
    assert 0 < result.low < result.difference < result.high
    # Paired: the interval of the difference is narrower than that of either score.
    alone = score_config(grouped, labels, folds, units, "accuracy", **options)
    assert result.high - result.low < alone.high - alone.low
    same = inflation(grouped, folds, grouped, folds, labels, units, "accuracy", **options)
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_what_does_not_fit_is_refused():
    logits, labels, folds, units = make_study()
    with pytest.raises(ValueError, match="are not"):
        member_scores(logits[0], labels, folds, "accuracy")
    with pytest.raises(ValueError, match="without a gap"):
        member_scores(logits, labels, np.where(folds == 1, 2, folds), "accuracy")
    with pytest.raises(ValueError, match="79 units for 80 images"):
        resampled_scores(logits, labels, folds, units[1:], "accuracy", num_resamples=1)
    logits[0, 3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        member_scores(logits, labels, folds, "accuracy")
