"""What a search says at its end: what was tried, what to expect of it, what next."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fpclass import files
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
    scores, person = results["ensemble"]["scores"], results.get("person", {})
    found = [("ensemble", scores.get(results["metric"]), "what predicts; cross-fitted, of all images at once")]
    if "per_person" in person:
        gain = person["gain"].get(results["metric"])
        what = f"{person['images_per_person']:.1f} images of each pooled" + (f": {Interval.of(gain):+}" if gain else "")
        found.append(("per person", person["per_person"].get(results["metric"]), what))
    rows = [(name, Interval.of(values), what) for name, values, what in found if values]
    return [[name, format_number(score.value), score.format_bounds(), what] for name, score, what in rows]


def _of_ensemble(results: dict[str, Any], calls: str) -> list[str]:
    """What to expect of the whole procedure."""
    ensemble = results["ensemble"]
    made_of = ", ".join(f"{weight:.2f} {name}" for name, weight in ensemble["weights"].items() if weight)
    lines = [f"to use: {made_of}, averaged over folds and calibrated"]
    scores = ", ".join(f"{name.replace('_', ' ')} {Interval.of(ensemble['scores'][name])}" for name in SCORES)
    lines.append(
        f"expect of new {calls}: {scores}; cross-fitted: weights, calibration and thresholds are those of other {calls}"
    )
    if test := results.get("test"):
        lines += test.get("findings", [])[:2]
    return lines
