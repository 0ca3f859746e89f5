import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_simulation import as_study, make_study, simulate

from fpclass.stats.metrics import image_log_losses, log_softmax
from fpclass.stats.scores import member_scores, resampled_fold_scores, score_config
from fpclass.stats.selection import (
    average_members,
    choose,
    cross_fitted_choice,
    cross_fitted_ensemble,
    greedy_weights,
    weighted_average,
)

OPTIONS = {"num_resamples": 100, "confidence": 0.95}


def test_the_best_mean_is_chosen():
    scores = {"a": np.array([0.7, 0.8]), "b": np.array([[0.9, np.nan], [0.8, np.nan]]), "c": np.array([0.85])}
    assert choose(scores, "accuracy") == "b"  # a tie with c, b comes first
    assert choose(scores, "log_loss") == "a"
    assert choose({"undefined": np.array([np.nan]), "d": np.array([0.1])}, "roc_auc") == "d"
    with pytest.raises(ValueError, match="no defined roc_auc"):
        choose({"undefined": np.array([np.nan])}, "roc_auc")


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_a_fold_has_no_say_in_its_own_choice(metric):
    """Of two configs one is perfect on fold 0 and poor elsewhere: fold 0 must be scored with the other."""
    logits, labels, folds, units = make_study(num_people=50, num_seeds=2, right=0.8)
    lucky = np.where((folds == 0)[None, :, None], 4 * np.eye(2)[labels], -0.5 * np.eye(2)[labels])
    configs = {"lucky": lucky, "steady": logits}
    result = cross_fitted_choice(configs, labels, folds, units, metric, **OPTIONS)
    assert result.chosen_per_fold[0] == "steady"
    expected = [
        member_scores(configs[name], labels, folds, metric)[fold].mean()
        for fold, name in enumerate(result.chosen_per_fold)
    ]
    assert result.cross_fitted == pytest.approx(np.mean(expected))
    sign = -1 if metric == "log_loss" else 1
    assert result.optimism == pytest.approx(sign * (result.optimistic - result.cross_fitted))


def test_intervals_belong_to_the_composed_predictions():
    _, labels, folds, units = make_study(num_people=50)
    configs = {f"config {i}": make_study(num_people=50, num_seeds=i % 2 + 1, seed=i)[0] for i in range(6)}
    result = cross_fitted_choice(configs, labels, folds, units, "accuracy", **OPTIONS)
    optimistic = score_config(configs[result.chosen], labels, folds, units, "accuracy", **OPTIONS)
    assert (result.optimistic, result.optimistic_low, result.optimistic_high) == pytest.approx(
        (optimistic.mean, optimistic.low, optimistic.high)
    )
    replicates = [
        resampled_fold_scores(configs[name], labels, folds, units, "accuracy", num_resamples=100)[:, fold]
        for fold, name in enumerate(result.chosen_per_fold)
    ]
    bounds = np.quantile(np.nanmean(replicates, axis=0), [0.025, 0.975])
    assert (result.cross_fitted_low, result.cross_fitted_high) == pytest.approx(bounds)
    assert json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))["chosen"] == result.chosen


def test_one_config_is_no_choice():
    logits, *shared = make_study()
    result = cross_fitted_choice({"only": logits}, *shared, "roc_auc", **OPTIONS)
    assert result.chosen_per_fold == ("only",) * 5
    assert result.optimism == 0


def test_cross_fitting_needs_two_folds():
    logits, labels, folds, units = make_study()
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted_choice({"a": logits}, labels, 0 * folds, units, "accuracy", **OPTIONS)
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted_ensemble({"a": logits}, labels, 0 * folds)


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
    _, labels, folds, _ = make_study(num_people=60)
    ensemble = cross_fitted_ensemble(configs, labels, folds)
    averaged = {name: average_members(logits, "probabilities") for name, logits in configs.items()}
    assert ensemble.weights == greedy_weights(averaged, labels)
    for fold, weights in enumerate(ensemble.weights_per_fold):
        here = folds == fold
        assert weights == greedy_weights({name: v[~here] for name, v in averaged.items()}, labels[~here])
        expected = weighted_average(averaged, weights, "probabilities")[here]
        np.testing.assert_allclose(ensemble.log_probabilities[here], expected)
    # The labels of a fold may change: its own weights do not.
    flipped = cross_fitted_ensemble(configs, np.where(folds == 2, 1 - labels, labels), folds)
    assert flipped.weights_per_fold[2] == ensemble.weights_per_fold[2]
    assert flipped.weights_per_fold != ensemble.weights_per_fold


def estimates_and_truth(num_studies, num_configs, seed, num_resamples=0):
    """Errors of the two estimates, each against the exact accuracy of the members that it scores."""
    rng = np.random.default_rng(seed)
    names = [f"config {i}" for i in range(num_configs)]
    optimistic, cross_fitted = [], []
    for _ in range(num_studies // 50):
        margins, labels, truth = simulate(rng, 50, num_configs)
        for of_study, of_members in zip(margins, truth, strict=True):
            logits, *shared = as_study(of_study, labels)
            options = {"num_resamples": num_resamples, "confidence": 0.95}
            result = cross_fitted_choice(dict(zip(names, logits, strict=True)), *shared, "accuracy", **options)
            optimistic.append(result.optimistic - of_members[names.index(result.chosen)].mean())
            composed = [of_members[names.index(name), fold] for fold, name in enumerate(result.chosen_per_fold)]
            cross_fitted.append(result.cross_fitted - np.mean(composed))
    return np.array(optimistic), np.array(cross_fitted)


def test_the_best_of_ten_flatters_itself():
    optimistic, cross_fitted = estimates_and_truth(100, 10, seed=0)
    assert optimistic.mean() > 0.025
    # What remains at 1000 studies is in the slow test; here four standard errors of the mean are 0.015.
    assert abs(cross_fitted.mean()) < 0.01 + 0.015
    # Paired, so that the luck of the studies cancels.
    assert (optimistic - cross_fitted).mean() > 0.02


@pytest.mark.slow
def test_bias_of_the_estimates_of_a_choice():
    """Configs that are equal by symmetry, 100 people, five folds.

    The choice for a fold is not quite free of the fold's people: the members that choose were trained on them, and a
    config that they happen to suit does better elsewhere too. That bias is a fraction of the optimistic estimate's.
    """
    biases = []
    for num_configs in (2, 10):
        optimistic, cross_fitted = estimates_and_truth(1000, num_configs, seed=1)
        error = cross_fitted.std() / math.sqrt(len(cross_fitted))
        biases = [optimistic.mean(), cross_fitted.mean()]
        print(
            f"\nbest of {num_configs} equal configs, accuracy: optimistic estimate biased by {biases[0]:+.4f}, "
            f"cross-fitted by {biases[1]:+.4f} (standard error {error:.4f})"
        )
        assert biases[0] > 4 * error
        assert abs(biases[1]) < biases[0] / 3 + 4 * error
    assert biases[0] > 0.03
    assert abs(biases[1]) < 0.0125
