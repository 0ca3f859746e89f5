"""Members of one config that train at the same time: stacked arrays, and the engine that trains them.

A member sees the same batches, augmentations and initial weights as when it trains alone, because every random number
has an address and padding changes nothing. One after the other on its device it computes the very same bits; batched
(`vmap`) its matrix products are parts of larger ones, whose sums may round otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from fpclass.common.parallel import MEMBER, agree, device_memory, fetch, over_members, put
from fpclass.config import Config
from fpclass.train.engine import Engine
from fpclass.train.memory import num_bytes
from fpclass.train.state import PADDING, Dataset, Member, TrainState

ROWS = tuple(field.name for field in dataclasses.fields(Member) if field.name.endswith("_rows"))
"""Fields of a member whose lengths differ between folds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberEngine(Engine):
    """An engine whose functions take and give stacked members, states and records: one more axis in front.

    Attributes:
      alone: the same functions for one member.
      mesh: devices that the members are divided over.
    """

    alone: Engine
    mesh: Mesh

    def of_config(self, config: Config) -> Self:
        """The engine of another config of the same structure, by the same compiled programs."""
        return dataclasses.replace(super().of_config(config), alone=self.alone.of_config(config))

    def put_members(self, members: Sequence[Member]) -> Member:
        """Puts members side by side onto the devices; see `stack_members`."""
        return stack_members(members, self.mesh)

    def split(self, tree: PyTree, num_members: int) -> list[PyTree]:
        """The parts of the members in a state or in a record on the host; scalars of a record belong to all of them."""

        def part(position: int) -> PyTree:
            return jax.tree.map(lambda x: x if np.ndim(x) == 0 else x[position], tree)

        return list(map(part, range(num_members)))

    def join(self, of_each: Sequence[PyTree]) -> PyTree:
        """What `split` took apart: one more axis in front."""
        return jax.tree.map(lambda *x: np.stack(x), *of_each)

    def to_host(self, state: TrainState, num_members: int) -> TrainState:
        """What a checkpoint of these members holds, without those that only fill up the devices."""
        return jax.tree.map(lambda x: x[:num_members], fetch(state))

    def to_devices(self, restored: TrainState, fresh: TrainState) -> TrainState:
        """The state to go on from. Who fills up the devices stays fresh: their number may be another one now."""

        def fill_up(x: Any, whole: np.ndarray) -> np.ndarray:
            return np.concatenate([x, whole[len(x) :]])

        host = jax.tree.map(fill_up, jax.device_get(restored), fetch(fresh))
        return put(jax.tree.map(agree, host), self.mesh, MEMBER)

    def compile(self, members: Sequence[Member], dataset: Dataset) -> None:
        """Compiles what trains these members and predicts by them, by the shapes of a data set on the host."""

        def shaped(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=sharding)

        programs: Any = self  # whose functions are from `jax.jit`, as their types do not say
        whole = NamedSharding(self.mesh, PartitionSpec())
        stacked, data = self.put_members(members), jax.tree.map(lambda x: shaped(x, whole), dataset)
        init = programs.init.lower(stacked, data)
        state = jax.tree.map(shaped, init.out_info, init.compile().output_shardings)
        for part in programs.train_parts:
            part.lower(state, stacked, data, self.hyper, np.int32(0), np.int32(1)).compile()
        programs.evaluate_epoch.lower(state, stacked, data).compile()
        rows = shaped(np.arange(len(data.labels), dtype=np.int32), whole)
        programs.predict.lower(state.best.params, state.best.batch_stats, data.images, rows).compile()


def divide_over_devices(alone: Engine, mesh: Mesh, *, is_batched: bool) -> MemberEngine:
    """Compiles the program that trains members on all devices of a mesh, from a compiled engine (`make_engine`).

    Args:
      mesh: from `parallel.member_mesh`.
      is_batched: members of a device in the same program step, or one after the other.
    """

    def mapped(function: Callable, num_mapped: int, **options: Any) -> Any:
        return jax.jit(over_members(function, num_mapped, is_batched=is_batched, mesh=mesh), **options)

    return MemberEngine(
        init=mapped(alone.init, 1),
        train_parts=tuple(mapped(part, 2, donate_argnums=0) for part in alone.train_parts),
        evaluate_epoch=mapped(alone.evaluate_epoch, 2),
        predict=mapped(alone.predict, 2),
        batch_size=alone.batch_size,
        plan=alone.plan,
        alone=alone,
        mesh=mesh,
        hyper=put(alone.hyper, mesh),
        is_batched=is_batched,
    )


def stack_members(members: Sequence[Member], mesh: Mesh) -> Member:
    """Members side by side on the devices of a mesh: rows filled up with `PADDING`, and with members without rows.

    Their numbers of rows may differ. The number of stacked members is a multiple of the size of the mesh, which is from
    `parallel.member_mesh`.
    """
    host = of_one_size([jax.device_get(member) for member in members])
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(Member):
        values = [np.asarray(getattr(member, field.name)) for member in host if getattr(member, field.name) is not None]
        if not values:  # targets, where members learn labels
            columns[field.name] = None
            continue
        fillers = -len(values) % mesh.size
        filler = np.full_like(values[0], PADDING) if field.name in ROWS else values[0]
        columns[field.name] = np.stack([*values, *[filler] * fillers])
    return put(Member(**columns), mesh, MEMBER)


def of_one_size(members: Sequence[Member]) -> list[Member]:
    """Members on the host with their rows filled up to the same numbers, so that one program serves all of them."""

    def longest(name: str) -> int:
        return max(len(getattr(member, name)) for member in members)

    def pad(rows: Any, length: int) -> np.ndarray:
        return np.pad(rows, (0, length - len(rows)), constant_values=PADDING)

    lengths = {name: longest(name) for name in ROWS}
    return [
        dataclasses.replace(member, **{name: pad(getattr(member, name), length) for name, length in lengths.items()})
        for member in members
    ]


def take_member(tree: PyTree, position: int) -> PyTree:
    """One member's part of stacked arrays."""
    return jax.tree.map(lambda x: x[position], tree)


def plan_rounds(
    engine: MemberEngine, members: Sequence[Member], dataset: Dataset, memory_gb: float = 0.0
) -> list[list[int]]:
    """Divides members into rounds: one per device, or where they are batched as many as fit into its memory.

    Those that train one after the other on a device would gain nothing from a larger round, and the first of them
    would be finished, and an interrupted one saved, only with the last.

    Args:
      members: that are still to be trained.
      dataset: on the devices.
      memory_gb: budget of a device; 0: a share of what it says it has.

    Returns:
      Positions of the members of each round, as equal in size as can be.
    """
    if not members:
        return []
    per_device = _num_batched(engine, members[0], dataset, memory_gb) if engine.is_batched else 1
    num_rounds = math.ceil(len(members) / (per_device * engine.mesh.size))
    return [part.tolist() for part in np.array_split(np.arange(len(members)), num_rounds)]


def _num_batched(engine: MemberEngine, member: Member, dataset: Dataset, memory_gb: float) -> int:
    """How many members fit into the memory of a device, at least one."""
    budget = memory_gb * 1e9 or device_memory(engine.mesh)
    dataset_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(dataset))
    shapes = jax.eval_shape(engine.alone.init, member, dataset)
    # A state is there twice while best weights are chosen and while checkpoints are written.
    member_bytes = 2 * num_bytes(shapes) + _step_bytes(engine.alone, shapes, member, dataset)
    # The hosts of a job may differ; their rounds must not.
    return int(agree(np.array(max(1, int((budget - dataset_bytes) // member_bytes)))))


def _step_bytes(alone: Engine, state: TrainState, member: Member, dataset: Dataset) -> int:
    """What training or evaluating one member needs beside its arguments, as the compiler says."""
    as_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), (member, dataset))
    needed = num_bytes(state)
    of_part = (alone.hyper, np.int32(0), np.int32(1))
    for function, more in ((alone.train_parts[-1], of_part), (alone.evaluate_epoch, ())):
        analysis = jax.jit(function).lower(state, *as_shapes, *more).compile().memory_analysis()
        needed = max(needed, int(analysis.temp_size_in_bytes) if analysis else 0)
    return needed
