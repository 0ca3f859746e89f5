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


def people_study(rng, num_people, num_seeds, *, num_features, noise, unequal, num_folds=5):
    """One study of a linear classifier with noisy training, of people with ten prints, or with 1 to 60.

    A print shares half of its variance with the person's others. Every member is the ridge regression of the other
    folds with a random direction added, of a random length: `noise` times a normal number.

    Returns:
      Logits [S, N, 2], the cohort in folds, and the true accuracy of every member on new people [F, S].
    """
    classes = np.where(np.arange(num_people) % 2, 1.0, -1.0)
    folds = np.empty(num_people, int)
    for k in (-1, 1):
        of_class = np.flatnonzero(classes == k)
        folds[rng.permutation(of_class)] = (np.arange(len(of_class)) + (k > 0) * (num_folds // 2)) % num_folds
    sizes = np.minimum(1 + rng.geometric(1 / 8, num_people), 60) if unequal else np.full(num_people, 10)
    people = np.arange(num_people).repeat(sizes)
    mean = np.full(num_features, 1 / math.sqrt(num_features))
    own, shared = rng.normal(size=(len(people), num_features)), rng.normal(size=(num_people, num_features))
    features = math.sqrt(0.5) * (own + shared[people]) + mean * classes[people, None]
    logits, truth = np.zeros((num_seeds, len(people), 2)), np.empty((num_folds, num_seeds))
    for fold in range(num_folds):
        inside = folds[people] == fold
        x, y = features[~inside], classes[people[~inside]]
        ridge = np.linalg.solve(x.T @ x + 5 * np.eye(num_features), x.T @ y)
        for seed in range(num_seeds):
            length = noise * abs(rng.normal()) / math.sqrt(num_features)
            direction = ridge / np.linalg.norm(ridge) + length * rng.normal(size=num_features)
            logits[seed, inside, 1] = features[inside] @ direction
            truth[fold, seed] = stats.norm.cdf(direction @ mean / np.linalg.norm(direction))
    return logits, Cohort((classes[people] > 0).astype(int), people, folds[people]), truth
