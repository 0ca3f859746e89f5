"""A trial of a search: a config trained fold by fold, and stopped where it falls behind those before it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fpclass.common.console import SILENT_SECONDS, Interrupted, Interruption, duration, say
from fpclass.common.threads import Background
from fpclass.config import Config
from fpclass.data.splits import VALIDATION
from fpclass.errors import ConfigError, FpclassError, RunError, TrainingError, one_line
from fpclass.run.log import Clock
from fpclass.stats.weighted_metrics import is_lower_better, metric_value
from fpclass.study.out_of_fold import logit_columns, read_member
from fpclass.study.run import StudyData
from fpclass.study.study import Study, StudyMember
from fpclass.study.training import Unfinished, train_config
from fpclass.train.task import require_weights
from fpclass.tune.space import with_values

if TYPE_CHECKING:
    import optuna

MIN_OTHERS = 4
"""Other trials that so many folds have to have had before they can stop one."""
SECONDS, FAILURE, NAME = "seconds", "failure", "name"
"""What is kept of a trial beside its values and scores."""

OnCost = Callable[[float, float], None]
"""Called after the first folds with the seconds of a trial on all of them, and those of compiling."""


class BudgetError(ConfigError):
    """There is not enough time for a search."""


@dataclasses.dataclass(frozen=True)
class Ground:
    """What all trials of a search have in common.

    Attributes:
      study: whose configs the trials become.
      base: the config around which is searched.
      metric: as `metric_of` gives it.
    """

    study: Study
    data: StudyData
    base: Config
    metric: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
      values: those of the space that it reads.
      score: mean over the folds that were trained; nan where none was.
      is_behind: it was stopped before the last fold.
      is_interrupted: somebody asked to stop: it will be gone on with.
      is_new: something was trained.
      error: why it could not be trained.
    """

    values: dict[str, Any]
    score: float = math.nan
    num_folds: int = 0
    seconds: float = 0.0
    is_behind: bool = False
    is_interrupted: bool = False
    is_new: bool = False
    error: FpclassError | None = None


def train_trial(
    ground: Ground, trial: optuna.Trial, values: dict[str, Any], interruption: Interruption, on_cost: OnCost
) -> Outcome:
    """Trains what is missing of a trial.

    Raises:
      RunError: the folder cannot be written to, or the data have changed.
      BudgetError: from `on_cost`.
    """
    clock, read = Clock(), values
    try:
        config, read = with_values(ground.base, values)
        require_weights(config)
        return _Trial(ground, trial, config, read, on_cost).train(interruption)
    except (RunError, BudgetError):  # the next trial would meet it too
        raise
    except FpclassError as error:
        return Outcome(read, seconds=clock.seconds(), error=error)
    except Exception as error:  # whatever a proposal can do wrong, the others are none the worse
        reason = TrainingError(f"{type(error).__name__}: {one_line(error, 300)}")
        return Outcome(read, seconds=clock.seconds(), error=reason)


class _Trial:
    """A trial that can be trained."""

    def __init__(self, ground: Ground, trial: optuna.Trial, config: Config, values: dict[str, Any], on_cost: OnCost):
        self._ground, self._trial, self._values, self._on_cost = ground, trial, values, on_cost
        self._name = f"trial-{hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]}"
        ground.study.configs[self._name], self._num_epochs = config, config.train.num_epochs
        self._members = ground.study.members(self._name)
        self._num_before = len(self._done())
        self._clock, self._silence, self._warm, self._num_warm = Clock(), Clock(), Clock(), 0
        self._is_behind = False
        # What is left of a round that was interrupted says nothing about a whole one.
        self._is_costed = Unfinished(ground.study.path("members") / self._name).checkpoint.exists()
        trial.set_user_attr(NAME, self._name)

    def train(self, interruption: Interruption) -> Outcome:
        """Trains it to its end, or until it falls behind.

        Raises:
          FpclassError: as `train_config`; or the metric is defined on no fold.
        """
        try:
            with Background() as background:
                data = self._ground.data.of(self._name)
                study, on_epoch = self._ground.study, self._on_epoch
                train_config(study, self._name, data, interruption, on_epoch, background, after_round=self._after_round)
        except Interrupted:  # while images were decoded
            pass
        finally:
            for member in self._members:  # of these trainings the predictions are wanted alone
                shutil.rmtree(member.run.path("checkpoints"), ignore_errors=True)
        self._count()
        scores = self._scores()
        score = mean_of(scores)
        is_interrupted = len(scores) < len(self._members) and not self._is_behind
        if not is_interrupted and not self._is_behind:
            if math.isnan(score):
                raise TrainingError(f"{self._ground.metric} is defined on none of its folds")
            self._trial.report(score, len(scores))
        return Outcome(
            self._values,
            score,
            len(scores),
            self._clock.seconds(),
            self._is_behind,
            is_interrupted,
            len(scores) > self._num_before,
        )

    def _done(self) -> list[StudyMember]:
        return [member for member in self._members if member.is_done]

    def _scores(self) -> list[float]:
        return [score_of(member, self._ground.metric) for member in self._done()]

    def _on_epoch(self, num_members: int, lines: Sequence[dict[str, Any]]) -> None:
        """Counts epochs after the first, which is mostly compiling; says something where nothing was for long."""
        if lines and not self._num_warm:
            self._warm.restart()
        self._num_warm += num_members
        if self._silence.seconds() > SILENT_SECONDS:
            done, took = len(self._done()), duration(self._clock.seconds())
            say(f"[trial {self._trial.number}] {done} of {len(self._members)} folds in {took}")
            self._silence.restart()

    def _count(self) -> None:
        """Notes what it took so far, and says the first time what all folds will take."""
        seconds, num_new = self._clock.seconds(), len(self._done()) - self._num_before
        self._trial.set_user_attr(SECONDS, seconds)
        if num_new > 0 and not self._is_costed:
            self._is_costed = True
            share = num_new / len(self._members)
            warm = min(self._warm.seconds() * self._num_epochs / max(self._num_epochs - 1, 1), seconds)
            self._on_cost(warm / share, seconds - warm)

    def _after_round(self, num_failed: int) -> bool:
        """Whether to go on with the next folds."""
        self._count()
        if num_failed:
            return False
        scores = self._scores()
        score, step = mean_of(scores), len(scores)
        self._trial.report(score, step)
        others = [
            other.intermediate_values[step]
            for other in self._trial.study.get_trials(deepcopy=False)
            if other.number != self._trial.number and step in other.intermediate_values
        ]
        self._is_behind = is_behind(score, others, self._ground.metric)
        return not self._is_behind


def is_behind(score: float, others: Sequence[float], metric: str) -> bool:
    """Whether a mean score over the first folds is worse than the median of what other trials had after as many.

    Others that were stopped later count too: of those that come to a fold half go on, as in successive halving.
    """
    if len(others) < MIN_OTHERS or math.isnan(score):
        return len(others) >= MIN_OTHERS
    defined = [other for other in others if not math.isnan(other)]
    median = float(np.median(defined)) if defined else score
    return score > median if is_lower_better(metric) else score < median


def mean_of(scores: Sequence[float]) -> float:
    """The mean of the scores that are defined; nan of none."""
    defined = [score for score in scores if not math.isnan(score)]
    return float(np.mean(defined)) if defined else math.nan


def score_of(member: StudyMember, metric: str) -> float:
    """The score of a trained member on the images of its fold; nan where the metric is not defined on them."""
    frame = read_member(member, VALIDATION)
    logits = frame[logit_columns(frame)].to_numpy(np.float64)
    return float(metric_value(logits, frame["label"].to_numpy(np.int64), metric))
