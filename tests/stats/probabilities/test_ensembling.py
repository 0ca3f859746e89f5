import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_simulation import make_study

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import image_log_losses, log_softmax
from fpclass.stats.probabilities.ensembling import (
    average_members,
    cross_fitted_ensemble,
    greedy_weights,
    weighted_average,
)


def test_averages_of_members():
    logits = np.log([[[0.8, 0.2]], [[0.4, 0.6]]]) + np.array([3.0, -7.0])[:, None, None]  # offsets mean nothing
    np.testing.assert_allclose(np.exp(average_members(logits, "probabilities")), [[0.6, 0.4]])
    odds = math.sqrt(4 * 2 / 3)
    np.testing.assert_allclose(np.exp(average_members(logits, "logits")), [[odds / (1 + odds), 1 / (1 + odds)]])
    with pytest.raises(ValueError, match="median"):
        average_members(logits, "median")


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_extreme_logits_stay_finite(how):
    logits = np.array([[[2000.0, -2000.0]], [[2000.0, -1000.0]]])
    assert np.isfinite(average_members(logits, how)).all()


def random_configs(num_configs, seed, num_images=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    signal = np.eye(3)[labels]
    return {f"c{i}": log_softmax(rng.normal(size=(num_images, 3)) + signal) for i in range(num_configs)}, labels


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from(["probabilities", "logits"]), st.integers(1, 12))
def test_greedy_weights_are_those_of_the_definition(num_configs, seed, average, max_rounds):
    """The slow way: the multiset of names, averaged anew for every candidate."""
    configs, labels = random_configs(num_configs, seed)

    def loss(names):
        stacked = np.stack([configs[name] for name in names])
        mean = np.log(np.exp(stacked).mean(axis=0)) if average == "probabilities" else stacked.mean(axis=0)
        return image_log_losses(mean, labels).mean()

    picked = []
    for _ in range(max_rounds):
        losses = {name: loss([*picked, name]) for name in configs}
        best = min(losses, key=losses.__getitem__)
        if picked and losses[best] >= loss(picked) - 1e-12:
            break
        picked.append(best)
    weights = greedy_weights(configs, labels, average=average, max_rounds=max_rounds)
    assert list(weights) == list(configs)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights == pytest.approx({name: picked.count(name) / len(picked) for name in configs})
    combined = weighted_average(configs, weights, average)
    assert image_log_losses(combined, labels).mean() == pytest.approx(loss(picked))
    np.testing.assert_allclose(np.exp(combined).sum(axis=1), 1)


def test_greedy_ties_go_to_the_earlier_name_and_other_metrics_count():
    configs, labels = random_configs(1, seed=0)
    same = configs["c0"]
    assert greedy_weights({"first": same, "second": same}, labels) == {"first": 1, "second": 0}
    # Right but unsure has the better accuracy, surer but wrong once the better log-loss.
    unsure = log_softmax(0.01 * np.eye(3)[labels])
    sure = 3 * np.eye(3)[labels]
    sure[0] = np.roll(0.1 * np.eye(3)[labels[0]], 1)
    both = {"sure": log_softmax(sure), "unsure": unsure}
    assert greedy_weights(both, labels, metric="accuracy", max_rounds=1)["unsure"] == 1
    assert greedy_weights(both, labels, metric="log_loss", max_rounds=1)["sure"] == 1
    with pytest.raises(ValueError, match="max_rounds"):
        greedy_weights(both, labels, max_rounds=0)


def test_ensemble_weights_of_a_fold_come_from_the_others():
    configs = {f"c{i}": make_study(num_people=60, num_seeds=2, seed=i)[0] for i in range(4)}
    _, cohort = make_study(num_people=60)
    labels, folds = cohort.labels, cohort.folds
    ensemble = cross_fitted_ensemble(configs, cohort)
    averaged = {name: average_members(logits, "probabilities") for name, logits in configs.items()}
    assert ensemble.weights == greedy_weights(averaged, labels)
    for fold, weights in enumerate(ensemble.weights_per_fold):
        here = folds == fold
        assert weights == greedy_weights({name: v[~here] for name, v in averaged.items()}, labels[~here])
        expected = weighted_average(averaged, weights, "probabilities")[here]
        np.testing.assert_allclose(ensemble.log_probabilities[here], expected)
    # The labels of a fold may change: its own weights do not.
    flipped = cross_fitted_ensemble(configs, Cohort(np.where(folds == 2, 1 - labels, labels), cohort.groups, folds))
    assert flipped.weights_per_fold[2] == ensemble.weights_per_fold[2]
    assert flipped.weights_per_fold != ensemble.weights_per_fold


def test_cross_fitting_needs_two_folds():
    logits, cohort = make_study()
    with pytest.raises(DataError, match="two folds"):
        cross_fitted_ensemble({"a": logits}, cohort.with_folds(0 * cohort.folds))
