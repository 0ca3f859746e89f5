"""The search: proposals of Optuna, each trained as a config of a study, until the time is over.

Everything is in its folder: Optuna's journal has the proposals and their scores, `members/` what was trained, by a name
that says the values, so that nothing is trained twice, neither after an interruption nor where values come again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from fpclass.common.console import Interruption, duration, say
from fpclass.config import flatten
from fpclass.run.folder import Run
from fpclass.run.prepare import check_same_data
from fpclass.stats.weighted_metrics import is_lower_better
from fpclass.study.metric import metric_of, name_of
from fpclass.study.run import StudyData
from fpclass.study.study import Study
from fpclass.tune.space import Space, read_values, with_values
from fpclass.tune.trial import FAILURE, NAME, SECONDS, BudgetError, Ground, Outcome, train_trial

BASE = "base"
"""Name in the study of the search of the config as it stands."""
OF_COMPARISON = 2
"""Whole trials that the comparison on other folds costs: of the config that is found, and of the one that was there."""
MIN_TRIALS = 2
"""Whole trials that a budget has to be enough for, beside the comparison."""
MIN_IMPORTANCE = 8
"""Whole trials from which importances are told."""
MAX_REPEATED = 20
"""Proposals in a row that were there before, after which nothing new is expected."""
MAX_FAILED = 10
"""Trials in a row that cannot be trained, after which something else is wrong."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a search may take, all its starts together.

    Attributes:
      seconds: of its trials, and of the comparison on other folds that is to come; those of earlier ones not counted.
      num_trials: at most so many.
    """

    seconds: float
    num_trials: float = math.inf


class Search:
    """A search: begun, or gone on with."""

    def __init__(self, study: Study, space: Space):
        """Lists and decodes the images.

        Args:
          study: of the config around which is searched, in a folder that is there; trials are added to it.

        Raises:
          DataError, ConfigError: as `StudyData.of` and `metric_of`.
          RunError: the data have changed since the search began.
        """
        base = study.configs[BASE]
        self.study, self.base, self.space, self.num_folds = study, base, space, study.num_folds
        data = StudyData(study)
        prepared = data.of(BASE)
        check_same_data(Run(study.folder, base), prepared)
        data.ingested(prepared.table)
        self.metric = metric_of(base, prepared.table.classes, prepared.table.class_names)
        self.called = name_of(self.metric, prepared.table.class_names)
        self._ground = Ground(study, data, base, self.metric)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal = study.path("journal.log").resolve()  # a link to it is Optuna's lock
        journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)  # of a kill: the folder is ours
        self._optuna = optuna.create_study(
            study_name="tune",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            direction="minimize" if self.is_lower_better else "maximize",
            load_if_exists=True,
        )
        for stopped in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._optuna.tell(stopped.number, state=TrialState.FAIL)
            self._optuna.enqueue_trial(stopped.params)
        for trial in self.whole:
            study.configs[str(trial.user_attrs[NAME])] = with_values(base, self.values_of(trial))[0]
        of_base = flatten(base)
        if not self.trials and all(entry.contains(of_base[key]) for key, entry in space.items()):
            self._optuna.enqueue_trial({key: entry.stored(of_base[key]) for key, entry in space.items()})
        # Not the numbers again that the start before this one drew.
        self._optuna.sampler = TPESampler(seed=(base.seed + len(self.trials)) % 2**32)

    @property
    def is_lower_better(self) -> bool:
        """Whether the best score is the lowest."""
        return is_lower_better(self.metric)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that were begun, in their order."""
        return [t for t in self._optuna.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    @property
    def whole(self) -> list[FrozenTrial]:
        """The trials on all folds."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial on all folds with the best mean score, the first of equals; None while there is none."""
        sign = -1 if self.is_lower_better else 1
        return max(self.whole, key=lambda trial: sign * _score(trial), default=None)

    def values_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """What a trial was trained with, of the keys of the space that it reads."""
        of_space = {key: entry for key, entry in self.space.items() if key in trial.params}  # a kill may leave a part
        return read_values(self.base, {key: entry.loaded(trial.params[key]) for key, entry in of_space.items()})

    def importances(self) -> dict[str, float]:
        """Shares of the keys in what tells good trials from others, by PED-ANOVA; none of few trials."""
        if len({trial.value for trial in self.whole}) < MIN_IMPORTANCE:
            return {}
        return optuna.importance.get_param_importances(self._optuna)

    @property
    def seconds_of_comparison(self) -> float:
        """What the comparison on other folds will take; 0 while there is no whole trial."""
        if not self.best:
            return 0.0
        of_base = [t for t in self.whole if self.study.configs[str(t.user_attrs[NAME])] == self.base]
        return _mean(self._seconds([self.best])) + _mean(self._seconds(of_base or self.whole))

    def run(self, limits: Limits, interruption: Interruption) -> bool:
        """Tries one proposal after the other until the time is spent; whether nobody asked to stop.

        Raises:
          BudgetError: it is not enough for anything.
          FpclassError: nothing can be trained.
        """
        repeated = failed = 0
        if self.whole:
            left = duration(max(self._left(limits), 0.0))
            say(f"going on after {len(self.trials)} trials; {left} are left for others")
        while self._is_time_left(limits):
            trial = self._optuna.ask()
            values = {key: entry.loaded(entry.ask(trial, key)) for key, entry in self.space.items()}
            on_cost = functools.partial(self._check, limits) if not self.whole else lambda *_: None
            outcome = train_trial(self._ground, trial, values, interruption, on_cost)
            if outcome.is_interrupted:
                return False
            self._tell(trial, outcome, limits)
            repeated = 0 if outcome.is_new else repeated + 1
            failed = failed + 1 if outcome.error else 0
            if outcome.error and failed == MAX_FAILED:
                if not self.whole:
                    raise outcome.error
                say(f"the last {MAX_FAILED} trials failed: the search ends here")
                break
            if repeated == MAX_REPEATED:
                say(f"the last {MAX_REPEATED} proposals were there before: the space is searched")
                break
        return True

    def _check(self, limits: Limits, whole: float, once: float) -> None:
        """Says, once it is known what a trial costs, how many there will be.

        Args:
          whole: seconds of a trial on all folds.
          once: seconds of compiling.

        Raises:
          BudgetError: the budget is not enough for `MIN_TRIALS` and the comparison.
        """
        needed = once + (MIN_TRIALS + OF_COMPARISON) * whole
        about = f"a trial takes about {duration(whole)} here ({self.num_folds} folds), and compiling {duration(once)}"
        if needed > limits.seconds:
            raise BudgetError(
                f"--minutes={limits.seconds / 60:g}: {about}; {MIN_TRIALS} trials and the comparison on other folds "
                f"take {math.ceil(needed / 60)} minutes or more: give these, or fewer --folds, epochs or pixels"
            )
        num_trials = (limits.seconds - once) / whole - OF_COMPARISON
        say(
            f"estimate: {about}: about {min(num_trials, limits.num_trials):.0f} trials in {duration(limits.seconds)}, "
            f"more where some are stopped early; {duration(OF_COMPARISON * whole)} are for the comparison at the end"
        )

    def _seconds(self, trials: Iterable[FrozenTrial]) -> list[float]:
        """What trials took, each with what was trained of it before, in trials that were interrupted."""
        total: dict[str, float] = {}
        for trial in self.trials:
            name = trial.user_attrs.get(NAME, "")
            total[name] = total.get(name, 0.0) + trial.user_attrs.get(SECONDS, 0.0)
        return [total[name] for name in {trial.user_attrs.get(NAME, "") for trial in trials}]

    def _left(self, limits: Limits) -> float:
        """Seconds that are left for trials."""
        return limits.seconds - sum(self._seconds(self.trials)) - self.seconds_of_comparison

    def _is_time_left(self, limits: Limits) -> bool:
        num_done = sum(trial.state in DONE for trial in self.trials)
        return num_done < limits.num_trials and self._left(limits) >= _mean(self._seconds(self.trials))

    def _tell(self, trial: optuna.Trial, outcome: Outcome, limits: Limits) -> None:
        """Tells Optuna and whoever watches what became of a trial."""
        if outcome.error:
            trial.set_user_attr(FAILURE, str(outcome.error))
            trial.set_user_attr(SECONDS, outcome.seconds)
        if outcome.error or outcome.is_behind:
            self._optuna.tell(trial, state=TrialState.PRUNED)
        else:
            self._optuna.tell(trial, outcome.score)
        best = self.best
        if outcome.error:
            became = f"FAILED: {outcome.error}"
        elif outcome.is_behind:
            became = f"{outcome.score:.4f} after {outcome.num_folds} of {self.num_folds} folds: stopped"
        else:
            became = f"{outcome.score:.4f}" + " the best so far" * bool(best and best.number == trial.number)
        values = ", ".join(f"{key.rpartition('.')[2]} {short(value)}" for key, value in outcome.values.items())
        num_done = sum(other.state in DONE for other in self.trials)
        each = max(_mean(self._seconds(self.trials)), 1e-3)
        num_left = min(max(self._left(limits), 0) // each, limits.num_trials - num_done)
        at_best = f"; best {self.called} {_score(best):.4f}" if best else ""
        took = duration(outcome.seconds)
        say(f"[trial {trial.number}] {became}  ({values}; {took}){at_best}, about {num_left:.0f} to go")


def short(value: Any) -> str:
    """A value as lines and tables have it: numbers to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _score(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
