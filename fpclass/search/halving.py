"""Training many configs within a budget: the quick ones whole, the others on a few folds first, the best of them on.

A config that is clearly worse than the best after the first folds, and has no weight in an ensemble of what is there,
is left out of the rest. The choice among those that remain, and the ensemble, are cross-fitted by all folds, as in any
study; what the first folds had a say in is only who takes part. That flatters the estimate by 0.001 in accuracy at 2.5
standard errors, by 0.004 at 1.6: `pytest -m slow -n 0 -s tests/search/test_halving_bias.py` simulates it.

Source of the idea: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
AISTATS 2016, with folds in place of epochs.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from fpclass.common.console import Interrupted, Interruption, duration, program, say, whisper
from fpclass.common.threads import Background
from fpclass.data.splits import VALIDATION
from fpclass.errors import ConfigError, RunError, one_line
from fpclass.experiment import is_trained
from fpclass.report.text_tables import align_columns
from fpclass.run.prepare import read_model
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.ensembling import greedy_weights
from fpclass.stats.weighted_metrics import is_lower_better, metric_value
from fpclass.study.estimate import costs_of, time_all
from fpclass.study.metric import metric_of, name_of
from fpclass.study.out_of_fold import logit_columns, read_member
from fpclass.study.report import LEFT_OUT
from fpclass.study.run import (
    Failures,
    Progress,
    StudyData,
    check_data,
    missing_weights,
    too_small_shares,
    trained_configs,
)
from fpclass.study.study import Study
from fpclass.study.training import train_config

FIRST_FOLDS = 2
"""So many folds judge a training that takes long, before the others are trained: one for each of two cores."""
CLEARLY = 2.5
"""Standard errors by which a config has to be worse than the best to be left out."""
KEPT = 0.1
"""Share of the budget that tables, figures and the submission take, about; at least `KEPT_SECONDS`."""
KEPT_SECONDS = 10.0
NO_TIME = "no time"


class Budget:
    """Minutes that a search may take, by a clock that runs from the start."""

    def __init__(self, minutes: float):
        self._started = time.monotonic()
        self.minutes = minutes
        self.for_training = max(60 * minutes - max(KEPT * 60 * minutes, KEPT_SECONDS), 1.0)

    @property
    def left(self) -> float:
        """Seconds that are left for training, at least 0."""
        return max(self.for_training - (time.monotonic() - self._started), 0.0)

    @property
    def until_the_end(self) -> float:
        """Seconds that are left of all of it, at least `KEPT_SECONDS`."""
        return max(60 * self.minutes - (time.monotonic() - self._started), KEPT_SECONDS)


@dataclasses.dataclass
class _Search:
    """What is known of a search while it goes on.

    Attributes:
      predicted: seconds that a member of a config takes, by name.
      reasons: why a config is in no table, by name.
      pace: by how much trainings take longer than predicted.
    """

    study: Study
    data: StudyData
    budget: Budget
    interruption: Interruption
    progress: Progress
    background: Background
    predicted: dict[str, float]
    reasons: Failures
    pace: float = 1.0

    def seconds(self, name: str, folds: Collection[int]) -> float:
        """How long some folds of a config take, about, without those that are trained."""
        members = [m for m in self.study.members(name) if m.fold in folds and not m.is_done]
        return self.of_member(name) * len(members)

    def of_member(self, name: str) -> float:
        """Seconds that a member of a config takes, about."""
        pace = self.pace if is_trained(self.study.configs[name]) else 1.0  # of trainings, which compile for long
        return self.predicted.get(name, 0.0) * pace

    def is_stopped(self) -> bool:
        """Whether somebody asked to stop, or the time is over."""
        return bool(self.interruption.signal_number) or not self.budget.left

    def no_time(self, name: str) -> str:
        """Why a config is not trained whole: somebody stopped, or there was no time for it."""
        if self.interruption.signal_number and not self.interruption.has_expired:
            return f"{LEFT_OUT}: stopped before its end; the same command goes on"
        more = duration(self.seconds(name, range(self.study.num_splits)))
        return f"{LEFT_OUT}: {NO_TIME}, it takes about {more} more; the same command with more --minutes goes on"

    def train(self, name: str, folds: Collection[int]) -> bool:
        """Trains some folds of a config; whether they are trained."""
        began, predicted = time.monotonic(), self.seconds(name, folds)
        with self.progress.timed(name):
            try:
                prepared = self.data.of(name)
                study, stop, add = self.study, self.interruption, self.progress.add
                is_done = train_config(study, name, prepared, stop, add, self.background, folds)
                self.background.wait()
            except Interrupted:  # while images were decoded
                is_done = False
            except RunError:
                raise
            except Exception as error:  # whatever is wrong with a config, the others are none the worse
                self.reasons[name] = f"{type(error).__name__}: {one_line(error, 300)}"
                self.progress.failed(self.reasons[name])
                return False
            if not is_done:
                self.progress.interrupted()
        if is_done and predicted and is_trained(self.study.configs[name]):
            self.pace *= max((time.monotonic() - began) / predicted, 0.1)
        return is_done


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search ends with: why configs are not trained whole, and how many seconds a training of each takes."""

    reasons: Failures
    seconds: dict[str, float]


class BudgetProgress(Progress):
    """The lines of a study, with what is left of the budget."""

    def __init__(self, study: Study, budget: Budget):
        super().__init__(study, {})
        self._budget = budget

    def rest(self) -> str:
        """What is left for training."""
        return f"{duration(self._budget.left)} of the budget left"


def search(
    study: Study, data: StudyData, budget: Budget, interruption: Interruption, abouts: Mapping[str, str]
) -> Found:
    """Trains the members of a study within a budget. What is trained already costs nothing.

    Args:
      abouts: what each config is, in a few words.

    Raises:
      ConfigError: the budget is too small for the first way.
      DataError, RunError: as `study.run.train_study`.
    """
    trained = trained_configs(study)
    check_data(study, data)
    reasons = missing_weights(study, trained)
    prepared = data.of(study.baseline)
    todo = [name for name in study.configs if name not in trained and name not in reasons]
    if todo:
        whisper("how long each way takes here is measured first; networks are compiled for it")
    costs = costs_of(study, prepared, todo)
    whole = time_all(study, costs) if costs else {}
    reasons |= too_small_shares(study, prepared, trained)
    if not trained:
        _check_budget(study.baseline, whole.get(study.baseline, 0.0), budget)
    for line in describe_ways(study, whole, trained, abouts):
        say(line)
    predicted = {name: seconds / costs[name].num_members for name, seconds in whole.items()}
    with interruption.expiring(budget.left), BudgetProgress(study, budget) as progress, Background() as background:
        state = _Search(study, data, budget, interruption, progress, background, predicted, reasons)
        quick = [name for name in todo if not is_trained(study.configs[name]) and name not in reasons]
        _train_quick(state, quick)
        _train_rest(state, [name for name in todo if name not in quick and name not in reasons])
        for name in set(study.configs) - trained_configs(study) - reasons.keys():
            reasons[name] = state.no_time(name)
    return Found(reasons, {name: state.of_member(name) for name in predicted})


def describe_ways(
    study: Study, predicted: Mapping[str, float], trained: Collection[str], abouts: Mapping[str, str]
) -> list[str]:
    """A table of what is tried, and how long all of it would take."""
    rows = [["way", "what", "takes about"]]
    for name in study.names:
        took = "is trained" if name in trained else duration(predicted[name]) if name in predicted else "?"
        rows.append([name, abouts.get(name, "of an earlier search"), took])
    total = sum(predicted.values())
    return [*align_columns(rows), f"all folds of all of them: about {duration(total)} here, compiling not counted"]


def _check_budget(first: str, seconds: float, budget: Budget) -> None:
    if seconds > budget.for_training:
        minutes = math.ceil(seconds / (1 - KEPT) / 60 + KEPT_SECONDS / 60)
        raise ConfigError(
            f"--minutes={budget.minutes:g} is too little: the quickest way, {first}, takes about {duration(seconds)} "
            f"here; give --minutes={minutes}"
        )


def _train_quick(state: _Search, names: Sequence[str]) -> None:
    """What is fitted, and not trained: all folds at once, as long as there is time."""
    folds = range(state.study.num_splits)
    for name in names:
        if state.is_stopped() or state.seconds(name, folds) > state.budget.left:
            state.reasons[name] = state.no_time(name)
        elif state.train(name, folds) and name in state.study.names:
            say(describe_best(state.study, state.reasons))


def _train_rest(state: _Search, names: Sequence[str]) -> None:
    """Trainings: the first folds of each, the cheapest first; then the other folds of those that may be the best."""
    study, all_folds = state.study, range(state.study.num_splits)
    first, rest = all_folds[:FIRST_FOLDS], all_folds[FIRST_FOLDS:]
    judged = []
    for name in sorted(names, key=lambda name: state.predicted.get(name, 0.0)):
        has_time = not state.is_stopped() and state.seconds(name, all_folds) <= state.budget.left
        if is_there(study, name, first) or (has_time and state.train(name, first)):
            judged.append(name)
        else:
            state.reasons.setdefault(name, state.no_time(name))
    for name, reason in left_out(study, judged, state.reasons).items() if rest else ():
        state.reasons[name] = reason
        say(f"{name} {reason}")
    survivors = [name for name in judged if name not in state.reasons]
    for name in sorted(survivors, key=lambda name: -score_on(study, name, first)):
        has_time = not state.is_stopped() and state.seconds(name, rest) <= state.budget.left
        if rest and not (has_time and state.train(name, rest)):
            state.reasons.setdefault(name, state.no_time(name))
        elif rest:
            say(describe_best(study, state.reasons))
    if survivors and not rest:
        say(describe_best(study, state.reasons))


def left_out(study: Study, names: Collection[str], reasons: Failures) -> Failures:
    """The configs, of some that are trained on the first folds, that need not be trained on the others, and why."""
    folds = range(min(FIRST_FOLDS, study.num_splits))
    scored = [name for name in study.names if name not in reasons and is_there(study, name, folds)]
    if len(scored) < 2:
        return {}
    images, _ = judged_images(study, scored[0], folds)
    labels, groups = images["label"].to_numpy(np.int64), images["unit"].to_numpy(str)
    log_probabilities = {name: judged_images(study, name, folds)[1] for name in scored}
    correct = {name: values.argmax(axis=1) == labels for name, values in log_probabilities.items()}
    weights = greedy_weights(log_probabilities, labels)
    best = max(scored, key=lambda name: score_on(study, name, folds))
    found = {}
    for name in names:
        if name != best and not weights[name] and is_clearly_worse(correct[name], correct[best], groups):
            lost = correct[best].mean() - correct[name].mean()
            found[name] = (
                f"{LEFT_OUT}: after {len(folds)} folds clearly worse than {best}, by {lost:.3f} in accuracy, and of no "
                "use to an ensemble"
            )
    return found


def is_clearly_worse(
    correct: Bool[np.ndarray, " n"], best: Bool[np.ndarray, " n"], groups: np.ndarray, errors: float = CLEARLY
) -> bool:
    """Whether a config is right less often than another by so many standard errors, people as the unit."""
    _, codes = np.unique(groups, return_inverse=True)
    differences: Float[np.ndarray, " n"] = best.astype(float) - correct
    of_groups = np.bincount(codes, weights=differences - differences.mean())
    num_groups = len(of_groups)
    if num_groups < 2:
        return False
    error = math.sqrt(num_groups / (num_groups - 1) * float(np.sum(of_groups**2))) / len(codes)
    return bool(differences.mean() > errors * error)


def describe_best(study: Study, reasons: Failures) -> str:
    """A line about the best of the configs that are trained on all folds."""
    folds = range(study.num_splits)
    there = [name for name in study.names if name not in reasons and is_there(study, name, folds)]
    if not there:
        return "nothing is trained whole yet"
    scores = {name: score_on(study, name, folds) for name in there}
    best, (_, called) = max(there, key=lambda name: scores[name]), _metric(study)
    judged_on = "out of fold" if study.num_folds else "on the validation images"
    return (
        f"best so far: {best}, {called} {abs(scores[best]):.3f} {judged_on}; {program()} predict and submit can use it"
    )


def score_on(study: Study, name: str, folds: Collection[int]) -> float:
    """The study's metric of a config on the images that some folds judge, all at once; of losses the negative."""
    images, log_probabilities = judged_images(study, name, folds)
    metric, _ = _metric(study)
    value = metric_value(log_probabilities, images["label"].to_numpy(np.int64), metric)
    return -value if is_lower_better(metric) else value


def _metric(study: Study) -> tuple[str, str]:
    """The study's metric, and what it is called."""
    settings = study.configs[study.baseline]
    done = next(member for name in study.names for member in study.members(name) if member.is_done)
    described = read_model(done.run)
    metric = metric_of(settings, described["classes"], described["class_names"])
    return metric, name_of(metric, described["class_names"]).replace("_", " ")


def is_there(study: Study, name: str, folds: Collection[int]) -> bool:
    """Whether all members of some folds of a config are trained."""
    return all(member.is_done for member in study.members(name) if member.fold in folds)


def judged_images(study: Study, name: str, folds: Collection[int]) -> tuple[pd.DataFrame, Float[np.ndarray, "n k"]]:
    """The images that some folds judge, in the order of the folds: filename, label, unit; and log-probabilities."""
    members = [member for member in study.members(name) if member.fold in folds]
    frame: Any = pd.concat([read_member(member, VALIDATION) for member in members], ignore_index=True)
    units: Any = members[0].run.read_csv("splits.csv", ("filename", "unit")).set_index("filename")["unit"]
    images = frame[["filename", "label"]].astype({"label": int}).assign(unit=units.loc[frame["filename"]].to_numpy(str))
    return images, log_softmax(frame[logit_columns(frame)].to_numpy(np.float64))
