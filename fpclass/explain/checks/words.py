"""What the checks found, in plain words and as a table: the piece of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fpclass.explain.checks.summary import LITTLE, MUCH
from fpclass.stats.intervals import Interval

CONTROL = "edges of the picture (no network)"
"""The name of the map that knows nothing of the network."""
TITLE = "Do the maps mean anything?"


def report_of(methods: Mapping[str, dict[str, Any]], about: str, figure: str) -> dict[str, Any]:
    """The piece of the report: title, sentences, in short for a paper, table, figures, note.

    Args:
      methods: as `summarise_all` gives them, by the name that a reader is told.
      about: on which images, and what the intervals are.
      figure: its path in the folder.
    """
    sentences = [f"{name}: {'; '.join(clauses_of(found))}." for name, found in methods.items() if name != CONTROL]
    if CONTROL in methods:
        sentences.append(f"For comparison, {CONTROL}: {_removal(methods[CONTROL])}.{_told_apart(methods[CONTROL])}")
    note = (
        f"{about}. Deletion and insertion: how much smaller, or larger, the area under the curve of the class's "
        "probability is than with the same map mirrored and moved to a random place (Petsiuk et al. 2018). Head or all "
        "random: rank correlation with the maps of the trained network (Adebayo et al. 2018). Stability: with maps of "
        "the same images with a little noise. Sentences judge by intervals that hold for all their verdicts at once "
        "(Bonferroni), wider than those of the table. A map that passes shows where the network looks, not that it is "
        "right to."
    )
    return {
        "title": TITLE,
        "sentences": sentences,
        "paper": [in_short(name, found) for name, found in methods.items()],
        "table": table_of(methods),
        "figures": [figure],
        "note": note,
    }


def clauses_of(found: dict[str, Any]) -> list[str]:
    """What the checks say of one way of making maps."""
    clauses = [_removal(found)]
    if found["randomised"]:
        clauses.append(_randomised(found["randomised"]))
    clauses.append(f"with a little noise on the image it correlates by {_of(found['stability'])} with itself")
    on = [_on(part, shares) for part, shares in found["on"].items() if shares["share"]["value"] is not None]
    if on:
        clauses.append(f"of it lie on {on[0]}")  # the whole object; its parts are in the table
    if found["blank"]:
        clauses.append(f"of {found['blank']} images the map is the same everywhere and shows nothing")
    return clauses


def in_short(name: str, found: dict[str, Any]) -> str:
    """The numbers that count, in a sentence."""
    better = {check: f"{Interval.of(found[check]['better']):+}" for check in ("deletion", "insertion")}
    short = (
        f"{name}: {better['deletion']} better in deletion and {better['insertion']} in insertion than the same map in "
        "a random place"
    )
    if found["randomised"]:
        short += f", rank correlation {_of(found['randomised'][-1]['correlation'])} with maps of random weights"
    return f"{short}."


def table_of(methods: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """A row per way of making maps, a column per check; the first row is the header."""
    parts = list(next(iter(methods.values()))["on"]) if methods else []
    header = [
        *("map", "size", "deletion, better by", "insertion, better by", "head random", "all random", "stability"),
        *(f"on {part}{_area(methods, part)}" for part in parts),
    ]
    rows = [header]
    for name, found in methods.items():
        steps = found["randomised"]
        ends = [_of(steps[i]["correlation"]) if steps else "-" for i in (0, -1)]
        better = [f"{Interval.of(found[check]['better']):+}" for check in ("deletion", "insertion")]
        on = [_of(found["on"][part]["share"]) for part in parts]
        rows.append([name, " x ".join(map(str, found["size"])), *better, *ends, _of(found["stability"]), *on])
    return rows


def is_better(found: dict[str, Any], check: str) -> bool:
    """Whether a map is better than a random one, by the interval that holds for all verdicts at once."""
    low = found[check]["for_all_at_once"]["low"]
    return low is not None and low > 0


def _removal(found: dict[str, Any]) -> str:
    better = {check: f"{Interval.of(found[check]['for_all_at_once']):+}" for check in ("deletion", "insertion")}
    passed = [check for check in better if is_better(found, check)]
    numbers = (
        f"better than the same map in a random place by {better['deletion']} in deletion, {better['insertion']} in "
        "insertion"
    )
    if len(passed) == 2:
        said = "it finds pixels that the network uses: removing them first makes the class less probable sooner"
    elif passed:
        other = next(check for check in better if check not in passed)
        said = f"by {passed[0]} it finds pixels that the network uses, by {other} that is not shown"
    else:
        said = "it is not shown to find pixels that the network uses"
    return f"{said} ({numbers})"


def _told_apart(control: dict[str, Any]) -> str:
    """What follows where even edges pass."""
    if not (is_better(control, "deletion") or is_better(control, "insertion")):
        return ""
    return (
        " So on these images removing pixels does not tell a map of the network from edges; random weights do, and how "
        "much better a map is than they are."
    )


def _randomised(steps: list[dict[str, Any]]) -> str:
    first, last = steps[0], steps[-1]
    end = Interval.of(last["for_all_at_once"])
    if end.value is None:
        return "once all weights are random nothing is left of it, so it shows what was learnt"
    low, high = (end.value if bound is None else bound for bound in (end.low, end.high))
    if high < LITTLE:
        verdict = "so it shows what was learnt"
    elif low > MUCH:
        verdict = "so it hardly changes: it shows the picture, such as its edges, and not what was learnt"
    elif low >= LITTLE:
        verdict = "so a part of it is the picture's or the layout's, not learnt"
    else:
        verdict = "so these images do not tell how much of it was learnt"
    head = f"by {_of(first['for_all_at_once'])} once {first['stage']} alone is random, and " if len(steps) > 1 else ""
    left = f" (of the {1 - last['blank']:.0%} of maps that show anything)" if last["blank"] else ""
    return f"it correlates with the trained network's {head}by {end} once all weights are{left}, {verdict}"


def _on(part: str, shares: dict[str, Any]) -> str:
    share, area = (100 * shares[name]["value"] for name in ("share", "area"))
    return f"{part} {share:.0f} % ({area:.0f} % of the image, {Interval.of(shares['excess']):+})"


def _area(methods: Mapping[str, dict[str, Any]], part: str) -> str:
    """The share of the image that a part is, the same for all maps that show anything."""
    areas = [found["on"][part]["area"]["value"] for found in methods.values()]
    known = [area for area in areas if area is not None]
    return f" ({known[-1]:.0%} of image)" if known else ""


def _of(values: dict[str, Any]) -> str:
    return str(Interval.of(values))
