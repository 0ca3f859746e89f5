"""Files about errors by original class: original_classes.csv, original_pairs.csv and their figure."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

from fpclass.common import files
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import Logits
from fpclass.stats.original_classes import class_table, findings, pair_table


def write_original_classes(
    folder: pathlib.Path,
    logits: Logits,
    cohort: Cohort,
    originals: np.ndarray,
    bootstrap: Bootstrap,
    *,
    suffix: str = "",
    note: str = "",
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Writes both tables and the figure; returns the tables and their findings, a line each.

    Arguments as `class_table`; the suffix goes before the ending of each file name.
    """
    from fpclass.report.grids import original_classes
    from fpclass.report.style import save_figure

    classes = class_table(logits, cohort, originals, bootstrap)
    pairs = pair_table(logits, cohort, originals, bootstrap)
    files.write_csv(folder / f"original_classes{suffix}.csv", classes)
    files.write_csv(folder / f"original_pairs{suffix}.csv", pairs)
    save_figure(original_classes(classes, pairs, note=note), folder / f"figures/original_classes{suffix}.png")
    return classes, pairs, findings(classes, pairs, bootstrap.confidence)
