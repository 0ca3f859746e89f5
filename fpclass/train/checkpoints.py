"""Orbax checkpoints: `last` with the whole training state for a resume, `best` with the weights that are used."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from fpclass.errors import RunError, one_line

State = TypeVar("State")
SMALL_FILES_BYTES = 2**20
"""Room for what stands beside the arrays of a checkpoint: names, shapes, folders."""


def save(folder: pathlib.Path, epoch: int, state: Any) -> None:
    """Saves a tree of arrays as the checkpoint of an epoch; the one before it goes when this one is complete.

    The folder is that of this kind of checkpoint, for example checkpoints/last.

    Raises:
      RunError: the folder cannot be written to, or the disk is full.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SMALL_FILES_BYTES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Asked beforehand: on a disk that fills up while it writes, Orbax prints pages from threads of its own.
        if (free := shutil.disk_usage(folder).free) < needed:
            raise OSError(f"No space left on device: {free / 2**20:.1f} MiB free, {needed / 2**20:.1f} MiB needed")
        with _manager(folder, is_saving=True) as manager:
            if manager.latest_step() == epoch:  # training is deterministic: the same epoch is the same state
                return
            manager.save(epoch, args=ocp.args.StandardSave(state), force=True)
            manager.wait_until_finished()
    except Exception as error:  # Orbax wraps what the disk says in errors of several libraries
        raise RunError(
            f"{folder}: cannot save a checkpoint ({one_line(error, 200)}); free space or choose another --workdir"
        ) from error


def latest_epoch(folder: pathlib.Path) -> int | None:
    """The epoch of the newest complete checkpoint, or None."""
    if not folder.is_dir():
        return None
    with _manager(folder, is_saving=False) as manager:
        return manager.latest_step()


def restore(folder: pathlib.Path, like: State) -> State:
    """Restores the newest checkpoint onto the default device, as a tree like `like`, which holds arrays or shapes.

    Raises:
      RunError: no checkpoint, a damaged one, or one of another model.
    """
    epoch = latest_epoch(folder)
    if epoch is None:
        raise RunError(f"{folder}: no checkpoint; run `launch.py train` with this --workdir first")
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
    checkpoint = folder.absolute() / str(epoch) / "default"
    try:
        with _quiet(), ocp.StandardCheckpointer(multiprocessing_options=_this_process()) as reader:
            metadata = reader.metadata(checkpoint).item_metadata
            if metadata is None:
                raise ValueError("its metadata are damaged")
            _check_structure(folder, metadata.tree, target)
            return reader.restore(checkpoint, target)
    except RunError:
        raise
    except Exception as error:  # a damaged file may surface as an error of any layer below
        reason = one_line(error, 200)
        raise RunError(f"{checkpoint}: cannot be restored ({reason}); train again into a new --workdir") from error


def _check_structure(folder: pathlib.Path, saved: Any, expected: Any) -> None:
    """Compares names and shapes before Orbax does, which would speak of them in several pages."""
    was, now = (
        {
            "/".join(map(str, ocp.utils.tuple_path_from_keypath(path))): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        }
        for tree in (saved, expected)
    )
    different = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if different:
        name = different[0]
        shapes = f"{was.get(name, 'absent')} there and {now.get(name, 'absent')} in the config"
        raise RunError(
            f"{folder}: checkpoint of another model: {len(different)} arrays differ, for example {name} is {shapes}; "
            "use the config it was trained with"
        )


@contextlib.contextmanager
def _manager(folder: pathlib.Path, *, is_saving: bool) -> Iterator[ocp.CheckpointManager]:
    """The manager of a folder. Only who saves tidies up: a reader would remove what is just being written."""
    with _quiet():
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(1),
            enable_async_checkpointing=False,
            read_only=not is_saving,
            create=False,  # the folder is there; Orbax cannot make it for one process of several
            multiprocessing_options=_this_process(),
            cleanup_tmp_directories=is_saving,
        )
        with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
            yield manager


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Where several processes train together one of them writes: Orbax must not wait for the others."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Orbax, which logs what it also raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
