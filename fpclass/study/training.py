"""Training of the members of a study, in rounds of as many as fit into memory; each becomes a run folder."""

from __future__ import annotations

import math
import pathlib
import shutil
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.common.console import Interrupted, Interruption, say
from fpclass.common.parallel import agree, fetch, is_first_process, num_processes, put
from fpclass.common.threads import Background
from fpclass.config import Config
from fpclass.data.splits import PREDICT, TEST, VALIDATION
from fpclass.errors import LossError, MemoryShortage
from fpclass.experiment import is_trained
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_start, describe_model
from fpclass.run.probe import fit_probes
from fpclass.run.train import Trained, Trainee, make_member, save_best, train_together
from fpclass.study.study import Study, StudyMember
from fpclass.train.engine import epochs_passed
from fpclass.train.members import of_one_size
from fpclass.train.placement import Placement, place_members, rounds_of
from fpclass.train.state import Best

OnEpoch = Callable[[int, Sequence[dict[str, Any]]], None]
"""Called after every epoch with the number of members that trained in it, and their lines of the log."""

AfterRound = Callable[[int], bool]
"""Asked between rounds, with how many members failed so far, whether to go on; all members before are written then."""


def train_config(
    study: Study,
    name: str,
    prepared: Prepared,
    interruption: Interruption,
    on_epoch: OnEpoch,
    background: Background,
    folds: Collection[int] | None = None,
    after_round: AfterRound | None = None,
) -> bool:
    """Trains the members of a config that are not trained yet, and returns whether all are: False if interrupted.

    The roles of the prepared data are made here, fold by fold. What the last members come to may still be being written
    in the background.

    Args:
      folds: of these only; None: of all.
      after_round: asked between rounds of members that train at the same time; without it the next round begins while
        the one before is written.

    Raises:
      DataError: the people cannot be divided like that.
      RunError: the folder cannot be written to, or the data have changed.
      LossError: the loss of a member is not finite; the others are trained.
      MemoryShortage: a round of one member per device needs more memory than there is.
    """
    trainees = missing_trainees(study.members(name), prepared, folds)
    folder = study.path("members") / name
    return train_members(trainees, study.configs[name], folder, interruption, on_epoch, background, after_round)


def train_members(
    trainees: Sequence[Trainee],
    config: Config,
    folder: pathlib.Path,
    interruption: Interruption,
    on_epoch: OnEpoch,
    background: Background,
    after_round: AfterRound | None = None,
) -> bool:
    """Trains members of one config that are not trained yet; whether all came to their end.

    Args:
      trainees: their rows filled up to the same numbers; they are predicted by the roles that they are given.
      config: theirs, but for fold and seed.
      folder: theirs, where an interruption leaves the round that was half trained.

    Raises:
      As `train_config`.
    """
    if not trainees:
        return True
    name, prepared = folder.name, trainees[0].prepared
    for trainee in trainees if is_first_process() else ():
        _begin(trainee.run, trainee.prepared)
    if not is_trained(config):
        return _fit(trainees, config, interruption, on_epoch, after_round)
    try:
        placement = place_members(config, prepared.table, prepared.images, len(trainees))
    except Interrupted:
        return False
    rounds = rounds_of(placement, [trainee.member for trainee in trainees], config)
    unfinished = Unfinished(folder)
    failures: list[str] = []
    todo, resumes = unfinished.first([trainee.name for trainee in trainees], rounds)
    while todo:
        own = [trainees[i] for i in todo[0]]
        try:
            failed = _train_round(own, placement, config, unfinished, interruption, on_epoch, background, resumes)
        except MemoryShortage:
            if len(own) <= placement.num_members or num_processes() > 1:
                raise
            todo, resumes = halved(todo), False
            say(f"{name}: {len(own)} members at a time need more memory than there is; now {len(todo[0])}")
            continue
        if failed is None:
            return False
        failures += failed
        del todo[0]
        resumes = False
        if todo and after_round:
            background.wait()
            if not after_round(len(failures)):
                break
    if failures:
        others = f"; and {len(failures) - 1} more of {len(trainees)} members" if len(failures) > 1 else ""
        raise LossError(failures[0] + others)
    return not todo


def _fit(
    trainees: Sequence[Trainee],
    config: Config,
    interruption: Interruption,
    on_epoch: OnEpoch,
    after_round: AfterRound | None,
) -> bool:
    """Fits probes and writes what becomes of each; whether all are there."""
    num_fitted = 0
    of_each = [(trainee.run, trainee.prepared, trainee.member) for trainee in trainees]
    for trainee, fitted in zip(trainees, fit_probes(of_each, config, interruption), strict=False):
        if is_first_process():
            files.write_bytes(trainee.run.path("splits.csv"), trainee.prepared.splits.csv)
            _write_predictions([trainee], [fitted.logits])
        on_epoch(1, ())
        num_fitted += 1
        if num_fitted < len(trainees) and after_round and not after_round(0):
            break
    return num_fitted == len(trainees)


def halved(rounds: list[list[int]]) -> list[list[int]]:
    """The same members in order, in rounds of at most half as many as in the first one."""
    members = [member for members in rounds for member in members]
    size = math.ceil(len(rounds[0]) / 2)
    return [members[start : start + size] for start in range(0, len(members), size)]


def _train_round(
    trainees: list[Trainee],
    placement: Placement,
    config: Config,
    unfinished: Unfinished,
    interruption: Interruption,
    on_epoch: OnEpoch,
    background: Background,
    resumes: bool,
) -> list[str] | None:
    """Trains members at the same time and writes what becomes of them: why some failed; None if it was interrupted.

    The round before may still be being written: the checkpoint is this one's from the first time that it is saved.
    """
    names = [trainee.name for trainee in trainees]
    try:
        trained = train_together(
            trainees,
            placement,
            config,
            unfinished.checkpoint,
            interruption,
            background,
            resumes=resumes,
            before_save=lambda: unfinished.begin(names),
            on_epoch=lambda lines: on_epoch(len(trainees), lines),
        )
    except LossError as error:
        if is_first_process():
            background(unfinished.end)
        return [str(error)] * len(trainees)
    if not trained.is_finished:
        return None
    on_epoch(len(trainees) * (config.train.num_epochs - epochs_passed(trained.state)), ())
    best, logits = _results(placement, len(trainees), trained)

    def finish() -> None:
        _write(placement, trainees, best, logits, [i for i in range(len(trainees)) if i not in trained.failures])
        unfinished.end()

    if is_first_process():
        background(finish)
    return list(trained.failures.values())


def missing_trainees(
    members: Sequence[StudyMember], prepared: Prepared, folds: Collection[int] | None = None
) -> list[Trainee]:
    """The members of a config that are not trained yet, their rows as many as the largest of all its members has.

    With `folds`, those of these folds only.

    So their programs are the same in every round, and after an interruption.
    """
    is_done = agree(np.array([member.is_done for member in members]))
    if is_done.all():
        return []
    data = [prepared.divided(member.run.config) for member in members]
    made = of_one_size([make_member(member.run.config, own) for member, own in zip(members, data, strict=True)])
    each = zip(members, data, made, is_done, strict=True)
    return [
        Trainee(member.run, own, rows, member.name)
        for member, own, rows, done in each
        if not done and (folds is None or member.fold in folds)
    ]


def _begin(run: Run, prepared: Prepared) -> None:
    """Makes a member's run folder, as `fpclass train` would."""
    run.write_config()
    files.write_json(run.path("model.json"), describe_model(prepared.table))
    check_same_start(run, prepared)


class Unfinished:
    """The round of members that an interruption leaves half trained: their names and their checkpoint.

    The checkpoint is of the members that the file beside it names, and of no others.
    """

    def __init__(self, folder: pathlib.Path):
        self.checkpoint = folder / "unfinished"
        self._path = folder / "unfinished.json"

    def _names(self) -> list[str]:
        names = files.read_json(self._path) if self._path.is_file() else []
        # Of something else it says nothing: then these members begin anew.
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []

    def first(self, names: Sequence[str], rounds: list[list[int]]) -> tuple[list[list[int]], bool]:
        """The rounds (positions in `names`, the members still to be trained), a round left half trained first.

        And whether there is one.
        """
        begun = np.zeros(len(names), bool)
        if is_first_process():
            there = self._names()
            begun = np.array([name in there for name in names])
            if begun.sum() != len(there):  # some of them were finished: its checkpoint is of no use
                begun[:] = False
        begun = agree(begun)
        if not begun.any():
            return rounds, False
        rest = [[i for i in members if not begun[i]] for members in rounds]
        return [np.flatnonzero(begun).tolist(), *filter(None, rest)], True

    def begin(self, names: list[str]) -> None:
        """Names the members whose checkpoint is to be saved; one of others, which would pass for theirs, goes."""
        if self._names() != names:
            self.end()
            files.write_json(self._path, names)

    def end(self) -> None:
        """Forgets the round: its members are trained."""
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint, ignore_errors=True)


def _results(placement: Placement, num_members: int, trained: Trained) -> tuple[list[Best], list[np.ndarray]]:
    """Best weights, and logits [N, K] of every row, of trained members, on the host."""
    engine, best = placement.engine, trained.state.best
    every_row = put(np.arange(len(placement.dataset.labels), dtype=np.int32), engine.mesh)
    logits = engine.predict(best.params, best.batch_stats, placement.dataset.images, every_row)
    return engine.split(fetch(best), num_members), engine.split(fetch(logits), num_members)


def _write(
    placement: Placement, trainees: list[Trainee], best: list[Best], logits: list[np.ndarray], good: list[int]
) -> None:
    """Writes weights and predictions of the good ones of some members; predictions last, which make a member done."""
    for trainee in (trainees[i] for i in good):
        # What a kill left here may be of a later epoch, which Orbax would take for the newer one.
        shutil.rmtree(trainee.run.path("checkpoints/best"), ignore_errors=True)
        files.write_bytes(trainee.run.path("splits.csv"), trainee.prepared.splits.csv)
    save_best([trainees[i] for i in good], placement, [best[i] for i in good])
    # Last, and all together: a kill in the midst of it would leave the others to be trained again.
    _write_predictions([trainees[i] for i in good], [logits[i] for i in good])


def _write_predictions(trainees: Sequence[Trainee], logits: Sequence[np.ndarray]) -> None:
    """Writes the predictions of members from their logits [N, K]; the last file of a member makes it done."""
    for filename, roles in (("test_predictions.csv", (PREDICT,)), ("predictions.csv", (VALIDATION, TEST))):
        for trainee, of_rows in zip(trainees, logits, strict=True):
            splits = trainee.prepared.splits
            rows = np.concatenate([splits.rows(role) for role in roles])
            predictions = Predictions.make(trainee.prepared.table, splits, rows, of_rows[rows], trainee.name)
            trainee.run.write_csv(filename, predictions.frame)
