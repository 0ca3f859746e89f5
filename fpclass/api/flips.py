"""Two runs beside each other in words: what was set differently, the paired difference, the images that flipped."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from fpclass.api.compare import OF_ONE, Compared
from fpclass.config import differences
from fpclass.data.files import some_of
from fpclass.data.splits import counted
from fpclass.stats.intervals import Interval, format_number

LOST, GAINED = "lost", "gained"
"""An image that the baseline has right and the other wrong, and the other way round."""
NUM_KEYS, NUM_NAMES = 20, 8
CLUSTERED = {"people": " clustered by person", "independent images": " clustered by copies of an image", "images": ""}
"""What McNemar's test takes together, by what the groups are."""


def flipped(compared: Compared, name: str) -> pd.DataFrame:
    """The images that one of two experiments has right and the other wrong.

    Args:
      name: of the experiment that is compared with the baseline.

    Returns:
      A row per image: filename, person ("" where nobody says), flip (lost or gained), label, and what the baseline and
      the other say, by the names of the classes.
    """
    names = np.array(compared.cohort.class_names, object)
    labels = compared.cohort.labels
    before, after = (compared.log_probabilities[one].argmax(axis=1) for one in (compared.baseline, name))
    rows = np.flatnonzero((before == labels) != (after == labels))
    return pd.DataFrame(
        {
            "filename": compared.filenames[rows],
            "person": compared.people[rows],
            "flip": np.where(before[rows] == labels[rows], LOST, GAINED),
            "label": names[labels[rows]],
            "baseline": names[before[rows]],
            "other": names[after[rows]],
        }
    )


def describe(compared: Compared, name: str) -> list[str]:
    """What an experiment and the baseline differ in, a line each."""
    of_whom = "people" if any(compared.people) else "independent images"
    size = counted(len(compared.filenames), compared.cohort.num_groups, of_whom)
    return [
        f"{name} beside {compared.baseline}, the baseline: {size}",
        *_of_config(compared, name),
        *_of_difference(compared, name),
        *_of_flips(flipped(compared, name), compared, name),
    ]


def _of_config(compared: Compared, name: str) -> list[str]:
    before, after = (compared.experiments[one][0].config for one in (compared.baseline, name))
    changed = {key: pair for key, pair in differences(before, after).items() if key not in (*OF_ONE, "code_folders")}
    lines = [f"            {key}: {old!r} there, {new!r} here" for key, (old, new) in list(changed.items())[:NUM_KEYS]]
    more = [f"            and {len(changed) - NUM_KEYS} keys more"] if len(changed) > NUM_KEYS else []
    is_same = "the same but for its seed" if before.seed != after.seed else "the same"
    said = f"{len(changed)} key{'s' * (len(changed) > 1)} differ{'s' * (len(changed) == 1)}" if changed else is_same
    return [f"config      {said}", *lines, *more]


def _of_difference(compared: Compared, name: str) -> list[str]:
    rows: dict[Any, dict[str, Any]] = {row["config"]: row for row in compared.frame.to_dict("records")}
    row, metric = rows[name], str(compared.frame["metric"].iloc[0]).replace("_", " ")
    scores = [_interval(rows[one], "mean", "low", "high") for one in (compared.baseline, name)]
    difference = _interval(row, "difference", "difference_low", "difference_high")
    p = row["p_mcnemar_clustered"]
    clustered = CLUSTERED[compared.cohort.groups_are]
    by_images = "" if pd.isna(p) else f"; right or wrong, by McNemar's test{clustered}: p {format_number(p)}"
    return [
        f"{metric:<11} {scores[0]} there, {scores[1]} here: {difference:+}{by_images}",
        f"            {_in_words(row, difference)}",
    ]


def _interval(row: dict[str, Any], *names: str) -> Interval:
    return Interval(*(None if pd.isna(row[name]) else float(row[name]) for name in names))


def _in_words(row: dict[str, Any], difference: Interval) -> str:
    """The verdict; of single trainings what can be said of these two networks."""
    if not str(row["verdict"]).startswith("not tested"):
        return str(row["verdict"])
    if difference.low is None or difference.high is None:
        return "nothing can be said of these two networks"
    if difference.low <= 0 <= difference.high:
        told = "these two networks are not told apart"
    else:
        told = f"of these two networks this one scores {'higher' if difference.low > 0 else 'lower'}"
    return f"{told}; whether that is so of others trained like them takes two seeds or more of each"


def _of_flips(flips: pd.DataFrame, compared: Compared, name: str) -> list[str]:
    labels = compared.cohort.labels
    right = [compared.log_probabilities[one].argmax(axis=1) == labels for one in (compared.baseline, name)]
    both, neither = int((right[0] & right[1]).sum()), int((~right[0] & ~right[1]).sum())
    num = Counter(flips["flip"])
    has_seeds = any(len(compared.experiments[one]) > 1 for one in (compared.baseline, name))
    averaged = ", by the averages over seeds" if has_seeds else ""
    lines = [
        f"flipped     {len(flips)} of {len(labels)} images{averaged}: {num[LOST]} right there and wrong here, "
        f"{num[GAINED]} the other way; right in both {both}, wrong in both {neither}"
    ]
    for flip in (LOST, GAINED):
        of_kind: Any = flips[flips["flip"] == flip]
        rows = of_kind.to_dict("records")
        shown = [f"{row['filename']} ({row['label']}: {row['baseline']} there, {row['other']} here)" for row in rows]
        lines += [f"  {flip:<9} {some_of(shown, NUM_NAMES)}"] if shown else []
    return [*lines, *_of_people(flips)]


def _of_people(flips: pd.DataFrame) -> list[str]:
    """Whose images flipped, those with most of them first."""
    named = flips[flips["person"] != ""]
    if not len(named):
        return []
    by_person = [
        (len(of_person), person, Counter(of_person["flip"])) for person, of_person in named.groupby("person", sort=True)
    ]
    by_person.sort(key=lambda one: -one[0])
    shown = [f"{person} ({num[LOST]} lost, {num[GAINED]} gained)" for _, person, num in by_person]
    return [f"  by person {len(by_person)} people with flipped images: {some_of(shown, NUM_NAMES)}"]
