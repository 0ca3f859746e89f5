"""What an ensemble says of images that it never saw, as probabilities for a student to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.config import Config
from fpclass.data.table import Table
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.metrics import Labels
from fpclass.stats.probabilities.calibration import fit_calibration
from fpclass.stats.probabilities.ensembling import average_members, greedy_weights, weighted_average
from fpclass.study.out_of_fold import OutOfFold


@dataclasses.dataclass(frozen=True)
class Teaching:
    """How what an ensemble says becomes targets.

    Attributes:
      settings: `predict.averaging` and `study.calibration` say how members are averaged and calibrated.
      label_share: of a target, in [0, 1], that is the label; the rest is what the ensemble says.
    """

    settings: Config
    label_share: float

    def targets(
        self, logits: Mapping[str, SeedLogits], labels: Labels, known: Bool[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n k"]:
        """Probabilities [N, K] to learn; 0 for images that are not known.

        Args:
          logits: by config, of its seeds, each image's by members that never saw it.
          known: the images that configs are weighted, and their average is calibrated, by, and that are learnt.
        """
        average, method = self.settings.predict.averaging, self.settings.study.calibration
        averaged = {name: average_members(of_config[:, known], average) for name, of_config in logits.items()}
        weights = greedy_weights(averaged, labels[known], average=average)
        said = weighted_average(averaged, weights, average)
        said = np.exp(fit_calibration(said, labels[known], method).apply(said))
        targets = np.zeros((len(labels), said.shape[1]))
        targets[known] = (1 - self.label_share) * said
        targets[known, labels[known]] += self.label_share
        return targets


def on_table(targets: Float[np.ndarray, "n k"], predictions: OutOfFold, table: Table) -> Float[np.ndarray, "N k"]:
    """Targets of every row of a table, float32; 0 of those that are no labelled image of the folds.

    An augmented copy learns what its original does.
    """
    rows = {filename: row for row, filename in enumerate(predictions.filenames)}
    names = table.rows["filename"]
    if table.copy_mask.any():
        names = table.rows["copy_of"].where(table.copy_mask, names)
    at: Int[np.ndarray, " N"] = np.array([rows.get(name, -1) for name in names])
    return np.where(at[:, None] >= 0, targets[at], 0).astype(np.float32)
