"""Figures and tables of right and wrong predictions, also by original class."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from fpclass.data.splits import TEST, VALIDATION
from fpclass.run.folder import Run
from fpclass.run.original_classes import write_original_classes
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import Labels, Logits, log_softmax

NUM_SHOWN = 24
"""Images in the grid of predictions."""
NUM_PER_CLASS = 8
"""Images in a row of a gallery."""


def show_errors(run: Run, prepared: Prepared, predictions: Predictions) -> list[str]:
    """Writes a grid of validation images with their predictions, and the errors by original class, where there are any.

    Labelled test images are counted by original class, but not shown: who looks at them begins to choose by them.
    Returns the findings, a line each.
    """
    on_validation, on_test = predictions.select(VALIDATION), predictions.select(TEST)
    title = "Validation images drawn at random: right in green, wrong in red"
    rows = prepared.splits.rows(VALIDATION)
    draw_predictions(run.folder, prepared, rows, on_validation.logits, title, seed=run.config.seed)
    draw_extremes(run.folder, prepared, rows, on_validation.logits, "validation images")
    if not prepared.table.originals:
        return []
    classes, pairs, findings = _count_by_original_class(run, prepared, on_validation, VALIDATION)
    _draw_galleries(run, prepared, on_validation, classes, pairs)
    if len(on_test.frame):
        _, _, lines = _count_by_original_class(run, prepared, on_test, TEST)
        findings += [f"test images, {line}" for line in lines]
    return findings


def draw_predictions(
    folder: pathlib.Path, prepared: Prepared, rows: Int[np.ndarray, " n"], logits: Logits, title: str, *, seed: int
) -> None:
    """Writes figures/predictions.png: some images with what is predicted of them, right in green, wrong in red.

    Args:
      rows: of labelled images in the table.
      logits: what is predicted of them [n, K].
      seed: the images are drawn by it, not chosen: neither the best nor the worst of them.
    """
    from fpclass.report import grids
    from fpclass.report.style import save_figure

    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(rows), min(NUM_SHOWN, len(rows)), replace=False)  # in this order, which no class rules
    titles, is_right = _describe(prepared, logits[chosen], prepared.table.labels[rows[chosen]])
    figure = grids.prediction_grid(
        prepared.images[rows[chosen]],
        titles,
        is_right.tolist(),
        title,
        note=prepared.note,
        shapes=prepared.table.shapes(rows[chosen]),
    )
    save_figure(figure, folder / "figures/predictions.png")


def draw_extremes(
    folder: pathlib.Path, prepared: Prepared, rows: Int[np.ndarray, " n"], logits: Logits, of: str
) -> None:
    """Writes figures/extremes.png: the images with the lowest and those with the highest loss; arguments as above.

    Args:
      of: what the images are called.
    """
    from fpclass.report import grids
    from fpclass.report.style import save_figure

    labels = prepared.table.labels[rows]
    losses = -log_softmax(logits)[np.arange(len(labels)), labels]
    order = np.argsort(losses, kind="stable")
    shown = {"lowest loss": order[:NUM_PER_CLASS], "highest loss": order[::-1][:NUM_PER_CLASS]}
    chosen = np.unique(np.concatenate([*shown.values()]))  # no others are read: they may be on disk
    titles, is_right = _describe(prepared, logits[chosen], labels[chosen])
    figure = grids.error_gallery(
        prepared.images[rows[chosen]],
        {name: np.searchsorted(chosen, of_name) for name, of_name in shown.items()},
        titles,
        is_right.tolist(),
        f"Best and worst {of}: the lowest loss and the highest",
        NUM_PER_CLASS,
        note=prepared.note,
        shapes=prepared.table.shapes(rows[chosen]),
    )
    save_figure(figure, folder / "figures/extremes.png")


def _count_by_original_class(
    run: Run, prepared: Prepared, predictions: Predictions, split: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The two tables of the images of a split, written with their figure, and what there is to say of them."""
    rows, evaluate = prepared.splits.rows(split), run.config.evaluate
    groups = prepared.splits.frame["unit"].iloc[rows].tolist()
    return write_original_classes(
        run.folder,
        predictions.logits,
        Cohort(predictions.labels, groups, class_names=prepared.table.class_names),
        np.array(prepared.table.rows["original"], str)[rows],
        Bootstrap(evaluate.num_resamples, evaluate.confidence),
        suffix="" if split == VALIDATION else f"_{split}",
        note=prepared.note,
    )


def _draw_galleries(
    run: Run, prepared: Prepared, predictions: Predictions, classes: pd.DataFrame, pairs: pd.DataFrame
) -> None:
    """The worst errors of every original class, and the pair of them that is hardest to tell apart."""
    from fpclass.report import grids
    from fpclass.report.style import save_figure

    rows = prepared.splits.rows(VALIDATION)
    originals = np.array(prepared.table.rows["original"], str)[rows]
    titles, is_right = _describe(prepared, predictions.logits, predictions.labels)
    worst_first = np.argsort(-predictions.losses, kind="stable")

    def gallery(names: list[str], among: Int[np.ndarray, " n"], title: str, name: str) -> None:
        chosen = {original: among[originals[among] == original][:NUM_PER_CLASS] for original in names}
        shown = np.unique(np.concatenate([*chosen.values()]))  # no others are read: they may be on disk
        figure = grids.error_gallery(
            prepared.images[rows[shown]],
            {original: np.searchsorted(shown, of_original) for original, of_original in chosen.items()},
            [titles[i] for i in shown],
            is_right[shown].tolist(),
            title,
            NUM_PER_CLASS,
            note=prepared.note,
            shapes=prepared.table.shapes(rows[shown]),
        )
        save_figure(figure, run.path(f"figures/{name}.png"))

    wrong = worst_first[~is_right[worst_first]]
    title = "The worst errors of every original class"
    gallery(classes["original"].tolist(), wrong, title, "errors_by_original_class")
    if len(pairs):
        one, other = str(pairs["one"].iloc[0]), str(pairs["other"].iloc[0])
        title = f"{one} against {other}, the pair that is hardest to tell apart: the images with the highest loss"
        gallery([one, other], worst_first, title, "hardest_pair")


def _describe(prepared: Prepared, logits: Logits, labels: Labels) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """A title for every image, and whether it is predicted right."""
    names = prepared.table.class_names
    predicted, sure = logits.argmax(axis=1), np.exp(log_softmax(logits)).max(axis=1)
    is_right = predicted == labels
    titles = [
        f"{names[k]} {share:.0%}" + ("" if right else f"\nis {names[true]}")
        for k, true, share, right in zip(predicted, labels, sure, is_right, strict=True)
    ]
    return titles, is_right
