"""What the calibration, thresholds and pooling of a run are fitted on: labelled images held out of what it reports."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from fpclass.common import files
from fpclass.data.splits import SELECTION
from fpclass.errors import RunError
from fpclass.experiment import is_trained
from fpclass.run.best import BestModel
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared
from fpclass.run.probe import INNER


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Labelled images of a run whose logits are of a network that did not learn from them, and that nobody reports.

    Attributes:
      rows: theirs in the table; empty where there are none.
      logits: one row for each.
      where: what they are, in words, with a place for how many.
      how_many: images, in words.
      why_not: why nobody looked for any; "" where rows, few or none as they may be, were held out.
    """

    rows: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n K"]
    where: str = ""
    how_many: str = ""
    why_not: str = ""

    @property
    def by_image(self) -> str:
        """What they are, and how many images."""
        return self.where.format(self.how_many)

    def by_person(self, num_people: int) -> str:
        """What they are, and of how many people."""
        return self.where.format(f"{num_people} people")


def held_out_images(best: BestModel, prepared: Prepared) -> HeldOut:
    """The images of a run that its decisions are fitted on.

    Of a trained network they are those of the inner split, which chose the epoch: training did not learn from them, and
    the result is reported on others. A probe learns from all training images; of them there are logits out of fold, of
    the inner cross-validation. Augmented copies are left out: nobody has copies of a new image, and they would make
    several images of one. Without either there is nothing: whatever is left either was learnt from or is reported.

    Raises:
      RunError: the probe's predictions are damaged.
    """
    config, rows = best.run.config, prepared.splits.rows(SELECTION)
    if len(rows):
        logits = best.predict_once(prepared, SELECTION)
        return HeldOut(rows, logits, "the inner split ({})", prepared.splits.counted(SELECTION))
    if not is_trained(config) and best.run.path(INNER).is_file():
        return _out_of_fold(best, prepared)
    reason = "the images that chose the epoch are those that are reported"
    if config.split.selection == "inner":
        reason = "nothing was set aside to choose an epoch on (train.early_stopping=restore_best does)"
    return HeldOut(rows, np.empty((0, prepared.table.num_classes)), why_not=reason)


def _out_of_fold(best: BestModel, prepared: Prepared) -> HeldOut:
    """The training images that a probe's inner cross-validation judged."""
    table = prepared.table
    inner = Predictions.read(best.run, INNER, table.classes)
    row_of = {name: row for row, name in enumerate(table.rows["filename"])}
    rows = np.array([row_of.get(name, -1) for name in inner.frame["filename"]], np.int64)
    path = best.run.path(INNER)
    if (rows < 0).any():
        foreign = inner.frame["filename"].iloc[int(np.argmax(rows < 0))]
        raise RunError(f"{path}: {foreign} is no image of {table.source}; {files.remedy(path)}")
    is_original = ~table.copy_mask[rows]
    where, how_many = "the inner cross-validation ({}, out of fold)", f"{is_original.sum()} images"
    return HeldOut(rows[is_original], inner.logits[is_original], where, how_many)
