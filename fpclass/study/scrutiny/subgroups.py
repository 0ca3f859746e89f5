"""Subgroups of a study: its ensemble, cross-fitted and calibrated, on the images of each level of a column."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fpclass.report.text_tables import markdown_table
from fpclass.run.folder import Run
from fpclass.run.prepare import note_of
from fpclass.run.subgroups import judge_subgroups, read_rows
from fpclass.stats.decisions.thresholds import cross_fitted_sets
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import Ensemble
from fpclass.stats.scrutiny.subgroups import subgroup_cells
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study
from fpclass.study.test_set import OnTest


def study_subgroups(
    study: Study, predictions: OutOfFold, ensemble: Ensemble, metric: str, described: dict[str, Any]
) -> dict[str, Any] | None:
    """As `judge_subgroups`, of an ensemble; `described` is of its classes and data, as `read_model` gives it.

    Raises:
      RunError: as `read_rows`.
    """
    settings = study.configs[study.baseline]
    if not settings.evaluate.subgroups:
        return None
    cohort = predictions.cross_fitted
    calibrated, _, _ = cross_fitted_calibration(ensemble.log_probabilities, cohort, settings.study.calibration)
    sets, _, _ = cross_fitted_sets(calibrated, cohort, settings.study.miss_rate, settings.study.sets)
    rows = read_rows(Run(study.folder, settings), predictions.filenames, settings.evaluate.subgroups)
    return judge_subgroups(
        study.folder,
        rows,
        calibrated,
        cohort,
        settings,
        metric=metric,
        is_covered=sets[np.arange(len(cohort)), cohort.labels],
        of="the ensemble, cross-fitted",
        note=note_of(described["is_synthetic"]),
    )


def judge_test_subgroups(study: Study, test: OnTest, metric: str, note: str) -> OnTest:
    """The same ensemble on each level of a column among the test images: into subgroups_test.csv and its figure.

    Raises:
      RunError: as `read_rows`.
    """
    settings = study.configs[study.baseline]
    if not settings.evaluate.subgroups:
        return test
    judged = test.judged
    rows = read_rows(Run(study.folder, settings), judged.filenames, settings.evaluate.subgroups)
    report = judge_subgroups(
        study.folder, rows, test.logits, judged.cohort, settings, metric=metric, is_covered=test.is_covered,
        of="the ensemble, test images", suffix="_test", note=note,
    )  # fmt: skip
    return dataclasses.replace(test, subgroups=report)


def subgroup_section(report: dict[str, Any] | None, called: str = "") -> dict[str, str]:
    """The section of study.md by its title; nothing where no subgroups are asked for.

    Args:
      called: what these images are called, and the ending of their files; "" for those that the study is judged on.
    """
    if not report:
        return {}
    suffix, of, how = (f"_{called}", f", {called} images", "") if called else ("", "", ", cross-fitted and calibrated")
    about = (
        f"Of the ensemble{how}; a difference is of a level and all other images, of this ensemble as it is. ECE is "
        f"above zero by chance alone; sets are the conformal ones, a person weighs 1. All figures: "
        f"subgroups{suffix}.csv."
    )
    has_levels = any(column["levels"] for column in report["columns"].values())
    picture = ["", f"![subgroups{suffix}](figures/subgroups{suffix}.png)"] if has_levels else []
    return {f"Subgroups{of}": "\n".join([about, "", *markdown_table(subgroup_cells(report)), *picture])}
