"""What a search says at its end: what was tried, what to expect of it, what next."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fpclass.common import files
from fpclass.report.text_tables import align_columns
from fpclass.stats.intervals import Interval, format_number
from fpclass.study.study import Study

SCORES = ("accuracy", "roc_auc", "log_loss")


def summarise(study: Study) -> list[str]:
    """Lines about a study that is judged."""
    results = files.read_object(study.path("results.json"), ensemble=dict, metric=str, groups_are=str)
    frame: Any = pd.read_csv(study.path("study.csv"))
    rows = [["way", results["metric"].replace("_", " "), f"{100 * results['confidence']:g} %", ""]]
    for row in frame.to_dict("records"):
        known = {key: None if pd.isna(row[key]) else row[key] for key in ("mean", "low", "high")}
        score = Interval(known["mean"], known["low"], known["high"])
        rows.append([row["config"], format_number(score.value), score.format_bounds(), str(row["verdict"])])
    rows += _of_all(results)
    return [*align_columns(rows), "", *_of_ensemble(results, results["groups_are"])]


def _of_all(results: dict[str, Any]) -> list[list[str]]:
    """Rows of the table: the ensemble, and its answers for people."""
    metric, person = results["metric"], results.get("person", {})
    found = [("ensemble", results["ensemble"].get("score"), "what predicts; cross-fitted")]
    if "per_person" in person:
        gain = person["gain"].get(metric)
        what = f"{person['images_per_person']:.1f} images of each pooled, all at once"
        what += f": {Interval.of(gain):+}" if gain else ""
        found.append(("per person", _score(person["per_person"], metric), what))
    rows = [(name, Interval.of(values), what) for name, values, what in found if values]
    return [[name, format_number(score.value), score.format_bounds(), what] for name, score, what in rows]


def _score(scores: dict[str, Any], metric: str) -> Any:
    """The score of a metric, which may be "f1 of CLASS"; None where there is none."""
    of_class = scores.get("per_class", {}).get(metric.removeprefix("f1 of "), {})
    return scores.get(metric) or of_class.get("f1")


def _of_ensemble(results: dict[str, Any], calls: str) -> list[str]:
    """What to expect of the whole procedure."""
    ensemble = results["ensemble"]
    made_of = ", ".join(f"{weight:.2f} {name}" for name, weight in ensemble["weights"].items() if weight)
    lines = [f"to use: {made_of}, averaged over folds and calibrated"]
    scores = {name: ensemble["scores"][name] for name in SCORES}
    scores["log_loss"] = results["calibration"]["after"]["log_loss"]
    lines.append(
        f"expect of new {calls}: {_in_words(scores)}; of all images at once, cross-fitted: weights and calibration are "
        f"by other {calls}"
    )
    if test := results.get("test"):
        of_test = {name: test["ensemble"][name] for name in SCORES}
        lines.append(
            f"of {test['num_images']} labelled test images, which nobody looked at before: {_in_words(of_test)}"
        )
    return lines


def _in_words(scores: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {Interval.of(score)}" for name, score in scores.items())
