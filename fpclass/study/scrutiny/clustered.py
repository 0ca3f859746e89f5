"""McNemar's and DeLong's tests of a study's configs against the baseline, in their clustered forms, for reviewers."""

from __future__ import annotations

from typing import Any

from fpclass.config import Config
from fpclass.stats.probabilities.ensembling import average_members
from fpclass.stats.scrutiny.clustered import clustered_tests
from fpclass.study.out_of_fold import OutOfFold

P_COLUMNS = {"p_mcnemar_clustered": "mcnemar_clustered", "p_auc_clustered": "delong_clustered"}
"""Columns of study.csv, and the test of each; none is adjusted for the length of the table."""


def tests_for_reviewers(predictions: OutOfFold, baseline: str, settings: Config) -> dict[str, dict[str, Any]]:
    """All of `clustered_tests` by config, of the average over its seeds; {} where the baseline failed."""
    if baseline not in predictions.logits:
        return {}
    averaged = {name: average_members(of, settings.predict.averaging) for name, of in predictions.logits.items()}
    return {
        name: clustered_tests(values, averaged[baseline], predictions.cohort)
        for name, values in averaged.items()
        if name != baseline
    }


def p_columns(tests: dict[str, Any] | None) -> dict[str, float | None]:
    """A config's columns of study.csv; None for the baseline, what failed, and areas of more than two classes."""
    return {column: ((tests or {}).get(name) or {}).get("p_value") for column, name in P_COLUMNS.items()}
