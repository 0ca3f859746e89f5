"""The Predictions table: logits of models, one row per image. Every later stage reads this and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass.data.splits import Splits
from fpclass.data.table import Table
from fpclass.run.folder import Run
from fpclass.stats.metrics import log_softmax


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Logits of some rows of a table.

    Attributes:
      frame: filename, group, label (class index, -1 unknown), member (which training: "seed-0"), split, logit_<class>.
      classes: label values in the source's coding, in class order.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]

    @classmethod
    def make(
        cls, table: Table, splits: Splits, rows: Int[np.ndarray, " n"], logits: Float[np.ndarray, "n K"], member: str
    ) -> Predictions:
        """Puts the logits of some rows beside what is known of them."""
        known = {
            "filename": table.rows["filename"].array.take(rows),
            "group": splits.frame["group"].array.take(rows),
            "label": table.labels[rows],
            "member": member,
            "split": splits.frame["role"].array.take(rows),
        }
        of_classes = {f"logit_{value}": np.asarray(logits)[:, k] for k, value in enumerate(table.classes)}
        return cls(pd.DataFrame(known | of_classes), table.classes)

    @classmethod
    def read(cls, run: Run, filename: str, classes: tuple[str, ...]) -> Predictions:
        """Reads a table that was written, with its logits in the precision in which they were computed.

        Raises:
          RunError: missing or damaged.
        """
        logits = [f"logit_{value}" for value in classes]
        frame = run.read_csv(filename, ("filename", "split"), ("label", *logits))
        return cls(frame.astype({f"logit_{value}": np.float32 for value in classes}), classes)

    def select(self, split: str) -> Predictions:
        """The rows of one split, in the same order."""
        return Predictions(self.frame.loc[self.frame["split"] == split].reset_index(drop=True), self.classes)

    def with_logits(self, logits: Float[np.ndarray, "n K"]) -> Predictions:
        """The same rows with other logits."""
        columns = {f"logit_{value}": np.asarray(logits)[:, k] for k, value in enumerate(self.classes)}
        return Predictions(self.frame.assign(**columns), self.classes)

    @property
    def logits(self) -> Float[np.ndarray, "n K"]:
        """Unnormalised log-probabilities, float64 [n, K]."""
        return self.frame[[f"logit_{value}" for value in self.classes]].to_numpy(np.float64)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Class index of each row, -1 where it is unknown, [n]."""
        return self.frame["label"].to_numpy(np.int64)

    @property
    def probabilities(self) -> Float[np.ndarray, "n K"]:
        """Softmax of the logits, [n, K]."""
        return np.exp(log_softmax(self.logits))

    @property
    def probability_columns(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Probability of each class, as columns for a person to read: probability_<class>."""
        return {f"probability_{value}": self.probabilities[:, k].round(6) for k, value in enumerate(self.classes)}

    @property
    def losses(self) -> Float[np.ndarray, " n"]:
        """Log-loss of each row in nats, NaN where the label is unknown, [n]."""
        losses = -log_softmax(self.logits)[np.arange(len(self.frame)), self.labels]
        return np.where(self.labels >= 0, losses, np.nan)
