"""Decoded sets on disk, found by the content of the files they were decoded from.

A cached set is one file: the images and their facts as two `.npy` records, then the CRC-32 of both. It is an
acceleration and nothing else: what cannot be read, or is damaged, counts as absent, and what cannot be written is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from jaxtyping import UInt8

from fpclass.errors import RunError
from fpclass.files import replacing

LIMIT_BYTES = 4 * 2**30
"""Size of all cached sets together above which those not used for longest are removed; the newest always stays."""

Images: TypeAlias = UInt8[np.ndarray, "N H W C"]
CachedSet: TypeAlias = tuple[Images, list[dict[str, Any]]]

_PREFIX, _SUFFIX = "decoded-", ".cache"
_STALE_SECONDS = 24 * 3600.0  # a temporary file this old belongs to a process that was killed


def find(folder: Path, settings: str, contents: list[str]) -> CachedSet | None:
    """The set of these very files, or else the one that was used last, with the same settings.

    Args:
      folder: of the cache; need not exist.
      settings: everything but the files that the arrays depend on, the shape of an image among it.
      contents: per row, in order, the digest of its bytes, or why it has none.

    Returns:
      The images and the facts of each; None if there is no such set that is whole.
    """
    found = _load(_path(folder, settings, contents))
    if found is None:
        others = _newest_first(folder, _settings_prefix(settings))
        found = _load(others[0]) if others else None
    return found


def save(folder: Path, settings: str, contents: list[str], images: Images, facts: list[dict[str, Any]]) -> None:
    """Writes a set under a temporary name, then renames it; does nothing where the folder or the disk forbids it."""
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    path = _path(folder, settings, contents)
    with contextlib.suppress(RunError), replacing(path) as temporary, temporary.open("wb+") as file:
        np.save(file, images)
        np.save(file, text)
        file.write(_checksum(file, file.tell()))
    with contextlib.suppress(OSError):
        _remove_oldest(folder)


def _path(folder: Path, settings: str, contents: list[str]) -> Path:
    content_key = hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:32]
    return folder / f"{_settings_prefix(settings)}{content_key}{_SUFFIX}"


def _load(path: Path) -> CachedSet | None:
    try:
        with path.open("rb") as file:
            num_bytes = file.seek(0, os.SEEK_END) - 4
            if _checksum(file, num_bytes) != file.read():
                return None
            file.seek(0)
            images = np.load(file, allow_pickle=False)
            facts = json.loads(np.load(file, allow_pickle=False).tobytes())
    except (OSError, ValueError, EOFError):
        return None
    with contextlib.suppress(OSError):  # a cache that is only readable serves as well
        os.utime(path)
    return images, facts


def _checksum(file: BinaryIO, num_bytes: int) -> bytes:
    """CRC-32 of the first bytes of a file, which is left standing behind them."""
    file.seek(0)
    value = 0
    while num_bytes > 0 and (block := file.read(min(num_bytes, 2**24))):
        value = zlib.crc32(block, value)
        num_bytes -= len(block)
    return value.to_bytes(4, "little")


def _settings_prefix(settings: str) -> str:
    return f"{_PREFIX}{hashlib.sha256(settings.encode()).hexdigest()[:16]}-"


def _newest_first(folder: Path, prefix: str) -> list[Path]:
    used = []
    for path in folder.glob(f"{prefix}*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process may have removed it meanwhile
            used.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(used, reverse=True)]


def _remove_oldest(folder: Path) -> None:
    total = 0
    for position, path in enumerate(_newest_first(folder, _PREFIX)):
        total += path.stat().st_size
        if position > 0 and total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
    for path in folder.glob(f".{_PREFIX}*.tmp*"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink(missing_ok=True)
