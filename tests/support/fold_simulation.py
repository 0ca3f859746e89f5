"""Members of folds with known truth: what they say of labelled images out of fold, and all of them of new images."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special
from study_simulation import NUM_FOLDS, NUM_PRINTS

from fpclass.stats.cohort import Cohort


@dataclasses.dataclass(frozen=True)
class Members:
    """Logits of labelled images by their fold's members [S, N, K], and of new images by all [S F, M, K].

    Members of new images are all folds of the first seed, then of the next, as a study has them.
    """

    out_of_fold: np.ndarray
    cohort: Cohort
    new: np.ndarray
    of_new: Cohort


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Logits that are the truth with noise that all members share, own noise of the fold, and of each training.

    Attributes:
      skill: how far the true class stands out.
      noise_of_fold: deviation; 1 is what all members share, half of it alike in all images of a person.
      noise_of_seed: deviation.
      spread: of the factor by which images are easier or harder (log-normal); 0: none, log-odds are Gaussian.
      gain: how much too sure all are.
    """

    num_people: int = 200
    num_new: int = 1000
    num_classes: int = 2
    num_seeds: int = 1
    skill: float = 1.5
    noise_of_fold: float = 0.7
    noise_of_seed: float = 0.7
    spread: float = 0.0
    gain: float = 2.0

    def draw(self, rng: np.random.Generator) -> Members:
        """Labelled images and new ones of other people."""
        shared, cohort = self._images(rng, self.num_people)
        noise = self._noise(rng, 1, len(cohort))[:, 0]
        new, of_new = self._images(rng, self.num_new)
        of_members = self._noise(rng, NUM_FOLDS, len(of_new)).reshape(-1, len(of_new), self.num_classes)
        return Members(self.gain * (shared + noise), cohort, self.gain * (new + of_members), of_new)

    def _images(self, rng: np.random.Generator, num_people: int) -> tuple[np.ndarray, Cohort]:
        people = np.arange(num_people).repeat(NUM_PRINTS)
        labels = (np.arange(num_people) % self.num_classes)[people]
        of_person = rng.normal(size=(num_people, self.num_classes))[people]
        logits = self.skill * np.eye(self.num_classes)[labels]
        logits = logits + (of_person + rng.normal(size=of_person.shape)) / np.sqrt(2)
        logits *= np.exp(self.spread * rng.normal(size=(len(people), 1)))
        return logits, Cohort(labels, people, people // self.num_classes % NUM_FOLDS)

    def _noise(self, rng: np.random.Generator, num_folds: int, num_images: int) -> np.ndarray:
        """Of every training [S, F, N, K]."""
        of_fold = rng.normal(size=(num_folds, num_images, self.num_classes))
        of_seed = rng.normal(size=(self.num_seeds, num_folds, num_images, self.num_classes))
        return self.noise_of_fold * of_fold + self.noise_of_seed * of_seed


@dataclasses.dataclass(frozen=True)
class Linear:
    """Ridge regressions that really learn, each fold's from the other people; their margins are the log-odds.

    Attributes:
      ridge: too small a one over-fits: members disagree more.
    """

    num_people: int = 100
    num_new: int = 1000
    num_features: int = 60
    ridge: float = 1.0
    gain: float = 4.0

    def draw(self, rng: np.random.Generator) -> Members:
        """Labelled images and new ones of other people."""
        features, cohort = self._images(rng, self.num_people)
        new, of_new = self._images(rng, self.num_new)
        out_of_fold, margins = np.empty(len(cohort)), []
        for fold in range(NUM_FOLDS):
            others, signs = features[cohort.folds != fold], 2.0 * cohort.labels[cohort.folds != fold] - 1
            products = others.T @ others + self.ridge * np.eye(self.num_features)
            coefficients = np.linalg.solve(products, others.T @ signs)
            out_of_fold[cohort.folds == fold] = features[cohort.folds == fold] @ coefficients
            margins.append(new @ coefficients)
        of_both = (np.stack([0 * z, self.gain * z], axis=-1) for z in (out_of_fold[None], np.stack(margins)))
        return Members(next(of_both), cohort, next(of_both), of_new)

    def _images(self, rng: np.random.Generator, num_people: int) -> tuple[np.ndarray, Cohort]:
        people = np.arange(num_people).repeat(NUM_PRINTS)
        labels = people % 2
        features = np.sqrt(0.5) * rng.normal(size=(num_people, self.num_features))[people]
        features += np.sqrt(0.5) * rng.normal(size=features.shape)
        features += (2 * labels[:, None] - 1) / np.sqrt(self.num_features)
        return features, Cohort(labels, people, people // 2 % NUM_FOLDS)


def true_error(log_probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error of so many images that chance is small, of the predicted class."""
    probabilities = special.softmax(log_probabilities, axis=1)
    confidences, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.quantile(confidences, np.arange(1, num_bins) / num_bins)
    gaps = np.bincount(np.searchsorted(edges, confidences), confidences - is_right)
    return float(np.abs(gaps).sum() / len(labels))
