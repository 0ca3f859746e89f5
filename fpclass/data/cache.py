"""Sets of decoded images, or of their features, on disk: found by the content of what they were made from.

A cached set is one file: the images and their facts as two `.npy` records, then the CRC-32 of both. It is an
acceleration and nothing else: what cannot be read, or is damaged, counts as absent, and what cannot be written is left.
Only decoded images that are larger than the memory set aside for them have to be written: they are used from this file.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import tempfile
import threading
import zlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from jaxtyping import UInt8

from fpclass.common.console import say, whisper
from fpclass.common.files import replacing, sweep
from fpclass.errors import RunError

LIMIT_BYTES = 4 * 2**30
"""Size of all sets of a folder above which those not used for longest are removed; what was used last always stays."""

Images: TypeAlias = UInt8[np.ndarray, "N ..."]
Facts: TypeAlias = list[Any]

_PREFIX, _SUFFIX = "set-", ".cache"
_STALE_SECONDS = 3600.0
"""A temporary file this old, of a process that is not there, was left by a kill. It may be of another machine's."""


class StoredImages:
    """Images [N, H, W, C] or other rows, uint8, in a file, indexed by row like an array; any thread may read and write.

    They have an array's shape, dtype, nbytes and len, but are not in memory and should be read a batch at a time. What
    tells them from an array, without asking for the type, is `getattr(images, "is_resident", True)`.
    """

    is_resident = False

    def __init__(self, file: FileIO, offset: int, shape: tuple[int, ...]):
        self.shape = tuple(shape)
        self.dtype = np.dtype(np.uint8)
        self._file = file
        self._offset = offset
        self._image_bytes = math.prod(self.shape[1:])
        self._lock = threading.Lock()
        self._every_row = np.arange(len(self))

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all images."""
        return len(self) * self._image_bytes

    def __getitem__(self, rows: Any) -> UInt8[np.ndarray, "n ..."]:
        """Reads images; `rows` is all that NumPy takes as an index of the first axis."""
        rows = np.asarray(self._every_row[rows])
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        for image, row in zip(images.reshape(rows.size, self._image_bytes), rows.ravel().tolist(), strict=True):
            self._read(image.data, self._place(row))
        return images.reshape(*rows.shape, *self.shape[1:])

    def __setitem__(self, row: int, image: UInt8[np.ndarray, "h ..."]) -> None:
        with self._lock:
            self._file.seek(self._place(row))
            if self._file.write(image.tobytes()) != self._image_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def end(self) -> int:
        """Position in the file behind the last image."""
        return self._place(len(self))

    def _place(self, row: int) -> int:
        return self._offset + row * self._image_bytes

    def _read(self, image: memoryview, place: int) -> None:
        if hasattr(os, "preadv"):  # several threads at once, so that a disk has more than one thing to do
            count = os.preadv(self._file.fileno(), [image], place)
        else:  # Windows
            with self._lock:
                self._file.seek(place)
                count = self._file.readinto(image)
        if count != len(image):
            raise OSError(f"{self._file.name}: ends before byte {place + len(image)}")


def find(folder: Path, settings: str, contents: list[str]) -> tuple[StoredImages, Facts] | None:
    """The set of these very files, or else the one used last with the same settings; None if none of them is whole.

    Args:
      folder: of the cache; need not exist.
      settings: everything but the files that the arrays depend on, the shape of an image among it.
      contents: per row, in order, what it was made from: the digest of a file's bytes, or why it has none.
    """
    sweep(folder, _STALE_SECONDS)
    kept = _load(path_of(folder, settings, contents))
    if kept is None:
        others = _newest_first(folder, _settings_prefix(settings))
        kept = _load(others[0]) if others else None
    return kept


def save(folder: Path, settings: str, contents: list[str], images: Images, facts: Facts, num_together: int = 1) -> None:
    """Writes a set under a temporary name, then renames it; says so where the folder or the disk forbids it.

    Args:
      num_together: how many sets are used together, of which none may go because another one comes.
    """
    path = path_of(folder, settings, contents)
    try:
        with replacing(path) as temporary, temporary.open("wb+") as file:
            np.save(file, images)
            _finish(file, facts)
    except RunError as error:
        _say_not_kept(str(error))
    with contextlib.suppress(OSError):
        _remove_oldest(folder, num_together)


@functools.cache
def _say_not_kept(why: str) -> None:
    """Once for each reason; where there is no room for that either, not at all."""
    with contextlib.suppress(OSError):
        whisper(f"note: {why}; the next command computes the same of these images again")


def store(
    folder: Path | None,
    settings: str,
    contents: list[str],
    shape: tuple[int, ...],
    fill: Callable[[StoredImages], Facts],
) -> tuple[StoredImages, Facts]:
    """Makes a set on disk that would be too large for memory, and leaves it there; `settings` and `contents` as `find`.

    Args:
      folder: of the cache; None for a temporary file that goes with the images.
      shape: (N, H, W, C).
      fill: writes the images, which are zeros before, and gives their facts.

    Raises:
      RunError: there is no room for them.
    """
    if folder is None:
        temporary: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the images close it
        images = _empty(temporary, shape)
        return images, fill(images)
    path = path_of(folder, settings, contents)
    try:
        with replacing(path) as temporary, temporary.open("wb+", buffering=0) as file:
            images = _empty(file, shape)
            facts = fill(images)
            file.seek(images.end)
            _finish(file, facts)  # pyright: ignore[reportArgumentType]
    except RunError as error:
        size = f"{math.prod(shape) / 1e9:.1f} GB"
        advice = "give FPCLASS_CACHE a folder with so much room, or raise data.memory_gb"
        raise RunError(f"{error}; the decoded images take {size}: {advice}") from error
    with contextlib.suppress(OSError):
        _remove_oldest(folder)
    return _open_images(path), facts


def _empty(file: FileIO, shape: tuple[int, ...]) -> StoredImages:
    """Images of zeros at the end of a file, behind the header of a `.npy` record."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    images = StoredImages(file, file.tell(), shape)
    file.truncate(images.end)
    return images


def _open_images(path: Path) -> StoredImages:
    """The images of a set: the first record of its file."""
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path}: another version of the .npy format")
        shape, is_fortran, kind = np.lib.format.read_array_header_1_0(file)
        if is_fortran or kind != np.uint8:
            raise ValueError(f"{path}: {kind}, expected uint8 images")
        return StoredImages(path.open("rb", buffering=0), file.tell(), shape)


def _finish(file: BinaryIO, facts: Facts) -> None:
    np.save(file, np.frombuffer(json.dumps(facts).encode(), np.uint8))
    file.write(_checksum(file, file.tell()))


def path_of(folder: Path, settings: str, contents: list[str]) -> Path:
    """The file of the set of these very contents, there or not."""
    content_key = hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:32]
    return folder / f"{_settings_prefix(settings)}{content_key}{_SUFFIX}"


def _load(path: Path) -> tuple[StoredImages, Facts] | None:
    try:
        with path.open("rb") as file:
            num_bytes = file.seek(0, os.SEEK_END) - 4
            if _checksum(file, num_bytes) != file.read():
                say(f"{path} is damaged: it is made again")
                path.unlink()
                return None
            images = _open_images(path)
            file.seek(images.end)
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
    while num_bytes > 0 and (block := file.read(min(num_bytes, 2**20))):
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


def _remove_oldest(folder: Path, num_kept: int = 1) -> None:
    total = 0
    for position, path in enumerate(_newest_first(folder, _PREFIX)):
        total += path.stat().st_size
        if position >= num_kept and total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
