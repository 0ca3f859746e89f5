"""Subgroups of the images that predictions are judged on: report, subgroups.csv and the forest plot."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fpclass.common import files
from fpclass.config import Config
from fpclass.data.sources import load_table
from fpclass.data.table import COLUMN, column_cells
from fpclass.errors import FpclassError, RunError
from fpclass.report.style import save_figure
from fpclass.run.folder import Run
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits
from fpclass.stats.scrutiny.subgroups import subgroup_findings, subgroup_records, subgroup_report
from fpclass.stats.weighted_metrics import metric_value


def judge_subgroups(
    folder: pathlib.Path,
    rows: Any,
    logits: Logits,
    cohort: Cohort,
    config: Config,
    *,
    metric: str = "accuracy",
    is_covered: np.ndarray | None = None,
    of: str = "",
    suffix: str = "",
    note: str = "",
) -> dict[str, Any] | None:
    """Judges the subgroups that `evaluate.subgroups` names; writes subgroups.csv and figures/subgroups.png.

    Args:
      folder: what is written goes there; the suffix goes before the ending of each file name.
      rows: of the audited table, one per image, in the order of the logits.
      logits: [N, K], calibrated if there is a calibration.
      metric: as `subgroup_report`, like is_covered.
      of: which images, for the title.

    Returns:
      The report of `subgroup_report` with findings, a line each; None where no subgroups are asked for.
    """
    names = config.evaluate.subgroups
    if not names:
        return None
    columns = {name: column_cells(rows, name) or [""] * len(rows) for name in names}
    bootstrap = Bootstrap(config.evaluate.num_resamples, config.evaluate.confidence)
    report = subgroup_report(logits, cohort, columns, metric, bootstrap, is_covered)
    report["findings"] = subgroup_findings(report)
    write_subgroups(folder, report, overall_score(logits, cohort, metric), of=of, suffix=suffix, note=note)
    return report


def overall_score(logits: Logits, cohort: Cohort, metric: str) -> Interval:
    """The score of all images, without an interval."""
    value = metric_value(logits, cohort.labels, metric)
    return Interval(None if np.isnan(value) else value)


def write_subgroups(
    folder: pathlib.Path, report: dict[str, Any], overall: Interval, *, of: str = "", suffix: str = "", note: str = ""
) -> None:
    """Writes subgroups.csv, a row per level, and the forest plot, where a column has levels."""
    from fpclass.report.forest import forest_plot

    records = subgroup_records(report)
    path = folder / f"figures/subgroups{suffix}.png"
    if not records:
        path.unlink(missing_ok=True)
        return
    files.write_csv(folder / f"subgroups{suffix}.csv", pd.DataFrame(records))
    save_figure(forest_plot(report, overall, of=of, note=note), path)


def read_rows(run: Run, filenames: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """The rows of table.csv of some images, with the columns that make subgroups.

    Those that the table was written without are read from the source, if it is still there.

    Raises:
      RunError: the table is damaged, or neither it nor the source has a column.
    """
    rows = run.read_csv("table.csv", ("filename",), text=[COLUMN + name for name in names])
    rows = rows.set_index("filename", drop=False)
    absent = [name for name in names if column_cells(rows, name) is None]
    if absent:
        try:
            listed = load_table(run.config.data, subgroups=absent).rows.set_index("filename")
        except FpclassError as error:
            raise RunError(
                f"evaluate.subgroups: {run.path('table.csv')} has no column {absent[0]!r}; {error}"
            ) from None
        columns = [COLUMN + name for name in absent]
        rows = rows.join(listed[columns]).fillna(dict.fromkeys(columns, ""))
    return rows.loc[list(filenames)].reset_index(drop=True)
