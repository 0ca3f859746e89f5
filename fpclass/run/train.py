"""The trainer: resume, checkpoints, log and a clean stop around the engine, for one training or several at once."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from fpclass.common.console import SILENT_SECONDS, Interrupted, Interruption, say
from fpclass.common.extension import bare
from fpclass.common.parallel import agree, is_first_process
from fpclass.common.threads import Background
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TRAIN, VALIDATION
from fpclass.errors import DataError, LossError
from fpclass.experiment import is_trained, needs_selection
from fpclass.run.folder import Run
from fpclass.run.log import Clock, EpochBar, Log, files_of_batch, log_record, say_part
from fpclass.run.prepare import Prepared, check_same_start
from fpclass.run.probe import describe_probe, fit_probes
from fpclass.run.start import begin, has_start
from fpclass.train import checkpoints
from fpclass.train.engine import Engine, batches_passed, epochs_passed, fit, have_all_stopped
from fpclass.train.inputs.streaming import describe_stream, is_streamed
from fpclass.train.memory import told_in_one_line
from fpclass.train.placement import Placement, place_run
from fpclass.train.state import Best, Member, TrainState
from fpclass.train.task import Task

FOLD_STRIDE = 0x9E3779B1
"""Odd, and far from small numbers: seeds of different folds do not meet."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What has become of trainings.

    Attributes:
      state: the last one, on the devices.
      is_finished: whether they came to their end; False if they were interrupted.
      failures: why some of them ended early, by their position; what the state has of them is of no use.
    """

    state: TrainState
    is_finished: bool
    failures: dict[int, str]


@dataclasses.dataclass(frozen=True)
class Trainee:
    """One training: run folder, data with their roles, seed and rows; the name, for messages, may be ""."""

    run: Run
    prepared: Prepared
    member: Member
    name: str = ""


def make_member(config: Config, prepared: Prepared) -> Member:
    """The member that a config and its split describe: its seed and its rows, on the host.

    Raises:
      DataError: no images where some are needed.
    """
    splits, labels = prepared.splits, prepared.table.labels
    train, validation = splits.rows(TRAIN), splits.rows(VALIDATION)
    selection = splits.rows(SELECTION) if config.split.selection == "inner" else validation
    selection = selection if needs_selection(config) else selection[:0]
    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataError(f"no images left for {name}: see audit.json for what is in quarantine, and config.split")
    weights = np.ones(prepared.table.num_classes, np.float32)
    if config.train.class_weights == "balanced":
        weights = balanced_class_weights(labels[train], prepared.table.num_classes)
    # Folds of one seed share nothing, so that what chance does to one of them tells of chance in general.
    seed = (config.seed + FOLD_STRIDE * max(config.split.fold, 0)) % 2**32
    on_host: Any = (np.uint32(seed), train, selection, validation, weights)
    return Member(*on_host)


def balanced_class_weights(labels: Int[np.ndarray, " n"], num_classes: int) -> Float[np.ndarray, " K"]:
    """Weights n / (K n_k), so that every class weighs the same in the loss, float32 [K]."""
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * np.maximum(counts, 1))).astype(np.float32)


def train(run: Run, prepared: Prepared, interruption: Interruption, member: Member | None = None) -> bool:
    """Trains from the last checkpoint of the run folder, or from the start, and keeps `last` and `best`.

    A probe is fitted instead, and has no `last`. The member is that of config and split, unless one is given.

    Returns whether training came to its end; False if it was interrupted (the same command goes on from there).

    Raises:
      RunError: the data have changed since the folder was begun, or it cannot be written to.
      TrainingError: the loss is not finite.
    """
    config = run.config
    check_same_start(run, prepared)
    member = member or make_member(config, prepared)
    if not is_trained(config):
        say(describe_probe(config, prepared))
        fitted = list(fit_probes([(run, prepared, member)], config, interruption))
        say("".join(map(str, fitted)))
        return bool(fitted)
    try:
        placement = place_run(config, prepared.table, prepared.images)
    except Interrupted:
        return False
    trainee = Trainee(run, prepared, member)

    def on_start(state: TrainState, start: int) -> None:
        say(describe_network(config, placement.task, state, placement.engine))
        if is_streamed(placement.dataset.images):
            say(describe_stream(placement.dataset))
        if start:
            say(f"going on after epoch {start} of {config.train.num_epochs}")

    with EpochBar(config.train.num_epochs, len(run.history())) as bar, Background() as background:
        trained = train_together(
            [trainee], placement, config, run.path("checkpoints/last"), interruption, background,
            on_start=on_start, on_epoch=lambda records: bar(records[0]), on_part=bar.within, keeps_checkpoint=True,
        )  # fmt: skip
    if have_all_stopped(trained.state):
        last = epochs_passed(trained.state)
        say(f"stopped after epoch {last}: {config.train.patience} evaluations without improvement")
    elif trained.is_finished and epochs_passed(trained.state) < config.train.num_epochs:
        say(f"stopped in epoch {epochs_passed(trained.state) + 1}: its {config.train.max_minutes:g} minutes are over")
    return trained.is_finished


def train_together(
    trainees: Sequence[Trainee],
    placement: Placement,
    config: Config,
    checkpoint: pathlib.Path,
    interruption: Interruption,
    background: Background,
    *,
    resumes: bool = True,
    on_start: Callable[[TrainState, int], None] = lambda *_: None,
    on_epoch: Callable[[list[dict[str, Any]]], None],
    on_part: Callable[[int, float], None] = say_part,
    before_save: Callable[[], None] = lambda: None,
    keeps_checkpoint: bool = False,
) -> Trained:
    """Trains members of one config from their last checkpoint, or from the start.

    Args:
      trainees: as many as the engine of the placement takes at once.
      config: theirs, but for fold and seed.
      checkpoint: folder of the checkpoint that a resume goes on from.
      background: writes checkpoints, after what it was given before; the last one may still be on its way at the end.
      resumes: whether a checkpoint that is there is theirs; otherwise they begin anew, and one may just be removed.
      on_start: is given the state and the epochs that it has behind it.
      on_epoch: is given the log lines of an epoch, one for each member that trained in it.
      on_part: is given an epoch that takes long, and what share of it is done.
      before_save: called in the background whenever a checkpoint is about to be written.
      keeps_checkpoint: whether the checkpoint is wanted after the end too, with the best weights of every trainee.

    Raises:
      RunError: a folder cannot be written to.
      LossError: the loss of none of them is finite any more.
      TrainingError: there is not enough memory.
    """
    engine, dataset, num_epochs = placement.engine, placement.dataset, config.train.num_epochs
    with told_in_one_line(config):
        stacked = engine.put_members([trainee.member for trainee in trainees])
        fresh = engine.init(stacked, dataset)
        state = _restore(engine, fresh, checkpoint, len(trainees)) if resumes else fresh
    if state is fresh and has_start(config):
        of_each = [(trainee.run, trainee.prepared, trainee.member) for trainee in trainees]
        with told_in_one_line(config):
            begun = begin(placement, of_each, config, fresh, interruption)
        if begun is None:
            return Trained(fresh, False, {})
        state = begun
    start = epochs_passed(state)
    for trainee in trainees if is_first_process() else ():
        trainee.run.truncate_history(start)
    on_start(state, start)

    def write(host: TrainState) -> None:
        before_save()
        if keeps_checkpoint:
            save_best(trainees, placement, engine.split(host.best, len(trainees)))
        batches = epochs_passed(host) * engine.num_batches(stacked) + batches_passed(host)
        checkpoints.save(checkpoint, batches, host)

    def save(state: TrainState) -> None:
        host = engine.to_host(state, len(trainees))
        if is_first_process():
            background(lambda: write(host))
        since_saved.restart()

    def go_on(settled: Callable[[], TrainState]) -> bool:
        """Saves the state if it is time to; whether nobody asked to stop."""
        background.check()
        if agree(np.array(since_said.seconds() > SILENT_SECONDS)):
            since_said.restart()
            state = settled()
            share = batches_passed(state) / engine.num_batches(stacked)
            if share and is_first_process():
                on_part(epochs_passed(state) + 1, share)
        if agree(np.array(since_saved.seconds() >= config.train.checkpoint_seconds)):
            save(settled())
        nonlocal is_out_of_time
        budget = config.train.max_minutes * 60 or math.inf
        is_out_of_time = agree(np.array(has_scores and since_start.seconds() > budget), any_process=True)
        return not (is_out_of_time or agree(np.array(bool(interruption.signal_number)), any_process=True))

    is_out_of_time, has_scores, since_start = False, start > 0, Clock()
    clock, since_saved, since_said, failures = Clock(), Clock(), Clock(), {}
    logging = Log([trainee.run for trainee in trainees]) if is_first_process() else contextlib.nullcontext()
    with logging as log:

        def after_epoch(record: dict[str, Any]) -> None:
            nonlocal has_scores
            has_scores = True
            records = engine.split(record, len(trainees))
            failures.update(_failures(records, trainees, engine))
            if len(failures) == len(trainees):
                raise LossError(next(iter(failures.values())))
            lines = {i: log_record(own) for i, own in enumerate(records) if not math.isnan(own["train_accuracy"])}
            if log:
                log(lines, clock.restart(), is_batched=engine.is_batched)
            on_epoch(list(lines.values()))
            since_said.restart()

        with told_in_one_line(config):
            state = fit(engine, state, stacked, dataset, config.train, after_epoch, after_part=go_on)
        is_finished = epochs_passed(state) == num_epochs or have_all_stopped(state) or bool(is_out_of_time)
        if keeps_checkpoint or not is_finished:
            save(state)
    return Trained(state, is_finished, failures)


def _failures(records: list[dict[str, Any]], trainees: Sequence[Trainee], engine: Engine) -> dict[int, str]:
    """The trainees whose loss was not finite, by position: where, with the files of that batch."""
    failures = {}
    for i in (i for i, record in enumerate(records) if record["bad_step"] >= 0):
        trainee, epoch, step = trainees[i], int(records[i]["epoch"]), int(records[i]["bad_step"])
        files = files_of_batch(trainee.prepared.table, trainee.member, epoch, step, engine.batch_size)
        name = f"{trainee.name}: " if trainee.name else ""
        lower = trainee.run.config.optim.learning_rate / 10
        advice = f"try --config.optim.learning_rate={lower:g}, or optim.gradient_clip_norm=1, in a new --workdir"
        failures[i] = f"{name}loss is not finite in epoch {epoch}, step {step + 1} (batch: {files}, …); {advice}"
    return failures


def save_best(trainees: Sequence[Trainee], placement: Placement, of_each: Sequence[Best]) -> None:
    """Writes the best weights of every trainee, on the host, into its run folder."""
    for trainee, best in zip(trainees, of_each, strict=True):
        weights = placement.task.whole({"params": best.params, "batch_stats": best.batch_stats})
        checkpoints.save(trainee.run.path("checkpoints/best"), int(best.epoch), weights)


def _restore(engine: Engine, fresh: TrainState, checkpoint: pathlib.Path, num_members: int) -> TrainState:
    """The state of a checkpoint; the fresh one where there is none."""
    is_there = is_first_process() and checkpoints.latest_step(checkpoint) is not None
    if not agree(np.array(is_there)):
        return fresh
    host = engine.to_host(fresh, num_members)
    if is_first_process():
        host = jax.device_get(checkpoints.restore(checkpoint, host))
    return engine.to_devices(host, fresh)


def describe_network(config: Config, task: Task, state: TrainState, engine: Engine) -> str:
    """One line about a network: its size, where its weights come from, how much of it learns."""
    whole = task.whole({"params": state.params})
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(whole))
    learning = [sum(leaf.size for leaf in group.values()) for group in engine.plan.groups(state.params)]
    without = "pretrained without labels" if config.unlabelled.pretrain_epochs else "not pretrained"
    origin = f"weights {config.model.weights}" if config.model.weights else without
    share = (
        ""
        if sum(learning) == num_parameters
        else f", {', then '.join(f'{n:,}' for n in accumulate(learning))} of them learn"
    )
    kind = jax.devices()[0].device_kind
    return f"model: {bare(config.model.name)}, {num_parameters:,} parameters{share}, {origin}; {kind}"
