"""Images of a study beside the members that never saw them: whose maps are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from fpclass.run.best import BestModel
from fpclass.run.checks.map_checks import draw_rows
from fpclass.run.prepare import Prepared, prepare_again
from fpclass.study.out_of_fold import OutOfFold, collect
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import best_models


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Labelled images that were drawn, with what members predict that never saw them.

    Attributes:
      predictions: of all labelled images.
      positions: of those drawn, in the predictions, grouped by fold.
    """

    predictions: OutOfFold
    positions: Int[np.ndarray, " m"]

    @property
    def folds(self) -> Int[np.ndarray, " m"]:
        """That hold each of them."""
        return self.predictions.cohort.folds[self.positions]


def draw_images(study: Study, names: list[str], num_images: int) -> Drawn:
    """Draws labelled images at random, the same ones for all configs of a study.

    Raises:
      DataError: there are too few.
      RunError: a member is not trained.
    """
    predictions = collect(study, names)
    drawn = draw_rows(np.arange(len(predictions.cohort)), num_images, "labelled images")
    order = np.argsort(predictions.cohort.folds[drawn], kind="stable")
    return Drawn(predictions, drawn[order])


def data_of(study: Study, name: str, drawn: Drawn) -> tuple[Prepared, Int[np.ndarray, " m"]]:
    """Data as a config has them decoded, and the rows of the images drawn.

    Raises:
      RunError: the data have changed since.
    """
    prepared = prepare_again(study.members(name)[0].run)
    return prepared, prepared.table.rows_of(drawn.predictions.filenames[i] for i in drawn.positions)


def models_of(study: Study, name: str, num_classes: int) -> Iterator[tuple[int, int, BestModel]]:
    """Seed and fold of each member of a config, with its best weights, which are let go of afterwards."""
    for member, best in best_models(study, name, num_classes):
        yield member.seed, member.fold, best
        best.forget()
