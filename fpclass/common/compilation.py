"""Compiled programs, kept between runs by JAX, which writes an entry in place and never looks at one again.

So a disk that is full leaves entries that are cut short for good: at every later start JAX warns of them, and compiles
their programs again. They go here, before JAX looks; and the oldest go where there are too many.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import time
import warnings
import zlib

from fpclass.common.files import cache_dir

LIMIT_BYTES = 2 * 2**30
"""Of all entries together; ten thousand programs for a CPU, and a few hundred large ones for a GPU.

Not JAX's own bound (`jax_compilation_cache_max_size`): with that every new entry reads the times of all others, and an
entry whose time is missing, as after a full disk, is a warning with every program from then on.
"""
KEPT_SHARE = 0.75
"""Of the limit, what is left where it was passed; so that not every start has to remove something."""
BLOCK_BYTES = 512
"""A disk takes whole blocks: what it cut short has a size that is a multiple of this. Only such entries are read."""
SUFFIX = "-cache"
"""Of the names of entries."""
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of what the other of JAX's two ways of compressing makes."""


def prepare_libraries() -> None:
    """Keeps compiled programs between runs in the user's cache; lets libraries speak only of errors."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    keep_programs(cache_dir() / "compiled")


def keep_programs(folder: pathlib.Path) -> None:
    """Lets JAX keep compiled programs in a folder, after a look at what is there.

    Where the folder cannot be made or read, programs are compiled at every start. XLA speaks only of errors from here
    on, if this comes before JAX is imported.
    """
    from jaxlib.version import __version_info__

    # Before 0.10.2 it takes what this machine has compiled for another's, if its CPU has AVX-512, and says so in two
    # long lines for every program, which it then runs all the same (openxla/xla, issue 44565).
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if __version_info__ >= (0, 10, 2) else "3")
    import jax

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _has_changed(folder):
            tidy(folder)
    except OSError:
        return
    # The disk is full: a program that is not kept is compiled again, and there is nothing else to say about it.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _has_changed(folder: pathlib.Path) -> bool:
    """Whether an entry has come since this was last asked: ten thousand of them take a while to look at."""
    marker, now = folder / ".tidied", time.time()
    with contextlib.suppress(OSError):
        if folder.stat().st_mtime <= marker.stat().st_mtime:
            return False
    with contextlib.suppress(OSError):
        marker.touch()
        os.utime(marker, (now, now))  # what comes from now on counts as new
    return True


def tidy(folder: pathlib.Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Removes entries that are cut short, and those not used for longest where all together are beyond a limit.

    Raises:
      OSError: the folder cannot be read.
    """
    entries: list[tuple[float, int, str]] = []
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.endswith(SUFFIX):
                continue
            with contextlib.suppress(OSError):  # another process may be at the same
                status = entry.stat()
                if status.st_size % BLOCK_BYTES == 0 and entry.is_file() and is_cut_short(pathlib.Path(entry.path)):
                    os.unlink(entry.path)
                else:
                    entries.append((max(status.st_atime, status.st_mtime), status.st_size, entry.path))
    num_bytes = sum(size for _, size, _ in entries)
    if num_bytes <= limit_bytes:
        return
    for _, size, path in sorted(entries):
        with contextlib.suppress(OSError):
            os.unlink(path)
        num_bytes -= size
        if num_bytes <= KEPT_SHARE * limit_bytes:
            return


def is_cut_short(path: pathlib.Path) -> bool:
    """Whether an entry cannot be unpacked; also one that is just being written, which costs its program a compilation.

    Raises:
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    if data.startswith(ZSTD):
        return _is_zstd_cut_short(data)
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(data)
    except zlib.error:
        return True
    return not unpacker.eof


def _is_zstd_cut_short(data: bytes) -> bool:
    """Follows the blocks of a frame without unpacking them: RFC 8878, 3.1.1."""
    descriptor = data[4] if len(data) > 4 else 0
    is_single, has_checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    size_bytes = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    place = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3] + size_bytes
    is_last = False
    while not is_last:
        header = int.from_bytes(data[place : place + 3], "little")
        if place + 3 > len(data):
            return True
        is_last, kind = bool(header & 1), header >> 1 & 3
        place += 3 + (1 if kind == 1 else header >> 3)  # kind 1: one byte, repeated
    return place + 4 * has_checksum > len(data)
