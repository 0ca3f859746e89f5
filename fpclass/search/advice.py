"""What would help most: more people, other labels, or something else, from what a search has found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.data.files import some_of
from fpclass.eda.label_errors import find_label_errors
from fpclass.search.halving import NO_TIME, judged_images
from fpclass.study.study import OF_PEOPLE, Study

NUM_NAMED = 5


def advise(study: Study, reasons: Mapping[str, str], of_chosen: str, curve_of: str) -> list[str]:
    """Sentences about what to do next, of a study that is judged.

    Args:
      reasons: why a config is in no table, by name.
      of_chosen: the config whose mistakes are looked at.
      curve_of: the config that was trained on shares of the people; "" where none was.
    """
    results = json.loads(study.path("results.json").read_text(encoding="utf-8"))
    return [*_more_people(results, curve_of), _labels(study, of_chosen), *_more_time(reasons)]


def _more_people(results: dict[str, Any], curve_of: str) -> list[str]:
    """By the learning curve of a config."""
    curve = results.get("learning_curve", {}).get(curve_of, {})
    who = results["groups_are"]
    findings = curve.get("findings", [])[1:]
    if not findings:
        return []
    return [f"more {who}? {'; '.join(findings)} (learning curve of {curve_of})"]


def _labels(study: Study, of_chosen: str) -> str:
    """By confident learning on predictions of images that were not trained on."""
    images, log_probabilities = judged_images(study, of_chosen, range(study.num_splits))
    labels = images["label"].to_numpy(np.int64)
    if len(np.unique(labels)) < 2:
        return "labels: there is one class only"
    found = find_label_errors(labels, np.exp(log_probabilities))
    if not found.num_suspected:
        return "labels: none is suspected to be wrong"
    worst = [str(images["filename"].iloc[row]) for row in found.order[: min(NUM_NAMED, found.num_suspected)]]
    return (
        f"labels: {found.num_suspected} of {len(labels)} may be wrong, or the images hard; look at these first: "
        f"{some_of(worst)}"
    )


def _more_time(reasons: Mapping[str, str]) -> list[str]:
    """By what was left out for want of it."""
    names = [name for name, reason in reasons.items() if NO_TIME in reason and OF_PEOPLE not in name]
    return [f"more time? left out for want of it: {some_of(names)}; the table says how long they take"] if names else []
