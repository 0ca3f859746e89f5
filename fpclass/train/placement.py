"""Where and how a config is computed: on which devices, members batched or not, images in memory or on disk.

The one place that decides. Everything else calls the functions of an `Engine` and need not know.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from fpclass.common.console import say
from fpclass.common.parallel import batch_mesh, is_first_process, member_mesh, num_processes, put
from fpclass.config import Config
from fpclass.data.decode import Images
from fpclass.data.table import Table
from fpclass.errors import ConfigError, RunError
from fpclass.models.build import has_matrix_form, matrix_form
from fpclass.models.network import HEAD
from fpclass.train.device_engine import make_engine
from fpclass.train.engine import Engine
from fpclass.train.hyperparameters import program_key, structure_of
from fpclass.train.inputs.streaming import describe_stream, is_streamed, put_dataset
from fpclass.train.members import MemberEngine, divide_over_devices, plan_rounds
from fpclass.train.memory import fitted_batch, told_in_one_line
from fpclass.train.state import Dataset, Member
from fpclass.train.stream_engine import make_stream_engine
from fpclass.train.task import Task, make_task

NUM_KEPT = 8
"""Engines whose compiled programs are kept for further configs of their structure."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """A task, the engine that trains it, and its data on the engine's devices."""

    task: Task
    engine: Engine
    dataset: Dataset

    @property
    def num_members(self) -> int:
        """The fewest members that keep all devices busy."""
        return self.engine.mesh.size if isinstance(self.engine, MemberEngine) else 1


def place_run(config: Config, table: Table, images: Images) -> Placement:
    """Places one training.

    Raises:
      ConfigError, WeightsError: as `make_task` and `parallel.batch_mesh`; or a batch that cannot be divided.
      TrainingError: there is not enough memory.
    """
    mesh = batch_mesh(config.train.num_devices)
    num_devices = mesh.size if mesh else 1
    if config.train.batch_size % (config.train.accumulate * num_devices):
        raise ConfigError(
            f"train.batch_size is {config.train.batch_size}: it cannot be divided into train.accumulate="
            f"{config.train.accumulate} parts for {num_devices} devices (train.num_devices); take a multiple of "
            f"{config.train.accumulate * num_devices}"
        )
    config = fitted_batch(config, len(table), num_devices)
    warn_of_slow_type(config)
    with told_in_one_line(config):
        task = make_task(config, table, images)
        dataset = put_dataset(task.dataset, mesh)
    return Placement(task, engine_for(dataset.images, task.model, config, mesh, num_cached=task.num_cached), dataset)


def place_members(config: Config, table: Table, images: Images, num_members: int) -> Placement:
    """Places members of one config, to train at the same time or one after the other.

    Raises:
      ConfigError, WeightsError: as `make_task`.
      RunError: several processes cannot share a stream.
      TrainingError: there is not enough memory.
    """
    warn_of_slow_type(config)
    task, engine = _plan_members(config, table, images, num_members)
    if isinstance(engine, MemberEngine):
        return Placement(task, engine, put(task.dataset, engine.mesh))
    if num_processes() > 1:
        raise RunError(
            f"{task.dataset.images.nbytes / 1e9:.1f} GB of images do not fit into data.memory_gb, and are streamed by "
            "one process only: raise it, or leave out --distributed"
        )
    if is_first_process():
        say(f"{describe_stream(task.dataset)}; members train one after the other")
    return Placement(task, engine, put_dataset(task.dataset, None))


def compile_ahead(config: Config, table: Table, images: Images, members: Sequence[Member]) -> None:
    """Compiles the programs of members that `place_members` is asked for next; puts no data set onto the devices.

    Nothing where these programs depend on features that are still to be computed, or on windows of a stream.
    """
    if config.finetune.cache_views or is_streamed(images):
        return
    task, engine = _plan_members(config, table, images, len(members))
    assert isinstance(engine, MemberEngine)
    rounds = plan_rounds(engine, members, task.dataset, config.hardware.memory_gb)
    for of_size in {len(positions): positions for positions in rounds}.values():
        engine.compile([members[i] for i in of_size], task.dataset)


def _plan_members(config: Config, table: Table, images: Images, num_members: int) -> tuple[Task, Engine]:
    """The task of a config, with its data on the host, and the engine that trains so many members of it."""
    mesh = member_mesh(num_members)
    config = fitted_batch(config, len(table))
    with told_in_one_line(config):
        task = make_task(config, table, images, None if is_streamed(images) else batched_form(config, mesh))
    structure = Structure.of(config, task, table.num_classes)
    if is_streamed(task.dataset.images):
        return task, stream_engine(structure).of_config(config)
    return task, member_engine(structure, mesh, is_batched=are_batched(config, mesh)).of_config(config)


@dataclasses.dataclass(frozen=True)
class Structure:
    """What programs are made of; those of two configs are the same where these are equal."""

    key: str
    model: nn.Module = dataclasses.field(compare=False)
    config: Config = dataclasses.field(compare=False)
    num_cached: int

    @classmethod
    def of(cls, config: Config, task: Task, num_classes: int) -> Structure:
        """That of a config with its network."""
        key = f"{num_classes} classes, {program_key(config)}"
        return cls(key, task.model, structure_of(config), task.num_cached)


@functools.lru_cache(NUM_KEPT)
def member_engine(structure: Structure, mesh: Mesh, *, is_batched: bool) -> MemberEngine:
    """The engine of members whose images are on the devices; the same one for the same structure."""
    alone = make_engine(structure.model, structure.config, num_cached=structure.num_cached)
    return divide_over_devices(alone, mesh, is_batched=is_batched)


@functools.lru_cache(NUM_KEPT)
def stream_engine(structure: Structure) -> Engine:
    """The engine of members whose images stay on disk; the same one for the same structure."""
    return make_stream_engine(structure.model, structure.config)


def warn_of_slow_type(config: Config) -> None:
    """Says so where the type that a network computes in makes it slower."""
    is_slow = config.model.compute_dtype == "bfloat16" and has_matrix_form(config.model)
    if is_slow and jax.default_backend() == "cpu" and is_first_process():
        say("model.compute_dtype=bfloat16: on a CPU this network takes nearly twice as long with it")


def rounds_of(placement: Placement, members: Sequence[Member], config: Config) -> list[list[int]]:
    """Positions of the members that train at the same time, round by round; those of a stream one by one."""
    if not isinstance(placement.engine, MemberEngine):
        return [[position] for position in range(len(members))]
    return plan_rounds(placement.engine, members, placement.dataset, config.hardware.memory_gb)


def engine_for(
    images: Any, model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0
) -> Engine:
    """The engine of one member that suits where its images are; arguments as `make_engine`."""
    make = make_stream_engine if is_streamed(images) else make_engine
    return make(model, config, batch_mesh, num_cached=num_cached)


def are_batched(config: Config, mesh: Mesh) -> bool:
    """Whether the members of a device train in the same program step, or one after the other: `hardware.together`.

    "auto" is what was measured: on CPU cores one after the other, since a batched step falls out of the cache; on
    accelerators batched, since a single small network leaves them idle. A backbone does not, and its convolutions
    would become grouped ones, with a kernel per member: batched only where a head learns behind cached features. The
    mesh is from `parallel.member_mesh`.
    """
    together = config.hardware.together
    is_on_cpu = mesh.devices.flat[0].platform == "cpu"
    is_head = config.finetune.cache_views > 0 and config.finetune.freeze_before == HEAD and not config.finetune.unfreeze
    is_fit = has_matrix_form(config.model) or is_head
    return together == "vmap" or (together == "auto" and not is_on_cpu and is_fit)


def batched_form(config: Config, mesh: Mesh) -> Config:
    """The section `model` of the config in a form that suits members that train at the same time."""
    # A convolution with a kernel per member becomes a grouped one, slow everywhere; a matrix product stays one.
    return matrix_form(config.model) if are_batched(config, mesh) else config.model
