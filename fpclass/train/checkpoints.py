"""Orbax checkpoints: `last` with the whole training state for a resume, `best` with the weights that are used.

Beside the arrays stands their digest: Orbax restores arrays of which a disk has changed a bit as if they were whole.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import pathlib
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from fpclass.common.console import program
from fpclass.common.threads import in_threads
from fpclass.errors import RunError, one_line

State = TypeVar("State")
SMALL_FILES_BYTES = 2**20
"""Room for what stands beside the arrays of a checkpoint: names, shapes, folders."""
METADATA = "_CHECKPOINT_METADATA"
"""File of Orbax in the folder of a step, renamed into place together with the arrays; it has room for more."""
LAST_READS_SECONDS = 0.25
"""After a read that failed, until those that were begun with it have ended."""
ONE_AT_A_TIME = threading.RLock()
"""Who saves or restores: Orbax is silenced by changing what belongs to the whole process."""
DIGEST = "sha256"
"""Key of the digest in the custom metadata of a checkpoint. Those that earlier versions saved have none."""


def save(folder: pathlib.Path, step: int, state: Any) -> None:
    """Saves a tree of arrays as the checkpoint of a step; the one before it goes when this one is complete.

    The folder is that of this kind of checkpoint: checkpoints/last, whose steps are batches, or checkpoints/best, whose
    step is the epoch.

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
            if manager.latest_step() == step:  # training is deterministic: the same step is the same state
                return
            if step in manager.all_steps():  # a killed training had saved a later one, and not yet removed this one
                manager.delete(step)
            known = {DIGEST: digest(state)}
            manager.save(step, args=ocp.args.StandardSave(state), force=True, custom_metadata=known)
            manager.wait_until_finished()
    except Exception as error:  # Orbax wraps what the disk says in errors of several libraries
        raise RunError(
            f"{folder}: cannot save a checkpoint ({one_line(error, 200)}); free space or choose another --workdir"
        ) from error


def latest_step(folder: pathlib.Path) -> int | None:
    """The step of the newest complete checkpoint, or None.

    Raises:
      RunError: what Orbax says of it is damaged.
    """
    if not folder.is_dir():
        return None
    try:
        with _manager(folder, is_saving=False) as manager:
            return manager.latest_step()
    except Exception as error:
        raise _damaged(folder, folder, one_line(error, 200)) from error


def restore(folder: pathlib.Path, like: State) -> State:
    """Restores the newest checkpoint onto the default device, as a tree like `like`, which holds arrays or shapes.

    Raises:
      RunError: no checkpoint, one of another model, or one that is damaged: its arrays do not have their digest.
    """
    step = latest_step(folder)
    if step is None:
        raise RunError(f"{folder}: no checkpoint; run `{program()} train` with this --workdir first")
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
    checkpoint = folder.absolute() / str(step) / "default"
    try:
        with _quiet(), ocp.StandardCheckpointer(multiprocessing_options=_this_process()) as reader:
            metadata = reader.metadata(checkpoint).item_metadata
            if metadata is None:
                raise ValueError("its metadata are damaged")
            _check_structure(folder, metadata.tree, target)
            restored = reader.restore(checkpoint, target)
        if (saved := _saved_digest(checkpoint.parent)) not in (None, digest(restored)):
            raise ValueError(f"its arrays are not those that were saved: their {DIGEST} is not {str(saved)[:16]}…")
        return restored
    except RunError:
        raise
    except Exception as error:  # a damaged file may surface as an error of any layer below
        reason = one_line(error, 200)
        _clear_away(error)
    raise _damaged(checkpoint, folder, reason)


def digest(tree: Any) -> str:
    """SHA-256 of the names, types, shapes and bytes of the arrays of a tree, wherever they are; in hexadecimal.

    The nodes of the tree may be of other kinds, as long as the names on the way to an array are the same.
    """
    arrays = sorted(_by_name(tree).items())

    def of_array(i: int) -> bytes:
        name, array = arrays[i][0], np.ascontiguousarray(arrays[i][1])
        head = json.dumps([name, array.dtype.name, arrays[i][1].shape]).encode()
        return hashlib.sha256(head + b"\n" + array.reshape(-1).view(np.uint8).data).digest()

    is_small = sum(leaf.nbytes for _, leaf in arrays) < SMALL_FILES_BYTES  # not worth a thread
    digests = map(of_array, range(len(arrays))) if is_small else in_threads(of_array, len(arrays))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _saved_digest(folder: pathlib.Path) -> str | None:
    """What `digest` was for the checkpoint in the folder of a step; None for one that was saved without.

    Raises:
      ValueError: what stands beside the arrays is damaged.
    """
    if not (folder / METADATA).is_file():
        return None
    known = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    return (known.get("custom_metadata") or {}).get(DIGEST)


def _damaged(where: pathlib.Path, folder: pathlib.Path, reason: str) -> RunError:
    advice = f"copy it back from a backup, or delete {folder} and give the same command of the training once more"
    return RunError(f"{where}: cannot be restored ({reason}); {advice}")


def _clear_away(error: BaseException) -> None:
    """Frees what a failed restore has left waiting, and lets its threads end: both print pages, and say nothing new."""
    with _quiet():
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        gc.collect()
        time.sleep(LAST_READS_SECONDS)


def _by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their names, as Orbax names them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(map(str, ocp.utils.tuple_path_from_keypath(path))): leaf for path, leaf in leaves}


def _check_structure(folder: pathlib.Path, saved: Any, expected: Any) -> None:
    """Compares names, shapes and types: Orbax would speak of the first two in several pages, and convert the third."""
    was, now = (
        {name: f"{tuple(leaf.shape)} {np.dtype(leaf.dtype).name}" for name, leaf in _by_name(tree).items()}
        for tree in (saved, expected)
    )
    different = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if different:
        name = different[0]
        shapes = f"{was.get(name, 'absent')} there and {now.get(name, 'absent')} in the config"
        raise RunError(
            f"{folder}: checkpoint of another model: {len(different)} arrays differ, for example {name} is {shapes}; "
            "use the config, and the version of fpclass, that it was trained with"
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
    """Silences Orbax, which logs what it also raises, and its threads, whose reads end when nobody waits any more.

    One at a time: what two threads put back in turn would not be what was there.
    """
    with ONE_AT_A_TIME:
        loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
        levels, hooks = [logger.level for logger in loggers], (sys.excepthook, sys.unraisablehook)
        sys.excepthook = sys.unraisablehook = lambda *_: None
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            sys.excepthook, sys.unraisablehook = hooks
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
