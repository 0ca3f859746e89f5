"""How alike the maps of several networks are: between networks, between trainings of one, between different images."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.explain.checks.maps import is_blank, rank_correlation, resized
from fpclass.explain.checks.summary import LITTLE, mean_interval
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval

TITLE = "Do the networks look at the same thing?"
NOTE = (
    "Mean rank correlation of the maps of the same image, by networks that never saw it. Two trainings of one config "
    "are the most that can be expected, maps of different images the least"
)
MAX_ROWS = 12
"""Pairs that the table names."""


@dataclasses.dataclass(frozen=True)
class Looks:
    """Maps of a network.

    Attributes:
      stage: that they are of; "" where it is the pixels.
      maps: of each training the maps of all images.
      is_same_data: whether the trainings differ by their seed alone; else by the images that they learnt from.
    """

    stage: str
    maps: Sequence[Float[np.ndarray, "m h w"]]
    is_same_data: bool = True

    @property
    def out_of_fold(self) -> Sequence[Float[np.ndarray, "m h w"]]:
        """Those whose networks never saw the image."""
        return self.maps if self.is_same_data else self.maps[:1]


def correlation_of(maps: Float[np.ndarray, "m h w"], others: Float[np.ndarray, "m h2 w2"]) -> Float[np.ndarray, " m"]:
    """Rank correlation of each pair at the coarser resolution; nan where a map is the same everywhere."""
    size = min(maps.shape[1], others.shape[1]), min(maps.shape[2], others.shape[2])
    first, second = (resized(np.nan_to_num(of), size) for of in (maps, others))
    return np.where(is_blank(maps) | is_blank(others), np.nan, rank_correlation(first, second))


def compare_looks(looks: Mapping[str, Looks], cohort: Cohort, bootstrap: Bootstrap) -> dict[str, Any]:
    """Correlations between networks and within one, with intervals over people.

    Returns:
      within: by name the correlation of two of its trainings. pairs: a list of {first, second, correlation, different
      (maps of different images), less (by how much less than two trainings of one of them, mean of both)}. Every value
      is {value, low, high}.
    """

    def interval(values: np.ndarray) -> dict[str, Any]:
        return mean_interval(values, cohort, bootstrap).to_json()

    within = {
        name: _mean([correlation_of(*pair) for pair in itertools.combinations(of.maps, 2)], cohort)
        for name, of in looks.items()
    }
    pairs = []
    for first, second in itertools.combinations(looks, 2):
        trainings = [looks[name].out_of_fold for name in (first, second)]
        alike = _mean([correlation_of(*pair) for pair in itertools.product(*trainings)], cohort)
        # The next image that was drawn: of other people, as a rule, and every one is taken once.
        different = correlation_of(trainings[0][0], np.roll(trainings[1][0], 1, axis=0))
        ceiling = _mean([within[first], within[second]], cohort)
        values = {"correlation": alike, "different": different, "less": ceiling - alike}
        pairs.append({"first": first, "second": second, **{key: interval(of) for key, of in values.items()}})
    return {"within": {name: interval(of) for name, of in within.items()}, "pairs": pairs}


def agreement_report(compared: Mapping[str, Any], title: str, note: str, figure: str) -> dict[str, Any]:
    """The piece of the report; arguments as `compare_looks` gives, and as `words.report_of`."""
    within, pairs = compared["within"], sorted(compared["pairs"], key=lambda pair: -_value(pair["correlation"]))
    sentences = [
        f"{title} of two trainings of {name} correlates by {Interval.of(of)} on the same image{_little(of)}."
        for name, of in within.items()
        if of["value"] is not None
    ][:MAX_ROWS]
    told = pairs if len(pairs) <= 3 else [pairs[0], pairs[-1]]
    if len(told) < len(pairs):
        sentences.append(f"Of {len(pairs)} pairs of configs these are the one most alike and the one least alike:")
    sentences += [f"{title} {_sentence(pair)}." for pair in told]
    header = ["configs", "maps of the same image", "of different images", "less than two trainings of one"]
    rows = [
        [f"{pair['first']}, {pair['second']}", *_cells(pair), f"{Interval.of(pair['less']):+}"]
        for pair in pairs[:MAX_ROWS]
    ]
    rows += [[f"{name}, trained twice", str(Interval.of(of)), "-", "-"] for name, of in list(within.items())[:MAX_ROWS]]
    return {"title": TITLE, "sentences": sentences, "table": [header, *rows], "figures": [figure], "note": note}


def _cells(pair: Mapping[str, Any]) -> list[str]:
    return [str(Interval.of(pair[key])) for key in ("correlation", "different")]


def _sentence(pair: Mapping[str, Any]) -> str:
    alike, different, less = (Interval.of(pair[key]) for key in ("correlation", "different", "less"))
    numbers = f"rank correlation {alike}, of different images {different}"
    both = f"of {pair['first']} and {pair['second']}"
    if less.low is None:
        return f"{both}: {numbers}; there are no two trainings of one of them to compare with"
    if less.low > 0:
        return (
            f"{both} is less alike than of two trainings of one of them, by {less}: they do not look at quite the same "
            f"({numbers})"
        )
    return f"{both} is not shown to be less alike than of two trainings of one of them, by {less:+} ({numbers})"


def _little(within: Mapping[str, Any]) -> str:
    """What follows where even one config looks elsewhere when it is trained once more."""
    if within["high"] is None or within["high"] >= LITTLE:
        return ""
    return ": trained once more, it looks elsewhere, and the map of one training is no finding about the images"


def _mean(values: Sequence[np.ndarray], cohort: Cohort) -> np.ndarray:
    """Mean of what is defined, by image; nan where nothing is."""
    if not values:
        return np.full(len(cohort), np.nan)
    stacked = np.stack(values)
    count = np.isfinite(stacked).sum(axis=0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)


def _value(interval: Mapping[str, Any]) -> float:
    return -2.0 if interval["value"] is None else interval["value"]
