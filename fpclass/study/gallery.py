"""Figures of all configs of a study side by side, and a grid of what its ensemble predicts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fpclass.common.console import say
from fpclass.errors import FpclassError
from fpclass.experiment import is_trained
from fpclass.report import side_by_side
from fpclass.report.style import save_figure
from fpclass.run.error_analysis import draw_extremes, draw_predictions
from fpclass.run.prepare import Prepared, prepare_again
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.probabilities.ensembling import LogProbabilities
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study
from fpclass.study.test_set import ENSEMBLE, OnTest

CURVES = "learning_curves"


def draw_gallery(
    study: Study,
    predictions: OutOfFold,
    ensemble: LogProbabilities,
    on_test: OnTest | None,
    of: str,
    note: str,
) -> list[str]:
    """Writes the figures, those of test images with the ending _test, and returns their names.

    Args:
      predictions: of the configs that did not fail.
      ensemble: cross-fitted log-probabilities of the same images [N, K].
      of: what these images are called.
    """
    trained = [name for name in predictions.logits if is_trained(study.configs[name])]  # the others have no epochs
    histories = {name: [member.run.history() for member in study.members(name)] for name in trained}
    figures = {CURVES: side_by_side.learning_curves(histories, note=note)} if histories else {}
    study.path(f"figures/{CURVES}.png").unlink(missing_ok=True)
    judged = [("", of, predictions.logits, ensemble, predictions.cohort)]
    if on_test:
        aside = on_test.judged
        judged.append(("_test", "test images", aside.logits, on_test.logits, aside.cohort))
    for suffix, name, logits, of_ensemble, cohort in judged:
        names, judged_all = cohort.class_names, {**logits, ENSEMBLE: of_ensemble[None]}
        matrices = _confusion(judged_all, cohort)
        figures[f"confusion_matrices{suffix}"] = side_by_side.confusion_matrices(matrices, names, name, note=note)
        figures[f"roc{suffix}"] = side_by_side.roc_curves(_by_member(judged_all, cohort), names, name, note=note)
    for name, figure in figures.items():
        save_figure(figure, study.path(f"figures/{name}.png"))
    return list(figures)


def draw_grid(
    study: Study, predictions: OutOfFold, ensemble: LogProbabilities, of: str, prepared: Prepared | None
) -> list[str]:
    """Writes grids of images with what the ensemble predicts of them, and returns their names; or says why not.

    Arguments as `draw_gallery`; `prepared` are data of the baseline, whose images are shown, None: not at hand.
    """
    try:
        if prepared is None:
            prepared = prepare_again(study.members(study.baseline)[0].run)
    except FpclassError as error:  # whoever judges once more may have no images any more
        say(f"figures/predictions.png is not drawn: {error}")
        return []
    rows = prepared.table.rows_of(predictions.filenames)
    title = f"The ensemble, {of}, drawn at random: right in green, wrong in red"
    draw_predictions(study.folder, prepared, rows, ensemble, title, seed=study.configs[study.baseline].seed)
    draw_extremes(study.folder, prepared, rows, ensemble, f"images of the ensemble, {of}")
    return ["predictions", "extremes"]


def _confusion(logits: Mapping[str, SeedLogits], cohort: Cohort) -> dict[str, np.ndarray]:
    """Counts [K, K] by config, of the most probable classes, rounded means over seeds."""
    matrices = {}
    for name, of_seeds in logits.items():
        predicted, num_classes = of_seeds.argmax(axis=-1), of_seeds.shape[-1]
        codes = (cohort.labels * num_classes + predicted).ravel()
        counts = np.bincount(codes, minlength=num_classes**2).reshape(num_classes, num_classes)
        matrices[name] = np.round(counts / len(of_seeds)).astype(int)
    return matrices


def _by_member(logits: Mapping[str, SeedLogits], cohort: Cohort) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """By config, of every member the logits and labels of the images of its fold."""
    folds = [cohort.folds == fold for fold in range(cohort.num_folds)]
    return {
        name: [(of_seed[rows], cohort.labels[rows]) for of_seed in of_seeds for rows in folds]
        for name, of_seeds in logits.items()
    }
