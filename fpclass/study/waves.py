"""Trains the members of a study, wave by wave, and leaves each of them as a run folder."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fpclass import files
from fpclass.config import Config
from fpclass.console import Interruption, say
from fpclass.data.cache import StoredImages
from fpclass.data.splits import PREDICT, TEST, VALIDATION, make_splits
from fpclass.errors import RunError, TrainingError
from fpclass.experiment import needs_selection
from fpclass.parallel import MEMBER, agree, fetch, is_first_process, member_mesh, num_processes, put
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_start
from fpclass.run.results import describe_model
from fpclass.run.train import first_bad_batch, log_record, make_member
from fpclass.study.study import Study, StudyMember
from fpclass.train import checkpoints
from fpclass.train.engine import epochs_passed, fit, have_all_stopped
from fpclass.train.host_engine import describe_stream, is_streamed, make_host_company, needs_host_loop, put_dataset
from fpclass.train.members import Company, batched_form, make_company, plan_waves, stack_members, take_member
from fpclass.train.state import Dataset, Member, TrainState
from fpclass.train.task import Task, make_task

OnEpoch = Callable[[int], None]
"""Is told after every epoch how many members trained in it."""


@dataclasses.dataclass(frozen=True)
class Wave:
    """Members of one config that train at the same time.

    Attributes:
      folder: of the config in the study; holds the wave's checkpoint.
      members: their run folders and configs.
      prepared: the data with each member's roles.
      rows: what each trains on.
      task: the network that they train, and what is around it.
    """

    folder: pathlib.Path
    members: list[StudyMember]
    prepared: list[Prepared]
    rows: list[Member]
    task: Task


def train_arm(study: Study, name: str, prepared: Prepared, interruption: Interruption, on_epoch: OnEpoch) -> bool:
    """Trains the members of an arm that are not trained yet.

    Args:
      study: the folder and its configs.
      name: of the arm.
      prepared: its data; the roles are made here, fold by fold.
      interruption: asked after every epoch.
      on_epoch: is told of progress.

    Returns:
      Whether all are trained; False if it was interrupted.

    Raises:
      DataError: the people cannot be divided like that.
      RunError: the folder cannot be written to, or the data have changed.
      TrainingError: the loss of a member is not finite.
    """
    config = study.arms[name]
    members = study.members(name)
    is_done = agree(np.array([member.is_done for member in members]))
    todo = [member for member, done in zip(members, is_done, strict=True) if not done]
    if not todo:
        return True
    splits_of_fold = {member.fold: _fold(member, prepared) for member in todo}
    data = [splits_of_fold[member.fold] for member in todo]
    rows = [make_member(member.run.config, fold) for member, fold in zip(todo, data, strict=True)]
    if is_first_process():
        for member, fold in zip(todo, data, strict=True):
            _begin(member.run, fold)
    task, company, dataset = _make_company(config, prepared, len(todo))
    if is_streamed(dataset):
        waves = [[i] for i in range(len(todo))]
    else:
        waves = plan_waves(company, rows, dataset, config)
    for positions in _resumed_first(study, name, todo, waves):
        wave = Wave(
            study.path("members") / name,
            [todo[i] for i in positions],
            [data[i] for i in positions],
            [rows[i] for i in positions],
            task,
        )
        if not train_wave(company, wave, dataset, config, interruption, on_epoch):
            return False
    return True


def _make_company(config: Config, prepared: Prepared, num_members: int) -> tuple[Task, Company, Dataset]:
    """What the members of an arm train, the program that does it, and the data on its devices.

    Raises:
      RunError: several processes cannot share a stream.
    """
    mesh = member_mesh(num_members)
    is_on_disk = isinstance(prepared.images, StoredImages)
    task = make_task(config, prepared, None if is_on_disk else batched_form(config, mesh))
    is_alone = num_processes() == 1 and needs_host_loop(config, task.num_cached)
    if not (is_alone or is_streamed(task.dataset)):
        company = make_company(config, task.model, mesh, num_cached=task.num_cached)
        return task, company, put(task.dataset, mesh)
    if num_processes() > 1:
        raise RunError(
            f"{task.dataset.images.nbytes / 1e9:.1f} GB of images do not fit into data.memory_gb, and are streamed by "
            "one process only: raise it, or leave out --distributed"
        )
    if is_streamed(task.dataset) and is_first_process():
        say(f"{describe_stream(task.dataset)}; members train one after the other")
    mesh = member_mesh(1)
    company = make_host_company(config, task.model, mesh, num_cached=task.num_cached)
    return task, company, put_dataset(task.dataset, mesh)


def _fold(member: StudyMember, prepared: Prepared) -> Prepared:
    config = member.run.config
    splits = make_splits(prepared.table, config.split, needs_selection=needs_selection(config))
    return dataclasses.replace(prepared, splits=splits)


def _begin(run: Run, prepared: Prepared) -> None:
    """Makes a member's run folder, as `launch.py train` would."""
    run.write_config()
    files.write_json(run.path("model.json"), describe_model(prepared.table))
    check_same_start(run, prepared)


def _resumed_first(study: Study, name: str, todo: Sequence[StudyMember], waves: list[list[int]]) -> list[list[int]]:
    """The waves, after the one that an interruption left half trained, if there is one."""
    begun = np.zeros(len(todo), bool)
    path = study.path("members") / name / "wave.json"
    if is_first_process() and path.is_file():
        names = files.read_json(path)
        begun = np.array([member.name in names for member in todo])
        if begun.sum() != len(names):  # some of them were finished: its checkpoint is of no use
            begun[:] = False
    begun = agree(begun)
    if not begun.any():
        return waves
    rest = [[i for i in wave if not begun[i]] for wave in waves]
    return [np.flatnonzero(begun).tolist(), *filter(None, rest)]


def train_wave(
    company: Company, wave: Wave, dataset: Dataset, config: Config, interruption: Interruption, on_epoch: OnEpoch
) -> bool:
    """Trains a wave from its checkpoint, or from the start, and writes what its members predict.

    Returns:
      Whether it came to its end.
    """
    stacked = stack_members(wave.rows, company.mesh)
    state = company.engine.init(stacked, dataset)
    last = wave.folder / "wave"
    state, start = _restore(company, wave, state)
    if is_first_process():
        if not start:  # a checkpoint of other members, left by an interruption, would pass for a later one of these
            shutil.rmtree(last, ignore_errors=True)
        files.write_json(wave.folder / "wave.json", [member.name for member in wave.members])
        for member in wave.members:
            member.run.truncate_history(start)

    def save(state: TrainState) -> None:
        state = jax.tree.map(lambda x: x[: len(wave.members)], fetch(state))
        if is_first_process():
            checkpoints.save(last, epochs_passed(state), state)

    clock = time.perf_counter()

    def after_epoch(state: TrainState, record: dict[str, Any]) -> bool:
        nonlocal clock
        seconds, clock = time.perf_counter() - clock, time.perf_counter()
        _log(wave, record, company, seconds)
        on_epoch(len(wave.members))
        epoch = record["epoch"]
        if epoch % config.train.checkpoint_every_epochs == 0 and epoch < config.train.num_epochs:
            save(state)
        return not agree(np.array(bool(interruption.signal_number)), any_process=True)

    state = fit(company.engine, state, stacked, dataset, config.train, after_epoch)
    epoch, is_stopped = epochs_passed(state), have_all_stopped(state)
    if epoch < config.train.num_epochs and not is_stopped:
        save(state)
        return False
    on_epoch(len(wave.members) * (config.train.num_epochs - epoch))
    _finish(company, wave, state, dataset)
    return True


def _restore(company: Company, wave: Wave, fresh: TrainState) -> tuple[TrainState, int]:
    """The state of an interrupted wave, and its epoch; the fresh one where there is none."""
    last = wave.folder / "wave"
    names = [member.name for member in wave.members]
    marker = wave.folder / "wave.json"
    is_there = is_first_process() and marker.is_file() and files.read_json(marker) == names
    epoch = checkpoints.latest_epoch(last) if is_there else None
    if int(agree(np.array(epoch or 0))) == 0:
        return fresh, 0
    host = fetch(fresh)
    if is_first_process():
        found = checkpoints.restore(last, jax.tree.map(lambda x: x[: len(names)], host))
        # Members that only fill up the devices keep their fresh state: their number may be another one now.
        host = jax.tree.map(lambda x, whole: np.concatenate([x, whole[len(names) :]]), jax.device_get(found), host)
    host = jax.tree.map(agree, host)
    return put(host, company.mesh, MEMBER), epochs_passed(host)


def _log(wave: Wave, record: dict[str, Any], company: Company, seconds: float) -> None:
    """Appends each member's epoch and its share of the time to its log, and stops at a loss that is not a number.

    Raises:
      TrainingError: names the member and the files of the batch.
    """
    # In a batched step those that have stopped early cost what they did; one after the other they cost nothing.
    num_sharing = len(wave.members) if company.is_batched else int(np.sum(~np.isnan(record["train_accuracy"])))
    for position, member in enumerate(wave.members):
        own = {key: value if key == "epoch" else value[position] for key, value in record.items()}
        if math.isnan(own["train_accuracy"]):  # of no image: it has stopped early, before this epoch
            continue
        where = first_bad_batch(own, wave.prepared[position], wave.rows[position], company.engine.batch_size)
        if where:
            raise TrainingError(f"{member.name}: {where}; lower optim.learning_rate or set optim.gradient_clip_norm")
        if is_first_process():
            member.run.append_history(log_record(own) | {"seconds": round(seconds / num_sharing, 5)})


def _finish(company: Company, wave: Wave, state: TrainState, dataset: Dataset) -> None:
    """Writes weights and predictions of a trained wave; a member's predictions last, which makes it done."""
    table = wave.prepared[0].table
    every_row = put(np.arange(len(table), dtype=np.int32), company.mesh)
    best = state.best
    logits = fetch(company.engine.predict(best.params, best.batch_stats, dataset.images, every_row))
    best = fetch(best)
    if not is_first_process():
        return
    for position, (member, prepared) in enumerate(zip(wave.members, wave.prepared, strict=True)):
        own = take_member(best, position)
        weights = wave.task.whole({"params": own.params, "batch_stats": own.batch_stats})
        # What a kill left here may be of a later epoch, which Orbax would take for the newer one.
        shutil.rmtree(member.run.path("checkpoints/best"), ignore_errors=True)
        checkpoints.save(member.run.path("checkpoints/best"), int(own.epoch), weights)
        member.run.write_csv("splits.csv", prepared.splits.frame)
    # In a loop of its own, and a short one: a kill in the midst of it would leave the others to be trained again.
    for filename, roles in (("test_predictions.csv", (PREDICT,)), ("predictions.csv", (VALIDATION, TEST))):
        for position, (member, prepared) in enumerate(zip(wave.members, wave.prepared, strict=True)):
            splits = prepared.splits
            rows = np.concatenate([splits.rows(role) for role in roles])
            predictions = Predictions.make(table, splits, rows, logits[position][rows], member.name)
            member.run.write_csv(filename, predictions.frame)
    (wave.folder / "wave.json").unlink(missing_ok=True)
    shutil.rmtree(wave.folder / "wave", ignore_errors=True)
