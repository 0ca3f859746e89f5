"""The report of a study: text for the terminal, a table for study.csv, Markdown for study.md."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from fpclass.report.text_tables import align_columns, markdown_table
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison import Comparison
from fpclass.stats.ensembling import Ensemble
from fpclass.stats.intervals import FEW_GROUPS, Interval, format_number
from fpclass.stats.scores import Inflation, Score
from fpclass.stats.selection import Selection
from fpclass.study.test_set import OnTest

FOLD_TEST = (
    "they hold people, overlapping training sets and the noise of training; p is adjusted for the length of the table "
    "(docs/statistics.md)"
)
SPLIT_TEST = (
    "they hold people and the noise of seeds, and are about trainings on these training images: how much others would "
    "have changed, one split cannot tell; p is adjusted for the length of the table (docs/statistics.md)"
)
LARGE_FOLD = 1.5
"""How much larger than the smallest fold the largest may be without a word."""
ONE_SEED = (
    "one seed: the noise of training is known from the folds alone, which hides differences that three seeds "
    "(--seeds=3) would show"
)


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """A config in the table of a study; score and members are None, and failure a reason, where it failed.

    Attributes:
      score: mean over its members, with interval.
      members: score of each member [F, S].
      comparison: None for the baseline itself, for what failed, and where the baseline failed.
    """

    name: str
    score: Score | None
    members: Float[np.ndarray, "f s"] | None
    comparison: Comparison | None
    failure: str = ""
    is_baseline: bool = False

    @property
    def verdict(self) -> str:
        """In words."""
        if self.failure:
            return f"FAILED: {self.failure}"
        if self.is_baseline:
            return "the baseline"
        return self.comparison.verdict if self.comparison else "not compared: the baseline failed"


def to_frame(rows: Sequence[StudyRow], metric: str, source: str) -> pd.DataFrame:
    """The table with every figure, and what data it is about, for study.csv."""
    records = [
        {"config": row.name, "metric": metric, "data": source}
        | (row.score or Score()).record()
        | (row.comparison or Comparison()).record()
        | {"verdict": row.verdict}
        for row in rows
    ]
    return pd.DataFrame(records)


@dataclasses.dataclass(frozen=True)
class StudyReport:
    """All results of a study.

    Attributes:
      rows: the table, the baseline first.
      metric: what configs are compared by.
      confidence: coverage of all intervals.
      note: disclaimer of every figure, such as that the data are synthetic.
      source: of the data.
      choice: the best config; None where there is one only.
      ensemble_scores: from `evaluate_predictions`.
      inflations: by config that was also trained on image-random folds.
      failed_splits: why such a training failed, by config.
      looks: what there is to say of earlier judgements, a line each.
      predictions_file: name of the table of predictions of labelled images.
      subgroups: of the ensemble, from `subgroup_report`; None where none are asked for.
      test: how good they are on labelled test images; None where there are none.
    """

    rows: list[StudyRow]
    metric: str
    confidence: float
    note: str
    source: str
    cohort: Cohort
    num_seeds: int
    choice: Selection | None
    ensemble: Ensemble
    ensemble_scores: dict[str, Any]
    calibration: dict[str, Any]
    decisions: dict[str, Any]
    inflations: dict[str, Inflation]
    failed_splits: dict[str, str]
    looks: Sequence[str] = ()
    predictions_file: str = "out_of_fold.csv"
    test: OnTest | None = None
    subgroups: dict[str, Any] | None = None


def to_text(report: StudyReport, folder: pathlib.Path) -> str:
    """The whole for the terminal."""
    lines = align_columns(_cells(report))
    table = [lines[0], "-" * max(map(len, lines[:2])), *lines[1:]]
    tables = [name for name in (report.predictions_file, "test_predictions.csv") if (folder / name).is_file()]
    written = [
        "",
        f"written     {folder / 'study.md'}, study.csv, results.json, checklist.md, figures/study.png",
        f"            {', '.join([*tables, 'members/'])}",
    ]
    on_test = report.test
    if on_test:
        cells = align_columns(on_test.cells(has_intervals=False))
        table += ["", "test images", *cells[:1], "-" * max(map(len, cells)), *cells[1:]]
    lines = [*_findings(report), *(on_test.findings() if on_test else [])]
    findings = [textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in lines]
    return "\n".join(["", *table, "", *findings, *written])


def to_markdown(report: StudyReport, sections: Mapping[str, str] | None = None) -> str:
    """study.md; further sections by their titles."""
    findings = [f"- {line}" for line in _findings(report)]
    pictures = [f"![{name}](figures/{name}.png)" for name in ("study", "reliability", "risk_coverage")]
    sections = dict(sections or {})
    if on_test := report.test:
        about = [f"- {line}" for line in on_test.findings()]
        of_test = "\n".join([*markdown_table(on_test.cells(has_intervals=True)), "", *about])
        sections = {"Test images": of_test} | sections
    further = [line for title, text in sections.items() for line in (f"## {title}", "", text, "")]
    return "\n".join(["# Study", "", *markdown_table(_cells(report)), "", *findings, "", *pictures, "", *further])


def _findings(report: StudyReport) -> list[str]:
    """The findings beside the table, a line each."""
    metric = report.metric.replace("_", " ")
    lines = [report.note] if report.note else []
    cohort, choice = report.cohort, report.choice
    has_folds = cohort.num_folds > 1
    lines.append(
        f"{report.source}: {len(cohort)} {'' if has_folds else 'validation '}images"
        + (f" of {cohort.num_groups} people" if cohort.groups_are == "people" else "")
        + f", {f'{cohort.num_folds} folds' if has_folds else 'one split'} x {report.num_seeds} seeds; "
        f"{100 * report.confidence:g} % intervals of means and differences: " + (FOLD_TEST if has_folds else SPLIT_TEST)
    )
    sizes = np.bincount(cohort.folds)
    if sizes.max() > LARGE_FOLD * sizes.min():
        share = np.bincount(cohort.groups).max() / len(cohort)
        lines.append(
            f"folds of {', '.join(map(str, sorted(sizes, reverse=True)))} images: groups stay whole, and the largest "
            f"(a person, or near-duplicates in a chain, see audit.json) has {share:.0%} of all images"
        )
    effective = cohort.effective_groups()
    if effective < FEW_GROUPS:
        lines.append(
            f"few {cohort.groups_are}: they tell as much as {effective:.0f} with as many images each; intervals of so "
            f"few are rough, and differences below those that the table calls findable stay hidden"
        )
    if has_folds and report.num_seeds == 1 and len(report.rows) > 1:
        lines.append(ONE_SEED)
    lines += report.looks
    if choice:
        counts = Counter(choice.chosen_per_fold).most_common()
        lines.append(
            f"best config: {choice.chosen}, {metric} {choice.optimistic} OPTIMISTIC (chosen on the same "
            f"{cohort.groups_are}); of the choice itself expect {choice.cross_fitted} (each "
            f"{'fold' if has_folds else 'part'} chosen for by the others: "
            f"{', '.join(f'{name} {count}x' for name, count in counts)})"
        )
    weights = ", ".join(f"{weight:.2f} {name}" for name, weight in report.ensemble.weights.items() if weight)
    scores = {name: Interval.of(report.ensemble_scores[name]) for name in ("accuracy", "roc_auc", "log_loss")}
    listed = ", ".join(f"{name.replace('_', ' ')} {score}" for name, score in scores.items())
    pooled = " (of all images at once; the table has means over folds)" if has_folds else ""
    lines.append(f"ensemble: {weights}; cross-fitted: {listed}{pooled}")
    calibration = report.calibration
    ece, loss = (
        f"{Interval.of(calibration['before'][key])} to {Interval.of(calibration['after'][key])}"
        for key in ("ece", "log_loss")
    )
    temperature, by_chance = calibration["temperature"], calibration["after"]["ece"]["expected_if_calibrated"]
    scaled = f"temperature {temperature:.2f}: " if temperature else f"{calibration['method']}: "
    lines.append(f"calibration of the ensemble, {scaled}ECE {ece} ({by_chance:.3f} by chance alone), log-loss {loss}")
    lines += _decisions(report.decisions)
    for name, inflation in report.inflations.items():
        lines.append(
            f"the leak: {name} on image-random folds {format_number(inflation.random)}, on folds of people "
            f"{format_number(inflation.grouped)}: inflated by {inflation.difference:+}"
        )
    lines += (report.subgroups or {}).get("findings", [])
    lines += [f"the leak: {name} on image-random folds FAILED: {why}" for name, why in report.failed_splits.items()]
    return lines


def _decisions(decisions: dict[str, Any]) -> list[str]:
    lines = []
    if costs := decisions["costs"]:
        lines.append(
            f"costs: decided by them {Interval.of(costs['cost'])} per image, {Interval.of(costs['saved'])} less than "
            "the most probable class"
        )
    lines += [
        f"threshold for {objective.replace('_', ' ')}: {fitted['threshold']:.3f}, cross-fitted gain over one half "
        f"{Interval.of(fitted['gain']):+}"
        for objective, fitted in decisions["thresholds"].items()
        if objective != "cost"
    ]
    abstention, conformal = decisions["abstention"], decisions["conformal"]
    sure = abstention["smallest_confidence"]
    lines.append(
        f"abstention for at most {100 * abstention['max_risk']:g} % errors: "
        + (f"decide from confidence {sure:.2f} on" if sure <= 1 else "no confidence is high enough, decide nothing")
        + f"; cross-fitted it decides {Interval.of(abstention['coverage'])} of the images and errs in "
        f"{Interval.of(abstention['risk'])} of those"
    )
    covered, size = (Interval.of(conformal[key]) for key in ("group_coverage", "mean_set_size"))
    lines.append(
        f"conformal sets that promise {100 * conformal['nominal']:g} %: cover {covered} by person, {size} classes on "
        "average"
    )
    return lines


def _cells(report: StudyReport) -> list[list[str]]:
    """The table, its header first."""
    level = f"{100 * report.confidence:g} %"
    metric = report.metric.replace("_", " ")
    table = [["config", metric, "sd", level, "difference", level, "p (adjusted)", "verdict"]]
    for row in report.rows:
        score, compared = row.score, row.comparison
        cells = ["-", "", "", "", "", ""]
        if score:
            cells[:3] = format_number(score.mean.value), format_number(score.sd), score.mean.format_bounds()
        if compared:
            tested, p = compared.difference, compared.p_adjusted
            p_text = "<0.001" if p is not None and p < 0.001 else format_number(p)
            cells[3:] = format_number(tested.value, "+"), tested.format_bounds("+"), p_text
        table.append([row.name, *cells, row.verdict])
    return table
