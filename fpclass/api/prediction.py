"""The answer for one image."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a run or a study says of one image.

    Attributes:
      label: name of the class that was decided for.
      probability: of that class, calibrated where it could be.
      probabilities: of every class, by name, in class order.
      details: the row that a table of several images would have: how it was calibrated and decided, and of a study what
        is promised of it (`abstain`, `set`).
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    details: dict[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, frame: pd.DataFrame, classes: Sequence[str], class_names: Sequence[str]) -> Prediction:
        """The one row of a table of predictions.

        Args:
          classes: as the source codes them, which is how columns are called.
          class_names: as labels are.
        """
        row: dict[str, Any] = {str(name): values.tolist()[0] for name, values in frame.items()}
        each = {name: float(row[f"probability_{k}"]) for k, name in zip(classes, class_names, strict=True)}
        return cls(str(row["name"]), each[row["name"]], each, row)

    def __str__(self) -> str:
        """Every class with its probability, the most probable first."""
        return f"{self.label} ({', '.join(f'{name} {share:.3f}' for name, share in self._ranked)})"

    def _repr_html_(self) -> str:
        """The classes as bars."""
        rows = []
        for name, share in self._ranked:
            bar = f'<div style="background:#4477aa;height:0.8em;width:{100 * share:.1f}%"></div>'
            cell = f"<b>{html.escape(name)}</b>" if name == self.label else html.escape(name)
            rows.append(f'<tr><td>{cell}</td><td>{share:.3f}</td><td style="width:12em">{bar}</td></tr>')
        return f"<table>{''.join(rows)}</table>"

    @property
    def _ranked(self) -> list[tuple[str, float]]:
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])
