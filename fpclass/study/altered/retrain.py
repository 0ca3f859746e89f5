"""Trains a config once more on versions of its images: same split and seeds, and only `data.keep` is another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common.console import Interruption, duration, say, silence
from fpclass.config import Config
from fpclass.data.altered.versions import VERSIONS, WHOLE
from fpclass.data.splits import VALIDATION
from fpclass.run.commands import train_run
from fpclass.run.folder import Run
from fpclass.stats.probabilities.ensembling import average_members
from fpclass.study.conclude import conclude
from fpclass.study.out_of_fold import collect, logit_columns
from fpclass.study.run import StudyData, train_study
from fpclass.study.study import Study
from fpclass.study.trained.conclusions import conclude_once
from fpclass.study.trained.ensemble import ChosenEnsemble

FOLDER = "shortcuts"
Logits = dict[str, np.ndarray]
"""Logits [N, K] by version, "all" first."""


def trained_by_default(names: Sequence[str]) -> list[str]:
    """The versions that take something away; to train on mirrored or scaled images tells nothing of what is used."""
    return [name for name in names if VERSIONS[name].is_reduced]


def retrain_run(run: Run, names: Sequence[str], filenames: Sequence[str], interruption: Interruption) -> Logits:
    """Trains the config of a run on versions, each into shortcuts/NAME of its folder, until somebody asks to stop.

    Returns:
      Logits of the validation images with these names, by "all" (the run itself) and every version that was trained.

    Raises:
      ConfigError: a config that cannot be trained on versions, as one with data.copies.
      FpclassError: as a training.
    """
    seconds = sum(line.get("seconds", 0.0) for line in run.history())
    say(
        f"training on {len(names)} versions: {duration(seconds * len(names))} or more, by how long the run took, and "
        "what decoding, compiling and the features of frozen stages take"
    )
    logits = {WHOLE: _logits_of(run, filenames)}
    began = time.perf_counter()
    for number, name in enumerate(names, start=1):
        if interruption.signal_number:
            break
        folder = run.folder / FOLDER / name
        with silence():
            code = train_run(_of_version(run.config, name), folder, until="evaluate")
        if code:
            interruption.signal_number = interruption.signal_number or code - 128
            break
        logits[name] = _logits_of(Run.open(folder), filenames)
        remaining = (time.perf_counter() - began) / number * (len(names) - number)
        more = f"; about {duration(remaining)} more" if number < len(names) else ""
        say(f"trained on {VERSIONS[name].words}: {folder}{more}")
    return logits


def _logits_of(run: Run, filenames: Sequence[str]) -> np.ndarray:
    frame = run.read_csv("predictions.csv", ("filename", "split"), ("label", "logit_"))
    judged: pd.DataFrame = frame.loc[frame["split"] == VALIDATION].set_index("filename")
    return judged.loc[list(filenames), logit_columns(judged)].to_numpy(np.float64)


def retrain_study(study: Study, names: Sequence[str], interruption: Interruption) -> tuple[Logits, list[str], str]:
    """Trains the config with most weight in the ensemble on versions, fold by fold, as a study in shortcuts/.

    Its baseline is the same config on whole images, so that its own study.md compares all of them in pairs.

    Returns:
      Logits of all images out of fold, averaged over seeds, by version; their file names; the name of the config.

    Raises:
      ConfigError: as `retrain_run`.
      FpclassError: as a study.
    """
    weights = ChosenEnsemble.read(study).weights
    chosen = max(weights, key=lambda name: weights[name])
    by_name = {name: _of_version(study.configs[chosen], name, is_of_study=True) for name in (WHOLE, *names)}
    plan = Study(study.folder / FOLDER, by_name, study.num_folds, study.num_seeds, WHOLE)
    with plan.claimed():
        data = StudyData(plan)
        failures = train_study(plan, data, interruption)
        whole = [name for name in by_name if all(member.is_done for member in plan.members(name))]
        if WHOLE not in whole:
            return {}, [], chosen
        if failures is not None and len(whole) > 1:
            conclude_once(plan, failures, conclude)
    found = collect(plan, whole)
    logits = {name: average_members(found.logits[name], "probabilities") for name in whole}
    return logits, found.filenames, chosen


def _of_version(config: Config, name: str, *, is_of_study: bool = False) -> Config:
    """The config with one thing kept alone."""
    changed: Any = ConfigDict(config.to_dict())
    changed.data.keep = name
    changed.name = name if is_of_study else f"{config.name}-{name}"
    changed.submit.refit = False
    return experiment.check(changed.lock())
