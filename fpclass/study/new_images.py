"""How much sharper a study's ensemble, the average of its folds, is made for new images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.probabilities.ensembling import Average, predict_by_fold, weighted_average
from fpclass.stats.probabilities.fold_average import (
    MIN_IMAGES,
    UNSHARPENED,
    Sharpening,
    extrapolate_sharpening,
    fit_sharpening,
)
from fpclass.study.out_of_fold import OutOfFold, collect_test
from fpclass.study.study import Study
from fpclass.study.test_set import collect_labelled_test


def sharpening_of(
    study: Study, weights: Mapping[str, float], calibration: Calibration, predictions: OutOfFold, how: Average
) -> Sharpening:
    """How much the average over folds is sharpened, by images that no fold has learnt from; no label of theirs is read.

    By the rows to predict, or else the test images; or else by the seeds, which see a part of it.

    Args:
      weights: of the ensemble's configs, above 0.
      calibration: of the ensemble out of fold.
    """
    if study.num_splits == 1:
        return UNSHARPENED  # the members that were calibrated predict new images
    for logits, images in _unlabelled(study, list(weights), predictions.cohort.class_names):
        num_images = next(iter(logits.values())).shape[1]
        if num_images >= MIN_IMAGES:
            of_folds = predict_by_fold(logits, study.num_splits, weights, calibration, how)
            return Sharpening(fit_sharpening(of_folds, how), f"what the folds say of {num_images} {images}")
    seeds = range(study.num_seeds)
    if study.num_seeds > 1:
        of_seeds = [weighted_average({n: predictions.logits[n][s] for n in weights}, weights, how) for s in seeds]
        of_seeds = np.stack([calibration.apply(of_seed) for of_seed in of_seeds])
        scale = extrapolate_sharpening(of_seeds, predictions.cohort.labels, study.num_splits, how)
        return Sharpening(scale, f"the spread of {study.num_seeds} seeds alone, which is a part of it: too little")
    why_not = f"it takes {MIN_IMAGES} rows to predict or test images, or several seeds; new images are too little sure"
    return Sharpening(why_not=why_not)


def _unlabelled(
    study: Study, names: Sequence[str], class_names: Sequence[str]
) -> Iterator[tuple[Mapping[str, SeedLogits], str]]:
    """Logits of all members by config, of rows to predict and of test images, and what these are called."""
    yield collect_test(study, names)[1], "images to predict"
    if aside := collect_labelled_test(study, names, class_names):
        yield aside.logits, "test images, whose labels are not read for it"
