"""What a found config is worth: on the folds that chose it, corrected for the choice, and on folds that had no say.

The best of many scores is too good. Its own folds correct that by choosing on all of them but one and scoring on that
one (`stats.comparison.selection`), among the trials on all folds; that the proposals came from all folds remains. The
comparison is a study of the config as it was and as it was found, divided anew and with new seeds: neither the luck of
the folds nor that of the trainings is in it. The people are the same, and what is left of the choice is what it learnt
from them: only people who were never in the search can tell that.
"""

from __future__ import annotations

import pathlib
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.config import Config
from fpclass.stats.comparison.scores import resample_configs
from fpclass.stats.comparison.selection import Selection, cross_fitted_choice
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.study.out_of_fold import collect
from fpclass.study.plan import assemble
from fpclass.study.study import Study
from fpclass.tune.search import Search
from fpclass.tune.trial import NAME

BASELINE, TUNED = "baseline", "tuned"
RULES = ("study", "evaluate")
"""Sections that say what is measured, and how."""
FRESH = 1000
"""What seeds of the comparison are beyond those of the search."""


def plan_comparison(folder: pathlib.Path, base: Config, tuned: Config, num_folds: int) -> tuple[Study, str]:
    """The study that compares two configs on other folds, and the name of the tuned one in it.

    What an earlier start of the search found, and the comparison began to train, stays in the study, with its seeds and
    the rules that it is judged by; a config that is found later is added to it.

    Raises:
      ConfigError: as `assemble`.
    """
    by_name, num_seeds = {BASELINE: fresh(base, BASELINE, base)}, 1
    if (folder / "study.json").is_file():
        there = Study.open(folder)
        begun = {name for name in there.configs if any(member.is_done for member in there.members(name))}
        by_name |= {name: config for name, config in there.configs.items() if name in {BASELINE, *begun}}
        num_seeds = there.num_seeds
    rules, name = by_name[BASELINE], TUNED
    while name in by_name and experiment.training_differences(by_name[name], fresh(tuned, name, rules)):
        name = f"{TUNED}-{int(name.partition('-')[2] or 1) + 1}"
    by_name[name] = fresh(tuned, name, rules)
    study = assemble(folder, by_name, num_folds=num_folds, num_seeds=num_seeds, baseline=BASELINE, compare_splits=False)
    return study, name


def fresh(config: Config, name: str, rules: Config) -> Config:
    """The config with other folds and seeds than those of a search around it, judged by the rules of another one."""
    other: Config = ConfigDict(config.to_dict())
    for section in RULES:
        other[section].update(rules[section])
    other.name, other.seed, other.split.seed = name, (config.seed + FRESH) % 2**32, config.split.seed + FRESH
    return other.lock()


def choice_of(search: Search) -> Selection | None:
    """What to expect of the choice among the whole trials, by their own folds; None of a single one.

    That these folds also decided which trials got whole is not in it.
    """
    names = list(dict.fromkeys(str(trial.user_attrs[NAME]) for trial in search.whole))
    if len(names) < 2:
        return None
    predictions = collect(search.study, names)
    settings = search.base.evaluate
    bootstrap = Bootstrap(settings.num_resamples, settings.confidence)
    return cross_fitted_choice(resample_configs(predictions.logits, predictions.cohort, search.metric, bootstrap))


def result_of(study: Study, name: str) -> dict[str, Any]:
    """What the finished comparison says of a config: score and difference from the baseline, with the verdict.

    Raises:
      KeyError: it is not in the table.
    """
    frame = pd.read_csv(study.path("study.csv")).set_index("config")
    row, before = frame.loc[name], frame.loc[study.baseline]
    return {
        "score": _interval(row, "mean", "low", "high"),
        "baseline": _interval(before, "mean", "low", "high"),
        "difference": _interval(row, "difference", "difference_low", "difference_high"),
        "verdict": str(row["verdict"]),
    }


def _interval(row: Any, *columns: str) -> Interval:
    return Interval(*(None if pd.isna(row[column]) else float(row[column]) for column in columns))
