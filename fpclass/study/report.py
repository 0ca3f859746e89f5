"""What a study says, in the three forms it takes: on the terminal, as CSV, as Markdown."""

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

from fpclass.stats.comparison import Comparison
from fpclass.stats.scores import Inflation, Score
from fpclass.stats.selection import Ensemble, Selection

Cells = list[str]


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """A config in the table of a study.

    Attributes:
      name: of the config.
      score: mean over its members, with interval; None if it failed.
      members: score of each member [F, S]; None if it failed.
      comparison: with the baseline; None for the baseline itself, for what failed, and where the baseline failed.
      failure: why it failed, "" if it did not.
      is_baseline: whether it is what the others are compared with.
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
    records = []
    for row in rows:
        record: dict[str, Any] = {"config": row.name, "metric": metric, "data": source}
        record |= (
            dataclasses.asdict(row.score) if row.score else dict.fromkeys(f.name for f in dataclasses.fields(Score))
        )
        compared = dataclasses.asdict(row.comparison) if row.comparison else {}
        record |= {f.name: compared.get(f.name) for f in dataclasses.fields(Comparison)}
        records.append(record | {"verdict": row.verdict})
    return pd.DataFrame(records)


@dataclasses.dataclass(frozen=True)
class StudyReport:
    """All that a study found.

    Attributes:
      rows: the table, the baseline first.
      metric: what configs are compared by.
      confidence: coverage of all intervals.
      note: what has to stand beside every figure, such as that the data are synthetic.
      source: of the data.
      num_images: labelled ones, N.
      num_people: they are of; as many as images where none are known.
      num_folds: F.
      num_seeds: S.
      choice: the best config; None where there is one only.
      ensemble: over the configs.
      ensemble_scores: from `evaluate_predictions`.
      calibration: from `calibration_report`.
      decisions: from `decision_report`.
      inflations: by config that was also trained on image-random folds.
      failed_splits: why such a training failed, by config.
    """

    rows: list[StudyRow]
    metric: str
    confidence: float
    note: str
    source: str
    num_images: int
    num_people: int
    num_folds: int
    num_seeds: int
    choice: Selection | None
    ensemble: Ensemble
    ensemble_scores: dict[str, Any]
    calibration: dict[str, Any]
    decisions: dict[str, Any]
    inflations: dict[str, Inflation]
    failed_splits: dict[str, str]

    @property
    def units(self) -> str:
        """What intervals resample."""
        return "people" if self.num_people < self.num_images else "images"


def to_text(report: StudyReport, folder: pathlib.Path) -> str:
    """The whole for the terminal."""
    header, *body = _cells(report)
    widths = [max(len(cells[i]) for cells in (header, *body)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (header, *body)
    ]
    table = [lines[0], "-" * max(map(len, lines[:2])), *lines[1:]]
    written = [
        "",
        f"written     {folder / 'study.md'}, study.csv, results.json, figures/study.png",
        f"            {folder / 'out_of_fold.csv'}, test_predictions.csv, members/",
    ]
    findings = [textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in _findings(report)]
    return "\n".join(["", *table, "", *findings, *written])


def to_markdown(report: StudyReport, sections: Mapping[str, str] | None = None) -> str:
    """study.md; further sections by their titles."""
    header, *body = [[cell.replace("|", "\\|") for cell in cells] for cells in _cells(report)]
    table = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *body)]
    findings = [f"- {line}" for line in _findings(report)]
    pictures = [f"![{name}](figures/{name}.png)" for name in ("study", "reliability", "risk_coverage")]
    further = [line for title, text in (sections or {}).items() for line in (f"## {title}", "", text, "")]
    return "\n".join(["# Study", "", *table, "", *findings, "", *pictures, "", *further])


def _findings(report: StudyReport) -> list[str]:
    """What there is to say beside the table, a line each."""
    metric = report.metric.replace("_", " ")
    lines = [report.note] if report.note else []
    lines.append(
        f"{report.source}: {report.num_images} images"
        + (f" of {report.num_people} people" if report.units == "people" else "")
        + f", {report.num_folds} folds x {report.num_seeds} seeds; {100 * report.confidence:g} % intervals: of the "
        f"mean by resampling {report.units}, which takes the trained members as given and is somewhat narrow, of the "
        "difference and p by a test "
        "corrected for overlapping training sets and, by Holm, for the length of the table (docs/statistics.md)"
    )
    choice = report.choice
    if choice:
        counts = Counter(choice.chosen_per_fold).most_common()
        lines.append(
            f"best config: {choice.chosen}, {metric} {number(choice.optimistic)} "
            f"{interval(choice.optimistic_low, choice.optimistic_high)} OPTIMISTIC (chosen on the same people); of the "
            f"choice itself expect {number(choice.cross_fitted)} "
            f"{interval(choice.cross_fitted_low, choice.cross_fitted_high)} (each fold chosen for by the others: "
            f"{', '.join(f'{name} {count}x' for name, count in counts)})"
        )
    weights = ", ".join(f"{weight:.2f} {name}" for name, weight in report.ensemble.weights.items() if weight)
    scores = report.ensemble_scores
    lines.append(
        f"ensemble: {weights}; cross-fitted: "
        + ", ".join(f"{name.replace('_', ' ')} {_score(scores[name])}" for name in ("accuracy", "roc_auc", "log_loss"))
    )
    before, after = report.calibration["before"], report.calibration["after"]
    temperature = report.calibration["temperature"]
    scaled = f"temperature {temperature:.2f}: " if temperature else f"{report.calibration['method']}: "
    lines.append(
        f"calibration of the ensemble, {scaled}ECE {_score(before['ece'])} to {_score(after['ece'])} "
        f"({after['ece']['expected_if_calibrated']:.3f} by chance alone), log-loss {_score(before['log_loss'])} to "
        f"{_score(after['log_loss'])}"
    )
    lines += _decisions(report.decisions)
    for name, found in report.inflations.items():
        lines.append(
            f"the leak: {name} on image-random folds {number(found.random)}, on folds of people "
            f"{number(found.grouped)}: inflated by {number(found.difference, signed=True)} "
            f"{interval(found.low, found.high, signed=True)}"
        )
    lines += [f"the leak: {name} on image-random folds FAILED: {why}" for name, why in report.failed_splits.items()]
    return lines


def _decisions(decisions: dict[str, Any]) -> list[str]:
    lines = (
        [
            f"costs: decided by them {_score(decisions['costs']['cost'])} per image, "
            f"{_score(decisions['costs']['saved'])} less than the most probable class"
        ]
        if decisions["costs"]
        else []
    )
    lines += [
        f"threshold for {objective.replace('_', ' ')}: {found['threshold']:.3f}, cross-fitted gain over one half "
        f"{_score(found['gain'], signed=True)}"
        for objective, found in decisions["thresholds"].items()
        if objective != "cost"
    ]
    abstention, conformal = decisions["abstention"], decisions["conformal"]
    sure = abstention["smallest_confidence"]
    lines.append(
        f"abstention for at most {100 * abstention['max_risk']:g} % errors: "
        + (f"decide from confidence {sure:.2f} on" if sure <= 1 else "no confidence is high enough, decide nothing")
        + f"; cross-fitted it decides {_score(abstention['coverage'])} of the images and errs in "
        f"{_score(abstention['risk'])} of those"
    )
    lines.append(
        f"conformal sets that promise {100 * conformal['nominal']:g} %: cover {_score(conformal['person_coverage'])} "
        f"by person, {_score(conformal['mean_set_size'])} classes on average"
    )
    return lines


def _score(value: dict[str, Any], *, signed: bool = False) -> str:
    bounds = interval(value["low"], value["high"], signed=signed)
    return f"{number(value['value'], signed=signed)} {bounds}".rstrip()


def number(value: float | None, *, signed: bool = False) -> str:
    """Three digits, with a sign where it is a difference; a dash where undefined."""
    if value is None or np.isnan(value):
        return "-"
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`[0.612, 0.689]`, or nothing where there is none."""
    return "" if low is None or high is None else f"[{number(low, signed=signed)}, {number(high, signed=signed)}]"


def _cells(report: StudyReport) -> list[Cells]:
    """The table, its header first."""
    level = f"{100 * report.confidence:g} %"
    metric = report.metric.replace("_", " ")
    table = [["config", metric, "sd", level, "difference", level, "p (Holm)", "verdict"]]
    for row in report.rows:
        score, compared = row.score, row.comparison
        cells = [row.name]
        cells += [number(score.mean), number(score.sd), interval(score.low, score.high)] if score else ["-", "", ""]
        if compared:
            cells.append(number(compared.difference, signed=True))
            cells.append(interval(compared.t_low, compared.t_high, signed=True))
            is_tiny = compared.p_holm is not None and compared.p_holm < 0.001
            cells.append("<0.001" if is_tiny else number(compared.p_holm))
        else:
            cells += ["", "", ""]
        table.append([*cells, row.verdict])
    return table
