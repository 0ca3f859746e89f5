"""Random predictions for tests of statistics: with ties, calibrated, or with errors that a person's images share."""

import numpy as np

from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import log_softmax


def random_predictions(num_images, num_classes, seed=0):
    """Logits that are right more often than not, with many ties among them, and every class present."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, num_images - num_classes)])
    logits = rng.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1
    logits[1::3] = logits[: len(logits[1::3])]  # exact ties, also between images of different classes
    return logits, labels


def names(num_classes):
    return [f"class {k}" for k in range(num_classes)]


def draw_labels(log_probabilities, rng):
    """Labels as if the probabilities were right."""
    return (np.exp(log_probabilities).cumsum(axis=1) < rng.random((len(log_probabilities), 1))).sum(axis=1)


def calibrated_predictions(num_images, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(num_images, num_classes))
    return logits, draw_labels(log_softmax(logits), rng)


def people_predictions(num_people, per_person, num_classes=2, *, sharpness=1.0, is_skewed=False, seed=0):
    """Logits and a cohort of people in five folds, with errors that the images of a person share.

    A larger sharpness makes them too sure of themselves; skewed ones have more images of class 0 than of others.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_people), per_person)
    labels = rng.integers(-1 if is_skewed else 0, num_classes, num_people).clip(0)[groups]
    logits = rng.normal(size=(len(groups), num_classes)) + rng.normal(size=(num_people, num_classes))[groups]
    logits[np.arange(len(groups)), labels] += 1.5
    return logits * sharpness, Cohort(labels, groups, groups % 5)
