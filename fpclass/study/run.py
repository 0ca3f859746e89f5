"""Runs a study: one config after the other, a line about each, and what it amounts to at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fpclass.common.console import SILENT_SECONDS, Interrupted, Interruption, duration, is_watched, make_bar, say
from fpclass.common.parallel import agree, is_first_process, num_processes
from fpclass.common.threads import Background
from fpclass.config import Config
from fpclass.data.splits import VALIDATION, Splits, make_splits
from fpclass.data.table import Table
from fpclass.errors import DataError, FpclassError, RunError, WeightsError, one_line
from fpclass.experiment import is_trained
from fpclass.run.folder import Run
from fpclass.run.log import Clock
from fpclass.run.prepare import Prepared, audit_data, check_same_data, check_unlabelled, write_audit
from fpclass.run.stages import INGEST, OF_STUDY, Stages
from fpclass.stats.decisions.thresholds import check_cost
from fpclass.study.ahead import Ahead
from fpclass.study.estimate import Estimate, estimate
from fpclass.study.metric import metric_of
from fpclass.study.out_of_fold import parts_of
from fpclass.study.study import Study, StudyMember
from fpclass.study.training import train_config
from fpclass.train.task import require_weights

Failures = dict[str, str]
"""Reasons why configs could not be trained, by name."""
MIN_OF_CLASS = 2
"""People of each class that a share of them has to have: one to learn from, one to choose the epoch by."""


def train_study(study: Study, data: StudyData, interruption: Interruption) -> Failures | None:
    """Trains every member that is not trained yet. A config that fails does not stand in the way of the others.

    Args:
      study: its folder must exist.
      data: its own.
      interruption: asked after every epoch.

    Returns:
      None if it was interrupted.

    Raises:
      ConfigError: costs, or a metric, that do not fit the classes.
      DataError: the data of the baseline cannot be used, or divided into so many folds.
      RunError: the folder cannot be written to.
    """
    trained = trained_configs(study)
    failures: Failures = {}
    if not (len(trained) == len(study.configs) and data.is_ingested):
        check_data(study, data)
        failures |= too_small_shares(study, data.of(study.baseline), trained)
    failures |= missing_weights(study, trained)  # after a look at the data, and before hours of training
    todo = [name for name in study.configs if name not in trained and name not in failures]
    after, ahead = dict(itertools.pairwise(todo)), Ahead(study)
    estimated = Estimate("", {})
    if todo and is_first_process():
        estimated = estimate(study, data.of(study.baseline), todo)
    if estimated.text:
        say(estimated.text)
    with Progress(study, estimated.work) as progress, Background() as background:
        for name in study.configs:
            with progress.timed(name):
                if name in trained:
                    continue
                if name in failures:
                    progress.failed(failures[name])
                    continue
                try:
                    is_finished = ahead.wait_for(name, interruption)
                    if is_finished:
                        prepared = data.of(name)
                        following = after.get(name) if data.are_shared(name, after.get(name)) else None
                        on_epoch = ahead.beginning_with(following, prepared, progress.add)
                        is_finished = train_config(study, name, prepared, interruption, on_epoch, background)
                except Interrupted:  # while images were decoded
                    is_finished = False
                except RunError:  # of the folder: the next config would meet it too
                    raise
                except Exception as error:  # whatever a config can do wrong, the others are none the worse
                    if num_processes() > 1 and not isinstance(error, FpclassError):
                        raise RunError(f"{name}: {_reason(error)}; a process died: start all of them again") from error
                    failures[name] = _reason(error)
                    progress.failed(failures[name])
                    continue
                if not is_finished:
                    background.wait()  # of the round before, whose members count
                    progress.interrupted()
                    return None
    return failures


def trained_configs(study: Study) -> set[str]:
    """The configs all of whose members are trained: neither weights nor data are needed for them."""
    is_trained = np.array([all(member.is_done for member in study.members(name)) for name in study.configs])
    return {name for name, done in zip(study.configs, agree(is_trained), strict=True) if done}


def check_data(study: Study, data: StudyData) -> None:
    """Prepares the data of the baseline, and checks what would be known only after hours of training.

    Raises:
      DataError: they cannot be used, or name no people where folds that divide people are asked for.
      RunError: they have changed since the study began.
      ConfigError: the cost matrix, or the metric, does not fit the classes.
    """
    prepared = data.of(study.baseline)
    if is_first_process():
        check_same_data(Run(study.folder, study.configs[study.baseline]), prepared)
        data.ingested(prepared.table)
    if study.compares_splits and not any(prepared.table.rows["group"]):
        raise DataError(f"--compare-splits: {prepared.table.source} names no people, so there is no leak to show")
    if not study.num_folds:
        rows = prepared.splits.rows(VALIDATION)
        units = prepared.splits.frame["unit"].to_numpy(str)
        parts_of(units[rows], prepared.table.labels[rows], prepared.table.class_names)
    metric_of(study.configs[study.baseline], prepared.table.classes, prepared.table.class_names)
    cost = study.configs[study.baseline].study.cost
    if cost:
        check_cost(cost, prepared.table.num_classes)


def missing_weights(study: Study, trained: Collection[str] = ()) -> Failures:
    """The configs whose pretrained weights are neither here nor to be fetched; the others' are fetched.

    Trained ones need none.
    """
    failures: Failures = {}
    for name, config in study.configs.items():
        if name in trained:
            continue
        try:
            require_weights(config)
        except WeightsError as error:
            failures[name] = str(error)
    return failures


def too_small_shares(study: Study, prepared: Prepared, trained: Collection[str] = ()) -> Failures:
    """The configs that train on a share of the people in which a class would have less than two, fold by fold."""
    failures: Failures = {}
    units, fold_of = (prepared.splits.frame[column].to_numpy() for column in ("unit", "fold"))
    for name, config in study.configs.items():
        share = config.split.train_share
        if share == 1 or name in trained:
            continue
        for k, class_name in enumerate(prepared.table.class_names):
            is_class = (prepared.table.labels == k) & (fold_of >= 0)
            counts = [len(np.unique(units[is_class & (fold_of != fold)])) for fold in range(study.num_folds)]
            fewest = min(counts, default=None)
            if fewest is not None and round(share * fewest) < MIN_OF_CLASS:
                failures[name] = (
                    f"{share:.0%} of the {fewest} people of class {class_name!r} who train in a fold are fewer than "
                    f"{MIN_OF_CLASS}; such a share takes {math.ceil(MIN_OF_CLASS / share)} of each class"
                )
    return failures


class StudyData:
    """The data of a study's configs, of which neighbours mostly share one decoding."""

    def __init__(self, study: Study, *, strict: bool = False):
        """With `strict`, an image in quarantine is an error."""
        self._study = study
        self._strict = strict
        self._key: tuple[str, ...] = ()
        self._prepared: Prepared | None = None
        self._sha256 = ""
        self._stages = Stages(Run(study.folder, study.configs[study.baseline]), OF_STUDY)
        is_there = is_first_process() and not strict and self._stages.is_done(INGEST)
        self.is_ingested = bool(agree(np.array(is_there)))
        """Whether these very data were audited, by the list of their files, and the audit is there."""

    def ingested(self, table: Table) -> None:
        """Notes that the data are audited, and are those that the study began with."""
        self._stages.done(INGEST, table)

    @property
    def at_hand(self) -> Prepared | None:
        """The data of the baseline, unless others, or none, are in memory."""
        config = self._study.members(self._study.baseline)[0].run.config
        return self.of(self._study.baseline) if self._key[:1] == self._key_of(config)[:1] else None

    @staticmethod
    def _key_of(config: Config) -> tuple[str, ...]:
        """The same for configs whose images, and then whose roles, are the same."""
        sections = (config.data, config.split)
        return tuple(json.dumps(section.to_dict(), sort_keys=True) for section in sections)

    def are_shared(self, name: str, other: str | None) -> bool:
        """Whether there is another config, and it has the same images with the same roles."""
        keys = [self._key_of(self._study.members(each)[0].run.config) for each in (name, other) if each]
        return len(keys) == 2 and keys[0] == keys[1]

    def of(self, name: str) -> Prepared:
        """The audited table and decoded images of a config; roles are those of the first fold.

        Raises:
          ConfigError: as `check_unlabelled`.
          DataError: as `prepare`; or another data set than the baseline's.
        """
        config = self._study.members(name)[0].run.config
        key = self._key_of(config)
        if self._prepared is None or key[0] != self._key[0]:
            self._prepared = self._prepare(config, is_first=not self._sha256)
        elif key != self._key:
            self._prepared = dataclasses.replace(self._prepared, splits=self._divide(self._prepared.table, config))
        self._key = key
        met = self._prepared.sha256_without_copies
        if met != (self._sha256 or met):
            raise DataError(f"{name}: its images, labels or people are others than those of {self._study.baseline}")
        self._sha256 = met
        check_unlabelled(config, self._prepared.table)
        return self._prepared

    def _prepare(self, config: Config, *, is_first: bool) -> Prepared:
        audit, images = audit_data(config)
        if is_first and is_first_process() and self.is_ingested:
            say(self._stages.skipped(INGEST))
        elif is_first and is_first_process():
            write_audit(self._study.folder, audit, images)
            say(audit.to_text())
        audit.raise_if_fatal()
        if self._strict:
            audit.raise_if_strict()
        return Prepared(audit, images, self._divide(audit.table, config))

    @staticmethod
    def _divide(table: Table, config: Config) -> Splits:
        return make_splits(table, config.split, needs_selection=False)


class Progress:
    """A line per config, and some within a long one, with a score and the time left; a bar where somebody watches.

    Args:
      work: of each config that is to be trained, in any unit: the time left goes by it.
    """

    def __init__(self, study: Study, work: Mapping[str, float]):
        self._study = study
        self._silence = Clock()
        self._steps = {name: self._count_steps(name) for name in study.configs}
        self._left = {name: work.get(name, 0.0) for name in study.configs}
        self._unit = {name: self._left[name] / max(steps, 1) for name, steps in self._steps.items()}
        self._seconds, self._done = 0.0, 0.0

    def __enter__(self) -> Progress:
        total = sum(self._steps.values())
        self._bar = make_bar(total=total, desc="study", unit="epoch", disable=not (is_watched() and is_first_process()))
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times a config and says how it went."""
        self._name, self._started, self._added, self._failure = name, time.perf_counter(), 0, ""
        self._warm, self._scores, self._is_interrupted = (Clock(), 0), "", False
        self._were_there = not self._count_steps(name)
        self._bar.set_description_str(name[:24])
        yield
        seconds = time.perf_counter() - self._started
        self._left[name] = 0
        if self._added and not self._failure:
            self._seconds, self._done = self._seconds + seconds, self._done + self._added * self._unit[name]
        self._say(seconds)

    def add(self, num_members: int, lines: Sequence[dict[str, Any]]) -> None:
        """Counts an epoch of so many members, with their lines of the log; says it where nothing was said for long."""
        self._added += num_members
        if self._added == num_members:  # what came before was compiling, mostly
            self._warm = Clock(), num_members
        self._bar.update(num_members)
        scores = [line["validation_accuracy"] for line in lines if line.get("validation_accuracy") is not None]
        if scores:
            self._scores = f"validation accuracy {np.mean(scores):.3f} at epoch {lines[0]['epoch']}"
            self._bar.set_postfix_str(self._scores, refresh=False)
        if self._bar.disable and is_first_process() and self._silence.seconds() > SILENT_SECONDS:
            members = self._study.members(self._name)
            seconds = time.perf_counter() - self._started
            done = f"{sum(member.is_done for member in members)} of {len(members)} members in {duration(seconds)}"
            self._write("; ".join(filter(None, (done, self._scores, self.rest()))))

    def failed(self, reason: str) -> None:
        """Remembers why the config at hand failed, for its line."""
        self._failure = reason

    def interrupted(self) -> None:
        """Remembers that the config at hand is not trained to its end, for its line."""
        self._is_interrupted = True

    def _say(self, seconds: float) -> None:
        if not is_first_process():
            return
        if self._failure:
            self._write(f"FAILED: {self._failure}")
            return
        members = self._study.members(self._name)
        if self._were_there:
            self._write(f"{len(members)} members were there")
            return
        done = [member for member in members if member.is_done]  # the last ones may still be written
        if self._is_interrupted:
            self._write(f"stopped after {duration(seconds)}: {len(done)} of {len(members)} members are trained")
            return
        scores = [accuracy_of(member) for member in done]
        of_all = "" if len(scores) == len(members) else f"{len(scores)} of "
        accuracy = f"validation accuracy {np.mean(scores):.3f}" if scores else ""
        said = f"{of_all}{len(members)} members in {duration(seconds)}"
        self._write("; ".join(filter(None, (said, accuracy, self.rest()))))

    def _write(self, text: str) -> None:
        """Says something of the config at hand."""
        names = list(self._study.configs)
        width = max(map(len, names))
        number = f"{names.index(self._name) + 1:>{len(str(len(names)))}}/{len(names)}"
        self._bar.write(f"[{number}] {self._name:<{width}}  {text}")
        sys.stdout.flush()
        self._silence.restart()

    def rest(self) -> str:
        """How long it will take, from the configs that are trained and the one at hand; "" while nothing is known."""
        seconds, done, left = self._seconds, self._done, sum(self._left.values())
        if self._left[self._name]:  # under way
            (clock, first), unit = self._warm, self._unit[self._name]
            seconds, done, left = (
                seconds + clock.seconds(),
                done + (self._added - first) * unit,
                left - self._added * unit,
            )
        return f"about {duration(left * seconds / done)} left" if left > 0 and done else ""

    def _count_steps(self, name: str) -> int:
        """Epochs of all members that are still to be trained; a probe is fitted in one."""
        config = self._study.configs[name]
        of_each = config.train.num_epochs if is_trained(config) else 1
        return of_each * sum(not member.is_done for member in self._study.members(name))


def accuracy_of(member: StudyMember) -> float:
    """The share of a trained member's validation images that it is right about."""
    frame: Any = member.read_logits("predictions.csv")
    frame = frame[frame["split"] == VALIDATION]
    logits = frame[[column for column in frame.columns if column.startswith("logit_")]].to_numpy(np.float64)
    return float(np.mean(logits.argmax(1) == frame["label"].to_numpy(np.int64)))


def _reason(error: Exception) -> str:
    text = one_line(error, 300)
    return text if isinstance(error, FpclassError) else f"{type(error).__name__}: {text}"
