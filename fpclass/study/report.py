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

from fpclass.data.files import some_of
from fpclass.experiment.unlabelled import TRANSDUCTIVE
from fpclass.report.text_tables import align_columns, markdown_table
from fpclass.run.warnings import FEW_OF_A_CLASS
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import Inflation, Score
from fpclass.stats.comparison.selection import Selection
from fpclass.stats.comparison.verdicts import Comparison
from fpclass.stats.decisions.promises import report_key
from fpclass.stats.decisions.thresholds import MARGINAL, SETS, name_threshold
from fpclass.stats.intervals import FEW_GROUPS, Interval, format_number
from fpclass.stats.probabilities.ensembling import Ensemble
from fpclass.stats.probabilities.fold_average import UNSHARPENED, Sharpening
from fpclass.study.evidence.referee import Referee
from fpclass.study.test_set import OnTest

FOLD_TEST = (
    "they hold {whose}, overlapping training sets and the noise of training; p is adjusted for the length of the table "
    "(docs/statistics.md)"
)
SPLIT_TEST = (
    "they hold {whose} and the noise of seeds, and are about trainings on these training images: how much others would "
    "have changed, one split cannot tell; p is adjusted for the length of the table (docs/statistics.md)"
)
LARGE_FOLD = 1.5
"""How much larger than the smallest fold the largest may be without a word."""
ONE_SEED = (
    "one seed: the noise of training is known from the folds alone, which hides differences that three seeds "
    "(`study --resume --seeds=3 --workdir=` this folder) would show"
)


LEFT_OUT = "left out"
"""A reason that begins so is none of a failure: somebody decided."""


def failure_of(reason: str) -> str:
    """A reason why a config is not in a table, in its place."""
    return reason if reason.startswith(LEFT_OUT) else f"FAILED: {reason}"


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """A config in the table of a study; score and members are None, and failure a reason, where it failed.

    Attributes:
      score: mean over its members, with interval.
      members: score of each member [F, S].
      comparison: None for the baseline itself, for what failed, and where the baseline failed.
      is_transductive: it learns from rows to predict.
    """

    name: str
    score: Score | None
    members: Float[np.ndarray, "f s"] | None
    comparison: Comparison | None
    failure: str = ""
    is_baseline: bool = False
    is_transductive: bool = False

    @property
    def verdict(self) -> str:
        """In words."""
        if self.failure:
            return failure_of(self.failure)
        return f"{self._compared}; {TRANSDUCTIVE}" if self.is_transductive else self._compared

    @property
    def _compared(self) -> str:
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
      ensemble_score: of the calibrated ensemble, as the table has those of configs: mean over folds by the metric.
      ensemble_scores: from `evaluate_predictions`, of all images at once.
      inflations: by config that was also trained on image-random folds.
      failed_splits: why such a training failed, by config.
      looks: what there is to say of earlier judgements, a line each.
      transductive: what there is to say of configs that learn from rows to predict, by name.
      sharpening: of the average over folds, for new images.
      sets: which conformal sets new images get.
      predictions_file: name of the table of predictions of labelled images.
      subgroups: of the ensemble, from `subgroup_report`; None where none are asked for.
      test: how good they are on labelled test images; None where there are none.
      referee: by person, as evidence, and in terms of diagnosis.
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
    ensemble_score: Interval
    ensemble_scores: dict[str, Any]
    calibration: dict[str, Any]
    decisions: dict[str, Any]
    inflations: dict[str, Inflation]
    failed_splits: dict[str, str]
    looks: Sequence[str] = ()
    transductive: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sharpening: Sharpening = UNSHARPENED
    sets: str = MARGINAL
    predictions_file: str = "out_of_fold.csv"
    test: OnTest | None = None
    referee: Referee | None = None
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
        f"{100 * report.confidence:g} % intervals of means and differences: "
        + (FOLD_TEST if has_folds else SPLIT_TEST).format(whose=cohort.groups_are)
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
    counts = np.bincount(cohort.labels, minlength=len(cohort.class_names))
    few = [f"{name} ({n})" for name, n in zip(cohort.class_names, counts, strict=False) if n < FEW_OF_A_CLASS]
    if few:
        lines.append(
            f"fewer than {FEW_OF_A_CLASS} judged images of a class: {some_of(few)}; its precision and recall are a "
            "matter of chance, whatever the scores of all: add images of it, or leave it out"
        )
    if has_folds and report.num_seeds == 1 and len(report.rows) > 1:
        lines.append(ONE_SEED)
    lines += [*report.looks, *report.transductive.values()]
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
    lines += _calibration(report.calibration)
    if words := report.sharpening.words:
        lines.append(f"new images: {words}")
    lines += _decisions(report.decisions, report.cohort)
    lines += _sets(report.decisions, report.sets, report.cohort)
    lines += report.referee.findings if report.referee else []
    for name, inflation in report.inflations.items():
        lines.append(
            f"the leak: {name} on image-random folds {format_number(inflation.random)}, on folds of people "
            f"{format_number(inflation.grouped)}: inflated by {inflation.difference:+}"
        )
    lines += (report.subgroups or {}).get("findings", [])
    lines += [f"the leak: {name} on image-random folds FAILED: {why}" for name, why in report.failed_splits.items()]
    return lines


def _calibration(calibration: dict[str, Any]) -> list[str]:
    """What was calibrated, and how far off probabilities are before and after."""
    before, after, temperature = calibration["before"], calibration["after"], calibration["temperature"]
    ece, loss = (f"{Interval.of(before[key])} to {Interval.of(after[key])}" for key in ("ece", "log_loss"))
    by_chance = after["ece"]["expected_if_calibrated"]
    scaled = f"temperature {temperature:.2f}" if temperature else calibration["method"]
    if calibration["is_at_bound"]:
        scaled += " (the bound of its range: the best one lies beyond)"
    line = f"calibration of the ensemble, {scaled}: ECE {ece} ({by_chance:.3f} by chance alone)"
    if of_class := after.get("of_class"):
        was, by_chance = before["of_class"]["ece"], of_class["ece"]["expected_if_calibrated"]
        line += (
            f" of the predicted class, {Interval.of(was)} to {Interval.of(of_class['ece'])} ({by_chance:.3f}) of the "
            f"probability of {of_class['name']!r}"
        )
    return [f"{line}, log-loss {loss}"]


def _decisions(decisions: dict[str, Any], cohort: Cohort) -> list[str]:
    """Costs, thresholds and abstention."""
    lines, groups_are = [], cohort.groups_are
    if costs := decisions["costs"]:
        lines.append(
            f"costs: decided by them {Interval.of(costs['cost'])} per image, {Interval.of(costs['saved'])} less than "
            "the most probable class"
        )
    lines += [
        f"{name_threshold(objective, cohort)}: {fitted['threshold']:.3f}, cross-fitted gain over one half "
        f"{Interval.of(fitted['gain']):+}"
        for objective, fitted in decisions["thresholds"].items()
        if objective != "cost"
    ]
    abstention = decisions["abstention"]
    sure, needed = abstention["smallest_confidence"], abstention["people_needed"]
    promise = f"at most {100 * abstention['max_risk']:g} % errors with {100 * abstention['confidence']:g} % confidence"
    if sure is None:
        why = f"; it takes {needed} decided {groups_are} without an error, or more" if needed else ""
        lines.append(f"abstention: no threshold can promise {promise}{why}; nothing is abstained from")
        return lines
    lines.append(
        f"abstention: from confidence {sure:.3f} on, {promise} ({abstention['num_errors']} of "
        f"{abstention['num_people']} {groups_are} wrong{', an image of each' * (groups_are == 'people')}: at most "
        f"{abstention['high']:.3f}); "
        f"cross-fitted it decides {Interval.of(abstention['coverage'])} of the images and errs in "
        f"{Interval.of(abstention['risk'])} of those"
    )
    return lines


def _sets(decisions: dict[str, Any], used: str, cohort: Cohort) -> list[str]:
    """Both kinds of conformal sets, and the class that each covers least."""
    lines = []
    for kind in SETS:
        sets = decisions[report_key(kind)]
        covered, size = (Interval.of(sets[key]) for key in ("group_coverage", "mean_set_size"))
        known = [entry for entry in sets["per_class"] if entry["group_coverage"]["value"] is not None]
        least = min(known, key=lambda entry: entry["group_coverage"]["value"])
        lines.append(
            f"conformal sets that promise {100 * sets['nominal']:g} % "
            + ("of all classes together" if kind == MARGINAL else "of each class")
            + f": cover {covered} by {cohort.group_is}, least of {least['class']!r} "
            f"{Interval.of(least['group_coverage'])} ({least['num_groups']} with it); {size} classes on average"
            + ("; new images get these" * (kind == used))
        )
    return lines


def sets_markdown(report: StudyReport) -> str:
    """Coverage of each class by both kinds of sets, as a table, and what the columns are."""
    entries = [report.decisions[report_key(kind)] for kind in SETS]
    rows = [["class", f"{report.cohort.groups_are} with it"]]
    rows[0] += [cell for kind in SETS for cell in (f"covered, {kind}", f"1 - p up to, {kind}")]
    for k, first in enumerate(entries[0]["per_class"]):
        cells = [first["class"], str(first["num_groups"])]
        for sets in entries:
            quantile = sets["quantiles"][k]
            covered = Interval.of(sets["per_class"][k]["group_coverage"])
            cells += [str(covered), "always in" if quantile >= 1 else format_number(quantile)]
        rows.append(cells)
    about = (
        f"Promised: {100 * entries[0]['nominal']:g} %; marginal, of all classes together, and by class, of each. Of "
        f"the images of a class, each {report.cohort.group_is} weighing the same, so many have it in their set. A "
        f"class with too few {report.cohort.groups_are} for its promise is always in. `study.sets` says which kind new "
        "images get."
    )
    return "\n".join([about, "", *markdown_table(rows)])


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
