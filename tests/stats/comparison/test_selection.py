import json
import math

import numpy as np
import pytest
from study_simulation import as_study, make_study, simulate

from fpclass.errors import DataError
from fpclass.stats.comparison.scores import (
    mean_interval,
    member_scores,
    resample_configs,
    resample_scores,
    score_config,
)
from fpclass.stats.comparison.selection import choose, cross_fitted_choice, variance_of_choosing
from fpclass.stats.intervals import Bootstrap

BOOTSTRAP = Bootstrap(100, 0.95)


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
    logits, cohort = make_study(num_people=50, num_seeds=2, right=0.8)
    right = np.eye(2)[cohort.labels]
    lucky = np.where((cohort.folds == 0)[None, :, None], 4 * right, -0.5 * right)
    configs = {"lucky": lucky, "steady": logits}
    result = cross_fitted_choice(resample_configs(configs, cohort, metric, BOOTSTRAP))
    assert result.chosen_per_fold[0] == "steady"
    expected = [
        member_scores(configs[name], cohort, metric)[fold].mean() for fold, name in enumerate(result.chosen_per_fold)
    ]
    assert result.cross_fitted.value == pytest.approx(np.mean(expected))
    sign = -1 if metric == "log_loss" else 1
    assert result.optimism == pytest.approx(sign * (result.optimistic.value - result.cross_fitted.value))


def test_intervals_belong_to_the_composed_predictions():
    _, cohort = make_study(num_people=50)
    configs = {f"config {i}": make_study(num_people=50, num_seeds=2, seed=i)[0] for i in range(6)}
    result = cross_fitted_choice(resample_configs(configs, cohort, "accuracy", BOOTSTRAP))
    optimistic = score_config(configs[result.chosen], cohort, "accuracy", BOOTSTRAP).mean
    assert result.optimistic.to_json() == pytest.approx(optimistic.to_json())
    replicates = [
        resample_scores(configs[name], cohort, "accuracy", BOOTSTRAP).folds[:, fold]
        for fold, name in enumerate(result.chosen_per_fold)
    ]
    scores = np.stack(
        [member_scores(configs[name], cohort, "accuracy")[fold] for fold, name in enumerate(result.chosen_per_fold)]
    )
    resampled = resample_configs(configs, cohort, "accuracy", BOOTSTRAP).items()
    of_all = {name: of.members for name, of in resampled}, {name: of.folds for name, of in resampled}
    choosing = variance_of_choosing(*of_all, cohort, "accuracy")
    assert choosing > 1.2
    by_hand = mean_interval(scores, np.nanmean(replicates, axis=0), cohort, "accuracy", 0.95, choosing)
    assert result.cross_fitted.to_json() == pytest.approx(by_hand.to_json())
    # Of other numbers of seeds the folds are what there is.
    uneven = {name: of_config[: 1 + i % 2] for i, (name, of_config) in enumerate(configs.items())}
    found = cross_fitted_choice(resample_configs(uneven, cohort, "accuracy", BOOTSTRAP)).cross_fitted.to_json()
    assert found["low"] < found["value"] < found["high"]
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert record["chosen"] == result.chosen
    assert [record[f"cross_fitted{end}"] for end in ("", "_low", "_high")] == list(
        result.cross_fitted.to_json().values()
    )


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1), ("log_loss", -1)])
def test_choosing_among_equals_widens_the_variance_as_much_as_it_does(metric, sign):
    """Four equal configs, normal scores of five folds: the variance of the composed score is known by drawing it."""
    _, cohort = make_study(num_people=50)
    rng, names = np.random.default_rng(0), "abcd"

    def of(deviation, apart=0.0):
        scores = 0.5 + deviation * rng.normal(size=(4, 5, 1)) + sign * apart * np.arange(4)[:, None, None]
        drawn = scores[:, None, :, 0] + deviation * rng.normal(size=(4, 1000, 5))
        both = (dict(zip(names, values, strict=True)) for values in (scores, drawn))
        return variance_of_choosing(*both, cohort, metric)

    drawn = rng.normal(size=(4, 20000, 5))
    best = (drawn.sum(axis=2, keepdims=True) - drawn).argmax(axis=0)
    true = 5 * np.take_along_axis(drawn, best[None], axis=0)[0].mean(axis=1).var()
    assert 1.6 < true < 1.85  # of a config that nobody chose it is 1
    assert np.mean([of(0.01) for _ in range(20)]) == pytest.approx(true, abs=0.15)
    assert of(0.01, apart=0.2) == pytest.approx(1, abs=0.1)


def test_one_config_is_no_choice():
    logits, cohort = make_study()
    result = cross_fitted_choice(resample_configs({"only": logits}, cohort, "roc_auc", BOOTSTRAP))
    assert result.chosen_per_fold == ("only",) * 5
    assert result.optimism == 0


def test_cross_fitting_needs_two_folds():
    logits, cohort = make_study()
    with pytest.raises(DataError, match="two folds"):
        cross_fitted_choice(resample_configs({"a": logits}, cohort.with_folds(0 * cohort.folds), "accuracy", BOOTSTRAP))


def estimates_and_truth(num_studies, num_configs, seed, num_resamples=0):
    """Errors of the two estimates, each against the exact accuracy of the members that it scores."""
    rng = np.random.default_rng(seed)
    names = [f"config {i}" for i in range(num_configs)]
    optimistic, cross_fitted = [], []
    for _ in range(num_studies // 50):
        margins, labels, truth = simulate(rng, 50, num_configs)
        for of_study, of_members in zip(margins, truth, strict=True):
            logits, cohort = as_study(of_study, labels)
            configs = dict(zip(names, logits, strict=True))
            result = cross_fitted_choice(resample_configs(configs, cohort, "accuracy", Bootstrap(num_resamples, 0.95)))
            optimistic.append(result.optimistic.value - of_members[names.index(result.chosen)].mean())
            composed = [of_members[names.index(name), fold] for fold, name in enumerate(result.chosen_per_fold)]
            cross_fitted.append(result.cross_fitted.value - np.mean(composed))
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
