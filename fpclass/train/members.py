"""A company: members of one config that train together, as one program over all devices.

A member sees the same batches, augmentations and initial weights as when it trains alone, because every random number
has an address and padding changes nothing. One after the other on its device (`sequential`) it computes the very same
bits; batched (`vmap`) its matrix products are parts of larger ones, whose sums may round otherwise.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from fpclass.config import Config
from fpclass.models.network import HEAD
from fpclass.parallel import MEMBER, agree, over_members, put
from fpclass.train.engine import Engine, make_engine
from fpclass.train.state import PADDING, Dataset, Member, TrainState

HOST_MEMORY_SHARE = 0.5
"""Of a computer's memory, what a company on its cores may take."""
DEVICE_MEMORY_SHARE = 0.85
"""Of an accelerator's memory: the allocator cannot use all of it."""


@dataclasses.dataclass(frozen=True)
class Company:
    """The functions of a config for many members at once.

    Attributes:
      engine: takes and gives stacked members, states and records: one more axis, of members, in front.
      alone: the same functions for one member.
      mesh: devices that the members are divided over.
      is_batched: members of a device train in the same program step (`vmap`), or one after the other.
    """

    engine: Engine
    alone: Engine
    mesh: Mesh
    is_batched: bool


def are_batched(config: Config, mesh: Mesh) -> bool:
    """Whether the members of a device train in the same program step, or one after the other.

    "auto" is what was measured: on CPU cores one after the other, since a batched step falls out of the cache; on
    accelerators batched, since a single small network leaves them idle. A backbone does not, and its convolutions
    would become grouped ones, with a kernel per member: batched only where a head learns behind cached features.

    Args:
      config: the whole config; `study.together` decides.
      mesh: from `parallel.member_mesh`.
    """
    together = config.study.together
    is_on_cpu = mesh.devices.flat[0].platform == "cpu"
    is_head = config.finetune.cache_views > 0 and config.finetune.freeze_until == HEAD and not config.finetune.unfreeze
    is_small = config.model.name == "cnn" or is_head
    return together == "vmap" or (together == "auto" and not is_on_cpu and is_small)


def batched_form(config: Config, mesh: Mesh) -> Config:
    """The section `model` of the config in a form that suits members that train together."""
    model_config = ConfigDict(config.model.to_dict())
    if are_batched(config, mesh) and (model_config.name, model_config.conv_form) == ("cnn", "auto"):
        # A convolution with a kernel per member becomes a grouped one, slow everywhere; a matrix product stays one.
        model_config.conv_form = "polyphase"
    return model_config


def make_company(config: Config, model: nn.Module, mesh: Mesh, *, num_cached: int = 0) -> Company:
    """Builds the program that trains all members of a config.

    Args:
      config: the whole config.
      model: the network, of `batched_form`; or its part behind cached features.
      mesh: from `parallel.member_mesh`.
      num_cached: stages before that.
    """
    is_batched = are_batched(config, mesh)
    alone = make_engine(model, config, num_cached=num_cached)

    def all_members(function: Callable, num_mapped: int, **options: Any) -> Any:
        return jax.jit(over_members(function, num_mapped, is_batched=is_batched, mesh=mesh), **options)

    engine = Engine(
        init=all_members(alone.init, 1),
        train_epochs=tuple(all_members(epoch, 2, donate_argnums=0) for epoch in alone.train_epochs),
        evaluate_epoch=all_members(alone.evaluate_epoch, 2),
        predict=all_members(alone.predict, 2),
        batch_size=alone.batch_size,
        plan=alone.plan,
    )
    return Company(engine, alone, mesh, is_batched)


def stack_members(members: Sequence[Member], mesh: Mesh) -> Member:
    """Members side by side on the devices of a mesh: rows filled up with `PADDING`, and with members without rows.

    Args:
      members: of one config; their numbers of rows may differ.
      mesh: from `parallel.member_mesh`; the number of stacked members is a multiple of its size.
    """

    def pad(rows: np.ndarray, length: int) -> np.ndarray:
        return np.pad(rows, (0, length - len(rows)), constant_values=PADDING)

    host = [jax.device_get(member) for member in members]
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(Member):
        values = [np.asarray(getattr(member, field.name)) for member in host]
        if field.name.endswith("_rows"):
            longest = max(map(len, values))
            values = [pad(rows, longest) for rows in values]
        fillers = -len(values) % mesh.size
        filler = np.full_like(values[0], PADDING) if field.name.endswith("_rows") else values[0]
        columns[field.name] = np.stack([*values, *[filler] * fillers])
    return put(Member(**columns), mesh, MEMBER)


def plan_waves(company: Company, members: Sequence[Member], dataset: Dataset, config: Config) -> list[list[int]]:
    """Divides members into waves that fit into the memory of the devices, as equal in size as can be.

    Args:
      company: of the config.
      members: that are still to be trained.
      dataset: of the config.
      config: the whole config; `study.memory_gb` overrides what the device says it has.

    Returns:
      Positions of the members of each wave.
    """
    if not members:
        return []
    budget = config.study.memory_gb * 1e9 or device_memory(company.mesh)
    dataset_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(dataset))
    shapes = jax.eval_shape(company.alone.init, members[0], dataset)
    # A state is there twice while best weights are chosen and while checkpoints are written.
    member_bytes, shared_bytes = 2 * _num_bytes(shapes), dataset_bytes
    if company.is_batched:
        member_bytes += _step_bytes(company.alone, shapes, members[0], dataset)
    else:  # the one that is training: what it begins with, its gradients, its next weights, and the best of both
        shared_bytes += 4 * _num_bytes(shapes)
    # The hosts of a job may differ; their waves must not.
    per_device = int(agree(np.array(max(1, int((budget - shared_bytes) // member_bytes)))))
    num_waves = math.ceil(len(members) / (per_device * company.mesh.size))
    return [part.tolist() for part in np.array_split(np.arange(len(members)), num_waves)]


def device_memory(mesh: Mesh) -> float:
    """Bytes that members on one device of a mesh may take."""
    device = mesh.local_devices[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return DEVICE_MEMORY_SHARE * stats["bytes_limit"]
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        total = 8e9
    return HOST_MEMORY_SHARE * total / len(mesh.local_devices)


def take_member(tree: PyTree, position: int) -> PyTree:
    """One member's part of stacked arrays."""
    return jax.tree.map(lambda x: x[position], tree)


def _num_bytes(shapes: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _step_bytes(alone: Engine, state: TrainState, member: Member, dataset: Dataset) -> int:
    """What training or evaluating one member needs beside its arguments, as the compiler says."""
    as_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), (member, dataset))
    needed = _num_bytes(state)
    for function in (alone.train_epochs[-1], alone.evaluate_epoch):
        analysis = jax.jit(function).lower(state, *as_shapes).compile().memory_analysis()
        needed = max(needed, int(analysis.temp_size_in_bytes) if analysis else 0)
    return needed
