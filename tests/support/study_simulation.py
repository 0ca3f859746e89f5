"""Studies with known truth: random predictions, and linear classifiers that really learn."""

import math

import numpy as np
from scipy import stats

from fpclass.stats.cohort import Cohort

NUM_FOLDS, NUM_PRINTS = 5, 3


def make_study(num_people=40, num_seeds=1, seed=0, right=0.7):
    """Logits [S, N, 2] that are right with this probability, and the cohort of people that they are about."""
    rng = np.random.default_rng(seed)
    people = np.arange(num_people).repeat(2)
    labels, folds = people % 2, (people // 2) % NUM_FOLDS
    logits = rng.normal(size=(num_seeds, len(labels), 2))
    is_right = rng.random((num_seeds, len(labels))) < right
    logits[..., 1] = logits[..., 0] + np.where(is_right, 1, -1) * (2 * labels - 1) * rng.exponential(size=labels.shape)
    return logits, Cohort(labels, [f"person {p}" for p in people], folds)


def simulate(rng, num_studies, num_configs, *, num_people=100, num_features=20, signals=None):
    """Studies of linear classifiers, each config trained on features of its own, all equally informative.

    A person's prints share half of their variance, the features of two configs half of theirs. Every config is
    the ridge regression of its features, trained on the other folds: real learning, from overlapping people.

    Returns:
      Margins [R, C, F, n], above 0 for class 1; labels in {-1, 1} of the n images of every fold [n]; true accuracy
      of every member on new people [R, C, F].
    """
    people_per_fold = num_people // NUM_FOLDS
    labels = np.where(np.arange(people_per_fold) % 2, 1.0, -1.0).repeat(NUM_PRINTS)
    means = np.full((num_configs, num_features), 1 / math.sqrt(num_features))
    means *= np.ones(num_configs)[:, None] if signals is None else np.array(signals)[:, None]

    def draw(*shape):
        shared = rng.normal(size=(num_studies, 1, NUM_FOLDS, *shape, num_features))
        own = rng.normal(size=(num_studies, num_configs, NUM_FOLDS, *shape, num_features))
        return math.sqrt(0.5) * (shared + own)

    features = math.sqrt(0.5) * (draw(people_per_fold, 1) + draw(people_per_fold, NUM_PRINTS))
    features = features.reshape(*features.shape[:3], len(labels), num_features)
    features += means[:, None, None] * labels[:, None]
    products, moments = np.swapaxes(features, -1, -2) @ features, np.swapaxes(features, -1, -2) @ labels
    products = products.sum(axis=2, keepdims=True) - products + np.eye(num_features)
    moments = moments.sum(axis=2, keepdims=True) - moments
    coefficients = np.linalg.solve(products, moments[..., None])[..., 0]
    margins = np.einsum("rcfnd,rcfd->rcfn", features, coefficients)
    # The features have unit variance in every direction, so a direction's accuracy is known without a fresh sample.
    truth = stats.norm.cdf((coefficients * means[:, None]).sum(axis=-1) / np.linalg.norm(coefficients, axis=-1))
    return margins, labels, truth


def as_study(margins, labels):
    """One simulated study in the common representation: logits [1, N, 2] of each config, and the cohort."""
    num_folds, per_fold = margins.shape[1:]
    margins = margins.reshape(len(margins), 1, -1)
    people = np.arange(num_folds * per_fold) // NUM_PRINTS
    cohort = Cohort(np.tile((labels > 0).astype(int), num_folds), people, np.arange(num_folds).repeat(per_fold))
    return np.stack([np.zeros_like(margins), margins], axis=-1), cohort


def with_training_noise(rng, right, jitter):
    """Right or wrong of every member [R, C, F, n], its accuracy shifted by a normal number of that deviation.

    A shift upwards mends wrong predictions at random, one downwards spoils right ones. Every
    member is shifted on its own, whoever its people are, as by the noise of training.
    """
    shift = rng.normal(0, jitter, right.shape[:-1])
    accuracy = right.mean(axis=-1)
    mended = np.clip(shift / np.maximum(1 - accuracy, 1e-9), 0, 1)[..., None]
    spoilt = np.clip(-shift / np.maximum(accuracy, 1e-9), 0, 1)[..., None]
    drawn = rng.random(right.shape)
    return np.where(right, drawn >= spoilt, drawn < mended)


def fold_differences_and_variances(right):
    """Of right or wrong [R, C, F, n]: differences to config 0 [R, C - 1, F], their mean's variance over people."""
    differences = right[:, 1:].astype(float) - right[:, :1]
    of_people = differences.reshape(*differences.shape[:3], -1, NUM_PRINTS).mean(axis=-1)
    variances = of_people.var(axis=-1) / of_people.shape[-1]
    return differences.mean(axis=-1), variances.sum(axis=-1) / NUM_FOLDS**2
