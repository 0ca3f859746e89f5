"""Files read up to a limit, written whole or not at all (under a temporary name, then renamed); the cache folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import stat
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fpclass.errors import RunError

if TYPE_CHECKING:
    import pandas as pd


MAX_FILE_MB = 1000.0
"""Largest file that is read whole, in 10**6 bytes, where nothing else is said. The largest image that is decoded,
150 million pixels of three times 16 bits, has 900 without compression."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_bytes(path: pathlib.Path | str, max_mb: float = MAX_FILE_MB, key: str = "") -> bytes:
    """Reads a file whole, links followed: only a regular one, because others may never end, and none above a limit.

    Args:
      max_mb: the limit, in 10**6 bytes.
      key: the config's key of this limit, for the message.

    Raises:
      OSError: not there, not readable, not a regular file, or too large; `strerror` is the reason in a few words.
    """
    status = os.stat(path)  # before it is opened: a FIFO would wait for a writer
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
    limit = int(max_mb * 1e6)
    data = b""
    if status.st_size <= limit:
        with open(path, "rb") as file:
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:  # it grows, or the system makes it up while it is read, as in /proc
                data += file.read(max(limit + 1 - len(data), 0))
    if max(status.st_size, len(data)) > limit:
        size = f"{max(status.st_size, len(data)) / 1e6:,.1f} MB"
        raise OSError(errno.EFBIG, f"{size}, the limit is {max_mb:,g} MB" + f" ({key})" * bool(key), str(path))
    return data


def read_text(path: pathlib.Path | str, encoding: str = "utf-8", max_mb: float = MAX_FILE_MB, key: str = "") -> str:
    """Reads a text file as `read_bytes` does; its line ends stay as they are.

    Raises:
      OSError: as `read_bytes`.
      UnicodeDecodeError: it has another encoding.
    """
    return read_bytes(path, max_mb, key).decode(encoding)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path`; at the end it takes that name, after an error it is removed.

    Raises:
      RunError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{path}: cannot write ({reason}); free space or choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes indented JSON that any parser reads (no NaN, no Infinity), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """Writes a table without its index, whole or not at all."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file that a run wrote.

    Raises:
      RunError: missing or damaged.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise RunError(f"{path}: not found; is this the folder of a finished run?") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be read ({reason}); train again into a new --workdir") from error


def read_object(path: pathlib.Path, **fields: type | types.UnionType) -> dict[str, Any]:
    """Reads a JSON object with at least these fields, each of such a type.

    Raises:
      RunError: missing, damaged, or of another shape, as after an edit by hand.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path}: holds {_shape(value)}, expected an object; it was changed or damaged, make it anew")
    for name, kind in fields.items():
        is_number = isinstance(value.get(name), bool) and kind is not bool
        if not isinstance(value.get(name), kind) or is_number:
            met = _shape(value[name]) if name in value else "nothing"
            raise RunError(f"{path}: {name} is {met}, expected {_word(kind)}; it was changed or damaged, make it anew")
    return value


def _shape(value: Any) -> str:
    """A JSON value in a few words."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return json.dumps(value)[:40]


def _word(kind: type | types.UnionType) -> str:
    words = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}
    return words.get(kind, str(kind)) if isinstance(kind, type) else str(kind)


def cache_dir() -> pathlib.Path:
    """The folder, perhaps not there yet, of what can be made again: FPCLASS_CACHE, or the platform's usual place."""
    import platformdirs

    chosen = os.environ.get("FPCLASS_CACHE", "")
    return pathlib.Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("fpclass")


def is_offline() -> bool:
    """Whether the environment variable FPCLASS_OFFLINE forbids the network."""
    return os.environ.get("FPCLASS_OFFLINE", "") not in ("", "0")
