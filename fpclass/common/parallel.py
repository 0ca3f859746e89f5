"""Devices and processes: members that train at the same time spread over all of them, or one batch over a few.

A mesh names the devices. Members need nothing of each other, so each device works through its own members
(`shard_map`, no communication); a batch that is spread needs its gradients summed, which XLA puts in by itself.
Several processes run the same program on the same data; each holds the devices it sees, and only the first one writes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from fpclass.common.threads import in_threads, num_cores
from fpclass.errors import ConfigError, one_line

MEMBER, BATCH = "member", "batch"
Result = TypeVar("Result")
NUM_AHEAD = 2
"""Calls that an accelerator has before it while the next one is prepared."""
HOST_MEMORY_SHARE = 0.5
"""Of a computer's memory, what the members on its cores may take."""
DEVICE_MEMORY_SHARE = 0.85
"""Of an accelerator's memory: the allocator cannot use all of it."""


def use_all_cores() -> None:
    """Makes every core of a machine without accelerators a device of its own; to be called before JAX first computes.

    Two members on two cores take less time than one after the other on both: nothing has to be divided within a
    step. XLA_FLAGS that say otherwise are left alone, and so are devices that are in use already, as in a notebook.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", num_cores())


def launch_each(function: Callable[[int], Result], num_calls: int) -> Generator[Result, None, None]:
    """What a compiled function gives for 0, 1, … num_calls - 1, in this order; it may still be at it, as JAX does.

    An accelerator works through a queue. A CPU does one program after the other, however many cores it has, and many
    an operation on one core (a convolution of fewer than about 90 features, say): there a thread for each core calls
    the function and waits. No bit depends on it, and backbones predict in 0.7 to 1.0 of the time
    (benchmarks/predict_parts.py).
    """
    if jax.default_backend() == "cpu" and num_calls > 1:
        yield from in_threads(lambda i: jax.block_until_ready(function(i)), num_calls)
        return
    begun: deque[Result] = deque()
    for i in range(num_calls):
        begun.append(function(i))
        if len(begun) > NUM_AHEAD:
            yield begun.popleft()
    yield from begun


def join_processes(args: argparse.Namespace) -> bool:
    """Joins the processes that the flags name; returns whether this is the first, which alone writes and prints."""
    if not args.distributed:
        return True
    start_processes(args.coordinator, args.num_processes, args.process_id)
    if is_first_process():
        return True
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return False


def start_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the processes of a job that runs on several hosts, or several times on one.

    Args:
      coordinator: host:port of the first process; None: JAX finds all three by itself under SLURM, Open MPI, on Cloud
        TPU and in Kubernetes.
      process_id: which of them this is, from 0; None, as of `num_processes`: as above.

    Raises:
      ConfigError: the processes do not find each other.
    """
    given = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
    try:
        jax.distributed.initialize(**{key: value for key, value in given.items() if value is not None})
    except (RuntimeError, ValueError, IndexError) as error:  # the last one: an address without a port
        raise ConfigError(
            f"--distributed: the processes do not find each other ({one_line(error, 200)}); give "
            "--coordinator=HOST:PORT, --num-processes and --process-id, the same first two on every host"
        ) from error


def num_processes() -> int:
    """How many processes compute together; one nearly always."""
    return jax.process_count()


def is_first_process() -> bool:
    """Whether this process writes files and speaks to a person; the only one nearly always."""
    return jax.process_index() == 0


def member_mesh(num_members: int | None = None) -> Mesh:
    """All devices of all processes, for members; those of a single process no more than there are members."""
    devices = jax.devices()
    if num_members and jax.process_count() == 1:
        devices = devices[:num_members]
    return Mesh(np.array(devices), (MEMBER,), axis_types=(AxisType.Auto,))


def batch_mesh(num_devices: int) -> Mesh | None:
    """Devices that share every batch of one training; None where it comes to one device.

    Args:
      num_devices: of this process; 0: all devices of all processes.

    Raises:
      ConfigError: there are not so many.
    """
    devices = jax.local_devices() if num_devices else jax.devices()
    if num_devices > len(devices):
        raise ConfigError(
            f"train.num_devices is {num_devices}, but there are {len(devices)} ({devices[0].platform}); 0 takes all"
        )
    devices = devices[:num_devices] if num_devices else devices
    if len(devices) == 1:
        return None
    return Mesh(np.array(devices), (BATCH,), axis_types=(AxisType.Auto,))


def device_memory(mesh: Mesh) -> float:
    """Bytes that members on one device of a mesh may take."""
    if limit := memory_limit(mesh.local_devices[0]):
        return DEVICE_MEMORY_SHARE * limit
    return HOST_MEMORY_SHARE * (host_memory() or 8e9) / len(mesh.local_devices)


def memory_limit(device: Any) -> float | None:
    """Bytes that a device says it has; cores say nothing."""
    return (device.memory_stats() or {}).get("bytes_limit")


def host_memory() -> float | None:
    """Bytes of memory of this computer; None where it does not say (Windows)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def put(tree: PyTree, mesh: Mesh | None, *axes: str) -> PyTree:
    """Puts arrays that every process has onto the devices of a mesh: divided along these axes, or whole on each."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)) if mesh else None)


def fetch(tree: PyTree) -> Any:
    """Brings arrays to NumPy, in every process the whole of them."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if x.is_fully_replicated or x.is_fully_addressable:
            return np.asarray(x.addressable_data(0)) if x.is_fully_replicated else np.asarray(x)
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(whole, tree)


def fetch_record(tree: PyTree) -> Any:
    """`fetch` of small arrays that no program is given again.

    On a CPU they are at hand: the copies that `fetch` begins, for all of them to be on their way at once, take longer
    than reading one after the other.
    """
    is_at_hand = jax.process_count() == 1 and jax.default_backend() == "cpu"
    return jax.tree.map(np.asarray, tree) if is_at_hand else fetch(tree)


def agree(value: np.ndarray, *, any_process: bool = False) -> np.ndarray:
    """What the first process says, in all of them; with `any_process`, whether any of them says True."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    if any_process:
        return np.asarray(np.any(multihost_utils.process_allgather(value)))
    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def over_members(function: Callable, num_mapped: int, *, is_batched: bool, mesh: Mesh) -> Callable:
    """Maps a function over the first axis of its first arguments, divided over the devices of a mesh.

    Args:
      num_mapped: how many of its arguments have that axis; the others are shared.
      is_batched: all members of a device in one program step (`vmap`), or one after the other (`lax.map`).
      mesh: from `member_mesh`; its size divides the number of members.
    """

    def local(*args: Any) -> Any:
        mapped, shared = args[:num_mapped], args[num_mapped:]
        if is_batched:
            return jax.vmap(function, (0,) * num_mapped + (None,) * len(shared))(*args)
        return lax.map(lambda each: function(*each, *shared), mapped)

    def mapped_over(*args: Any) -> Any:
        specs = tuple(PartitionSpec(MEMBER) if i < num_mapped else PartitionSpec() for i in range(len(args)))
        spread = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(MEMBER), check_vma=False)
        return spread(*args)

    return mapped_over
