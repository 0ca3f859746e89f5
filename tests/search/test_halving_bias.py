"""What leaving configs out after the first folds does to the estimate, simulated with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from fpclass.search.halving import FIRST_FOLDS, is_clearly_worse

NUM_FOLDS, NUM_GROUPS, NUM_IMAGES = 5, 150, 10
TRUTHS = {
    "all the same": np.full(6, 0.7),
    "one better": np.array([0.7, 0.68, 0.68, 0.68, 0.68, 0.68]),
    "spread": np.array([0.7, 0.69, 0.67, 0.64, 0.6, 0.55]),
}


def simulate(truth: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float, int]:
    """Estimates of the chosen config with and without leaving out, its true accuracy, and how many are left out.

    People are easy or hard, for all configs and for each; trainings of a fold are lucky or not.
    """
    num_configs = len(truth)
    of_people = rng.normal(0, 1.0, NUM_GROUPS) + rng.normal(0, 0.5, (num_configs, NUM_GROUPS))
    fold_of = np.arange(NUM_GROUPS) % NUM_FOLDS
    of_training = rng.normal(0, 0.15, (num_configs, NUM_FOLDS))[:, fold_of]
    margin = np.log(truth / (1 - truth)) * np.sqrt(1 + (1.0 + 0.25 + 0.15**2) / 2.9)  # probit-like, of the mean
    chance = 1 / (1 + np.exp(-(margin[:, None] + of_people + of_training)))
    correct = rng.random((num_configs, NUM_GROUPS, NUM_IMAGES)) < chance[:, :, None]
    real = np.array([np.mean(1 / (1 + np.exp(-(m + rng.normal(0, np.sqrt(1.2725), 4000))))) for m in margin])

    first = fold_of < FIRST_FOLDS
    groups = np.repeat(np.arange(NUM_GROUPS)[first], NUM_IMAGES)
    of_first = correct[:, first].reshape(num_configs, -1)
    best = int(of_first.mean(axis=1).argmax())
    stays = [k for k in range(num_configs) if not is_clearly_worse(of_first[k], of_first[best], groups)]

    def cross_fitted(configs: list[int]) -> tuple[float, float]:
        scores = np.stack([[correct[k, fold_of == f].mean() for f in range(NUM_FOLDS)] for k in configs])
        others = (scores.sum(axis=1, keepdims=True) - scores).argmax(axis=0)
        chosen = configs[int(scores.mean(axis=1).argmax())]
        return float(scores[others, range(NUM_FOLDS)].mean()), float(real[chosen])

    estimate, truth_of_chosen = cross_fitted(stays)
    whole, truth_of_whole = cross_fitted(list(range(num_configs)))
    return estimate - truth_of_chosen, whole - truth_of_whole, truth_of_chosen, num_configs - len(stays)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTHS)
def test_leaving_out_what_is_clearly_worse_hardly_flatters_the_estimate(name: str) -> None:
    rng = np.random.default_rng(0)
    found = np.array([simulate(TRUTHS[name], rng) for _ in range(2000)])
    errors = found[:, :2].std(axis=0) / np.sqrt(len(found))
    print(
        f"\n{name}: bias with leaving out {found[:, 0].mean():+.4f} ± {errors[0]:.4f}, without "
        f"{found[:, 1].mean():+.4f}, difference {np.mean(found[:, 0] - found[:, 1]):+.4f}; "
        f"{found[:, 3].mean():.2f} of 6 left out"
    )
    assert abs(found[:, 0].mean()) < 0.003
    assert abs(np.mean(found[:, 0] - found[:, 1])) < 0.002
