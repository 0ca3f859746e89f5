"""What a search leaves: the table of its trials, a config file with the values that it found, and a page about both."""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fpclass.common import files
from fpclass.common.console import program
from fpclass.config import Config, base_config, flatten
from fpclass.experiment.unread import OF_A_RUN, find_unread
from fpclass.report.text_tables import markdown_table
from fpclass.stats.comparison.selection import Selection
from fpclass.tune.search import Search, short
from fpclass.tune.trial import FAILURE, NAME, SECONDS

TUNED, TRIALS, PAGE = "tuned.py", "trials.csv", "tune.md"
NUM_SHOWN = 10
"""Trials that the page shows."""
STATES = {"COMPLETE": "whole", "PRUNED": "stopped", "FAIL": "interrupted", "RUNNING": "interrupted"}


def trial_frame(search: Search) -> pd.DataFrame:
    """A row per trial: what it was trained with, on how many folds, the mean score, seconds, and what became of it."""
    rows = []
    for trial in search.trials:
        steps = trial.intermediate_values
        failure = trial.user_attrs.get(FAILURE, "")
        rows.append(
            {
                "trial": trial.number,
                "became": "failed" if failure else STATES[trial.state.name],
                search.called: steps[max(steps)] if steps else None,
                "num_folds": max(steps, default=0),
                "seconds": round(trial.user_attrs.get(SECONDS, 0.0), 2),
                "members": trial.user_attrs.get(NAME, ""),
                **search.values_of(trial),
                "failure": failure,
            }
        )
    columns = ["trial", "became", search.called, "num_folds", "seconds", "members", *search.space, "failure"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def config_text(search: Search, tuned: Config, values: Mapping[str, Any], origin: str, scores: Sequence[str]) -> str:
    """A config file of its own: what differs from configs/base.py, and last the values that were found.

    Args:
      tuned: the config with these values.
      values: those of the space that it reads, by key.
      origin: the config that was searched around, and the space, in words.
      scores: what is known of it.
    """
    defaults, unread = flatten(base_config()), find_unread(tuned, OF_A_RUN)
    others = {
        key: value
        for key, value in flatten(tuned).items()
        if value != defaults[key] and key not in values and (key not in unread or key.startswith("data."))
    }
    of_base = flatten(search.base)
    lines = [f"    config.{key} = {value!r}" for key, value in others.items() if key != "name"]
    found = [f"    config.{key} = {value!r}  # it was {short(of_base[key])}" for key, value in values.items()]
    return "\n".join(
        [
            f'"""{_plain(origin)}',
            "",
            *(textwrap.fill(f"- {_plain(line)}", 116, subsequent_indent="  ") for line in scores),
            '"""',
            "",
            "from ml_collections import ConfigDict",
            "",
            "from configs import base",
            "",
            "",
            "def get_config() -> ConfigDict:",
            "    config = base.get_config()",
            f"    config.name = {tuned.name!r}",
            *lines,
            "    # Found by the search:",
            *found,
            "    return config",
            "",
        ]
    )


def _plain(text: str) -> str:
    """The text as it can stand in a docstring."""
    return text.replace("\\", "/").replace('"', "'")


def write_page(folder: pathlib.Path, search: Search, lines: list[str]) -> None:
    """Writes tune.md: what the search amounts to, in lines, the best trials, and what each key has to do with it."""
    frame: Any = trial_frame(search)
    keys = list(search.space)
    ranked = frame[frame["became"] == "whole"].sort_values(
        search.called, ascending=search.is_lower_better, kind="stable"
    )
    table = [["trial", search.called, *keys]]
    for row in ranked.head(NUM_SHOWN).to_dict("records"):
        cells = ["" if value is None or value != value else short(value) for value in (row[key] for key in keys)]
        table.append([str(row["trial"]), f"{row[search.called]:.4f}", *cells])
    parts = ["# Search", "", *(f"- {line}" for line in lines), "", f"## The best of {len(ranked)} whole trials", ""]
    parts += [*markdown_table(table), "", f"All {len(frame)} trials: {TRIALS}.", ""]
    if importances := search.importances():
        of_each = sorted(importances.items(), key=lambda item: -item[1])
        parts += ["## What the score depends on", "", "By PED-ANOVA of the whole trials; shares, a hint, no test.", ""]
        parts += [*markdown_table([["key", "share"], *([key, f"{share:.2f}"] for key, share in of_each)]), ""]
    files.write_text(folder / PAGE, "\n".join(parts))


def lines_about(search: Search, choice: Selection | None, result: Mapping[str, Any] | None) -> list[str]:
    """What is known of the best trial, the most honest last."""
    best = search.best
    if best is None:
        return [f"{len(search.trials)} trials, none of them on all {search.num_folds} folds"]
    counts = f"{len(search.trials)} trials, {len(search.whole)} of them on all {search.num_folds} folds"
    scored = f"{search.called} {best.value:.4f}"
    lines = [f"{counts}; the best, trial {best.number}: {scored} on the folds that chose it, which is optimistic"]
    if choice:
        lines.append(
            f"chosen on all folds but one and scored on that one: {choice.cross_fitted} (by these folds too, the "
            "proposals were made and trials stopped)"
        )
    if result:
        lines.append(
            f"on other folds, with other seeds: {result['score']}, the config as it was {result['baseline']}; "
            f"difference {result['difference']:+}: {result['verdict']}"
        )
        lines.append(
            "the people are the same ones; what only fits them, images of others alone can tell: "
            f"`{program()} validate --data.root=OTHER`"
        )
    return lines
