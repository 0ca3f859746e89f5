"""Subgroups: how good, calibrated and covered predictions are for the images of each level of a column.

A column is anything that is known of the images: age band, hand, finger, sensor, site, size. Numbers with many values
are cut into bands of equally many images. Differences are of a level and all other images; people are drawn for both at
once, so a person with images in both counts in both. The network is taken as it is: a difference is one of this
network's predictions, and another training may have another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fpclass.stats.bounds import MIN_DEFINED, NEGLIGIBLE, is_within_classes, resampled_bounds, scale_of, support_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.family import holm
from fpclass.stats.decisions.report import coverage_by_group
from fpclass.stats.draws import Weights
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval
from fpclass.stats.metrics import Logits, log_softmax
from fpclass.stats.probabilities.reliability import expected_calibration_error
from fpclass.stats.weighted_metrics import make_weighted_metrics, weighted_mean

MAX_LEVELS = 20
"""Different values above which numbers are cut into bands, and other values have no subgroups."""
MAX_NUMBERS = 6
"""The same for whole numbers, which may be codes of a scanner or a finger."""
NUM_BANDS = 4
EMPTY = "(empty)"
"""The level of images whose cell is empty."""
UNITS = {
    "image_size": "pixels (width x height)",
    "image_width": "pixels",
    "image_height": "pixels",
}
"""Of the columns that every audited table makes of itself (`fpclass.data.table.MEASURED`) and that are numbers."""
MIN_GROUPS = 5
"""People that a level, and the others, need for a test (chosen): a variance over fewer is hardly known."""


@dataclasses.dataclass(frozen=True)
class Levels:
    """The subgroups that a column makes.

    Attributes:
      names: of the levels, in the order in which tables show them; () where there are no subgroups.
      codes: level of each image [N].
      note: how numbers were cut, or why there are no subgroups; "" for plain values.
    """

    names: tuple[str, ...]
    codes: Int[np.ndarray, " n"]
    note: str = ""


def levels_of(values: Sequence[str], groups: Int[np.ndarray, " n"]) -> Levels:
    """Divides images by the cells of a column.

    Args:
      values: cell of each image [N], "" for an empty one.
      groups: number of each image's group [N].
    """
    texts = np.array([str(value).strip() for value in values], object)
    is_empty = texts == ""
    nothing = np.zeros(len(texts), np.int64)
    distinct = sorted(set(texts[~is_empty]))
    numbers = [_number(text) for text in distinct]
    if not distinct:
        return Levels((), nothing, "the column is empty for all of these images")
    if all(number is not None for number in numbers):
        is_whole = all(float(number or 0).is_integer() for number in numbers)
        if len(distinct) > (MAX_NUMBERS if is_whole else NUM_BANDS):
            return _bands(texts, is_empty)
        distinct = sorted(distinct, key=float)
    if len(distinct) == 1 and not is_empty.any():
        return Levels((), nothing, f"all of these images have {distinct[0]!r}")
    if len(distinct) > MAX_LEVELS:
        num_groups = len(np.unique(groups))
        per = "a level per image" if len(distinct) == len(texts) else f"{len(distinct)} levels"
        per = f"a level per group ({num_groups})" if len(distinct) == num_groups < len(texts) else per
        return Levels(
            (), nothing, f"the column has {per} of {len(texts)} images; at most {MAX_LEVELS} can be told apart"
        )
    names = (*distinct, *((EMPTY,) if is_empty.any() else ()))
    index = {name: k for k, name in enumerate(names)}
    return Levels(names, np.array([index[text or EMPTY] for text in texts], np.int64))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bands(texts: np.ndarray, is_empty: Bool[np.ndarray, " n"]) -> Levels:
    """Numbers, cut at the quantiles of these images; where many are equal there are fewer bands."""
    numbers = np.array([float(text or "nan") for text in texts])
    known = numbers[~is_empty]
    inner = np.quantile(known, np.arange(1, NUM_BANDS) / NUM_BANDS, method="inverted_cdf")
    edges = np.unique(inner[inner < known.max()])
    codes = np.searchsorted(edges, np.where(is_empty, -np.inf, numbers), side="left")
    names = []
    for band in range(len(edges) + 1):
        inside = numbers[(codes == band) & ~is_empty]
        low, high = (f"{bound:.6g}" for bound in (inside.min(), inside.max()))
        names.append(low if low == high else f"{low} to {high}")
    if is_empty.any():
        codes = np.where(is_empty, len(names), codes)
        names.append(EMPTY)
    if len(names) == 1:
        return Levels((), np.zeros(len(texts), np.int64), f"nearly all of these images have {names[0]!r}")
    return Levels(tuple(names), codes, f"numbers, cut into {len(edges) + 1} bands of about equally many images")


def subgroup_report(
    logits: Logits,
    cohort: Cohort,
    columns: Mapping[str, Sequence[str]],
    metric: str,
    bootstrap: Bootstrap,
    is_covered: Bool[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Every column's subgroups; their differences are one family of tests, adjusted by Holm.

    Args:
      logits: [N, K], calibrated if there is a calibration.
      columns: by name, the cell of each image [N].
      metric: one of `fpclass.stats.weighted_metrics.OVERALL_METRICS`, or one of a class, from `of_class`.
      is_covered: whether the conformal set of each image holds its class [N]; None where there are no sets.

    Returns:
      A dict that JSON can hold: metric; confidence; groups_are; num_tests; columns, by name: note (how numbers were
      cut, or why there are no levels) and levels, each with name, num_images, num_groups, score, accuracy, ece (with
      expected_if_calibrated), overconfidence (mean confidence less accuracy), coverage (None without sets; a person
      weighs 1), difference (the score less that of all other images, with an interval), p_value and p_holm (both None
      where a level, or the others, have fewer than `MIN_GROUPS` people).

    Raises:
      DataError: as `check_predictions`.
    """
    logits = cohort.check(logits)
    result: dict[str, Any] = {"metric": metric, "confidence": bootstrap.confidence, "groups_are": cohort.groups_are}
    result["columns"] = {}
    tested: list[dict[str, Any]] = []
    for name, values in columns.items():
        levels = levels_of(values, cohort.groups)
        described = _describe_levels(logits, cohort, levels, metric, bootstrap, is_covered)
        result["columns"][name] = {"note": levels.note, "levels": described}
        # Of two levels each is the rest of the other: one test.
        tested += described[:1] if len(described) == 2 else described
    for level, p_holm in zip(tested, holm([level["p_value"] for level in tested]), strict=True):
        level["p_holm"] = p_holm
    for column in result["columns"].values():
        if len(column["levels"]) == 2:
            column["levels"][1]["p_holm"] = column["levels"][0]["p_holm"]
    result["num_tests"] = sum(level["p_value"] is not None for level in tested)
    return result


def _describe_levels(
    logits: Logits,
    cohort: Cohort,
    levels: Levels,
    metric: str,
    bootstrap: Bootstrap,
    is_covered: Bool[np.ndarray, " n"] | None,
) -> list[dict[str, Any]]:
    confidences = np.exp(log_softmax(logits).max(axis=1))
    is_right = (logits.argmax(axis=1) == cohort.labels).astype(float)
    described = []
    for k, name in enumerate(levels.names):
        rows = np.flatnonzero(levels.codes == k)
        inside = cohort.take(rows)
        level: dict[str, Any] = {"name": name, "num_images": len(rows), "num_groups": inside.num_groups}
        level["score"] = _score(logits[rows], inside, metric, bootstrap).to_json()
        means = {"accuracy": is_right[rows], "overconfidence": (confidences - is_right)[rows]}
        for measure, of_images in means.items():
            estimate = bootstrap.estimate(
                lambda weights, of_images=of_images: weighted_mean(weights, of_images),
                inside,
                scale="proportion" if measure == "accuracy" else "difference",
            )
            level[measure] = estimate.to_json()
        level["ece"] = expected_calibration_error(logits[rows], inside, bootstrap)
        level["coverage"] = None
        if is_covered is not None:
            level["coverage"] = coverage_by_group(is_covered[rows], inside, bootstrap).to_json()
        described.append(level | _difference(logits, cohort, levels.codes == k, metric, bootstrap))
    return described


def _score(logits: Logits, cohort: Cohort, metric: str, bootstrap: Bootstrap) -> Interval:
    """The metric of a level's images; nothing where it is undefined, as the area under the curve of one class is."""
    evaluate = make_weighted_metrics(logits, cohort.labels, [metric])
    value = float(evaluate(np.ones((1, len(cohort))))[metric][0])
    if math.isnan(value):
        return UNDEFINED
    within = is_within_classes(metric)
    drawn = bootstrap.resample(lambda weights: evaluate(weights)[metric], cohort, within_classes=within)
    support, scale = support_of(metric, cohort), scale_of(metric)
    return Interval(value, *resampled_bounds(value, drawn, bootstrap.confidence, support, scale))


def _difference(
    logits: Logits, cohort: Cohort, is_inside: Bool[np.ndarray, " n"], metric: str, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The score of a level less that of the others: difference with its interval, p_value and a place for p_holm.

    The p value is of a t-test with the bootstrap's standard error, whose degrees of freedom are the effective
    number of people of the smaller side less one.
    """
    from scipy import stats

    nothing = {"difference": UNDEFINED.to_json(), "p_value": None, "p_holm": None}
    sides = [np.flatnonzero(is_inside), np.flatnonzero(~is_inside)]
    num_groups = min(len(np.unique(cohort.groups[rows])) for rows in sides)
    if num_groups < 2:
        return nothing
    freedom = max(1.0, min(cohort.effective_groups(rows) for rows in sides) - 1)
    evaluators = [make_weighted_metrics(logits[rows], cohort.labels[rows], [metric]) for rows in sides]

    def evaluate(weights: Weights) -> np.ndarray:
        # A resample without any image of one side says nothing of it.
        values = [of(weights[:, rows])[metric] for of, rows in zip(evaluators, sides, strict=True)]
        return values[0] - values[1]

    value = float(evaluate(np.ones((1, len(cohort))))[0])
    drawn = bootstrap.resample(evaluate, cohort, within_classes=is_within_classes(metric))
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(drawn) or len(defined) < MIN_DEFINED * len(drawn):
        return nothing | {"difference": Interval(None if math.isnan(value) else value).to_json()}
    error = float(defined.std()) * math.sqrt((freedom + 1) / freedom)
    half = float(stats.t.ppf((1 + bootstrap.confidence) / 2, freedom)) * error
    if error < NEGLIGIBLE and scale_of(metric) == "proportion":  # nobody yet is not nobody at all
        half = math.hypot(*(support_of(metric, cohort.take(rows)).unseen(bootstrap.confidence) for rows in sides))
    is_tested = num_groups >= MIN_GROUPS and error > NEGLIGIBLE
    p_value = float(2 * stats.t.sf(abs(value) / error, freedom)) if is_tested else None
    return {"difference": Interval(value, value - half, value + half).to_json(), "p_value": p_value, "p_holm": None}


def title_of(column: str) -> str:
    """What a column is called where people read it: with its unit, where that is known."""
    return f"{column} in {UNITS[column]}" if column in UNITS else column


def subgroup_findings(report: Mapping[str, Any]) -> list[str]:
    """What there is to say of the subgroups, a line per column.

    Args:
      report: from `subgroup_report`.
    """
    lines, metric = [], str(report["metric"]).replace("_", " ")
    for name, column in report["columns"].items():
        levels, name = column["levels"], title_of(name)
        if not levels:
            lines.append(f"subgroups by {name}: none, {column['note']}")
            continue
        scored = [level for level in levels if level["score"]["value"] is not None]
        text = f"subgroups by {name} ({column['note'] or f'{len(levels)} levels'}): "
        if not scored:
            lines.append(f"{text}{metric} is undefined in all of them")
            continue
        ordered = sorted(scored, key=lambda level: level["score"]["value"])
        low, high = (
            f"{level['name']} {Interval.of(level['score'])} ({level['num_groups']} {report['groups_are']})"
            for level in (ordered[0], ordered[-1])
        )
        text += f"{metric} from {low} to {high}"
        alpha = 1 - report["confidence"]
        found = [level for level in levels if level["p_holm"] is not None and level["p_holm"] < alpha]
        tested = [level for level in levels if level["p_value"] is not None]
        if found:
            shown = ", ".join(
                f"{level['name']} by {Interval.of(level['difference']):+} (p {level['p_holm']:.3f})" for level in found
            )
            text += f"; different from the others, by Holm over all {report['num_tests']} tests: {shown}"
        elif tested:
            smallest = min(level["p_holm"] for level in tested)
            text += f"; no level differs detectably from the others (smallest p by Holm {smallest:.2f})"
        elif all(level["difference"]["value"] == 0 for level in levels):
            text += "; no difference between any of these images"
        else:
            text += f"; not tested: it takes {MIN_GROUPS} {report['groups_are']} in a level and in the others"
        lines.append(text)
    return lines


def subgroup_cells(report: Mapping[str, Any]) -> list[list[str]]:
    """The table of all levels, its header first."""
    metric = str(report["metric"]).replace("_", " ")
    header = [
        "column",
        "level",
        str(report["groups_are"]),
        "images",
        metric,
        "less the others",
        "p (Holm)",
        "ECE",
        "by chance",
    ]
    rows = [[*header, "confidence less accuracy", "coverage of sets"]]
    for name, column in report["columns"].items():
        if not column["levels"]:
            rows.append([title_of(name), f"none: {column['note']}", *[""] * (len(rows[0]) - 2)])
        for level in column["levels"]:
            p = level["p_holm"]
            rows.append(
                [
                    *(title_of(name), level["name"], str(level["num_groups"]), str(level["num_images"])),
                    str(Interval.of(level["score"])),
                    format(Interval.of(level["difference"]), "+"),
                    "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
                    str(Interval.of(level["ece"])),
                    f"{level['ece']['expected_if_calibrated']:.3f}",
                    format(Interval.of(level["overconfidence"]), "+"),
                    str(Interval.of(level["coverage"])) if level["coverage"] else "-",
                ]
            )
    return rows


def subgroup_records(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same with every figure, a dict per level, for a CSV."""
    records = []
    for name, column in report["columns"].items():
        for level in column["levels"]:
            record = {"column": name, "level": level["name"], "note": column["note"], "metric": report["metric"]}
            record |= {"num_people": level["num_groups"], "num_images": level["num_images"]}
            for measure in ("score", "difference", "accuracy", "overconfidence", "ece", "coverage"):
                record |= Interval.of(level[measure] or UNDEFINED.to_json()).columns(measure)
            record |= {"ece_by_chance": level["ece"]["expected_if_calibrated"]}
            records.append(record | {"p_value": level["p_value"], "p_holm": level["p_holm"]})
    return records
