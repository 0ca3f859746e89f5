"""Files read up to a limit; files whole or not there (written under a temporary name, then renamed); the cache folder.

Users name what is written, and a name can stand for more than a file: a link is followed, a pipe or `/dev/stdout` gets
the bytes, and what is neither a file nor takes bytes is refused. Nothing but a regular file is ever replaced.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
import time
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fpclass.common.console import program
from fpclass.errors import ConfigError, RunError

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


READER_SECONDS = 10.0
"""So long a pipe without a reader is waited for."""
MAX_LINKS = 40
"""Links behind one another that a name may have, as many as Linux follows."""
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.[^.]*)?")
"""The names that `replacing` and `replacing_folder` give, with the number of the process."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path; at the end that file takes the place of the one at `path`, after an error it is removed.

    Where `path` is a link, it stays, and the file that it points to is replaced. What is there and is no regular file
    but takes bytes (a pipe, a terminal, /dev/null) is given them.

    Raises:
      RunError: the folder cannot be written to, the disk is full, or something is there that no file can replace.
    """
    with contextlib.ExitStack() as stack:
        try:
            is_stream = takes_bytes(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            target = path if is_stream else path.resolve()
            # Beside the file, because a rename across file systems is a copy.
            folder = stack.enter_context(tempfile.TemporaryDirectory()) if is_stream else target.parent
            temporary = pathlib.Path(folder, f".{target.name}.{os.getpid()}.tmp{target.suffix}")
            stack.callback(_remove, temporary)
            yield temporary
            if is_stream:
                _pour(temporary, path)
            else:
                os.replace(temporary, target)
        except OSError as error:
            raise _cannot_write(path, error) from error


@contextlib.contextmanager
def replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new folder beside `path`, where nothing or an empty folder is; at the end it takes its name.

    Raises:
      OSError: the folder cannot be written to, or the disk is full.
    """
    path = pathlib.Path(os.path.realpath(path))  # unlike resolve(), also of a circle of links
    _sweep(path.parent, [entry.name for entry in path.parent.glob(f".{glob.escape(path.name)}.*.tmp")], 0.0)
    scratch = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if path.is_dir():
            path.rmdir()
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_writable(path: pathlib.Path) -> None:
    """Makes sure that a file can be written to a path, as far as that is known before: hours of work come first.

    Raises:
      RunError: it cannot.
    """
    try:
        takes_bytes(path)
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, f"{folder} may not be written to")
    except OSError as error:
        raise _cannot_write(path, error) from error


def takes_bytes(path: pathlib.Path) -> bool:
    """Whether bytes are to be poured into what stands at a path: no file, or one that this process has open already.

    False where there is a regular file, which can be replaced, or nothing.

    Raises:
      RunError: it is something that cannot be written like a file.
      OSError: the system does not say.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode):
        return own_descriptor(path) is not None
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "no file")
    raise RunError(f"{path}: cannot write (it is {kind}); give the name of a file")


def own_descriptor(path: pathlib.Path) -> int | None:
    """N where a path, such as /dev/stdout or /dev/fd/N, stands for what this process has open as N; otherwise None."""
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _pour(source: pathlib.Path, path: pathlib.Path) -> None:
    """Copies a file into a pipe or a device."""
    descriptor = own_descriptor(path)
    opened = _open_for_bytes(path) if descriptor is None else os.dup(descriptor)
    with source.open("rb") as whole, os.fdopen(opened, "wb") as stream:
        shutil.copyfileobj(whole, stream)


def _open_for_bytes(path: pathlib.Path) -> int:
    """Opens a pipe or a device. One that nobody reads would keep a process that just opens it for ever."""
    until = time.monotonic() + READER_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, "nobody reads from this pipe") from None
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def _cannot_write(path: pathlib.Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot write ({error.strerror or error}); free space or choose another place")


def _remove(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def sweep(folder: pathlib.Path, min_age_seconds: float = 0.0) -> None:
    """Removes what processes that were killed have left half written in a folder and those below it.

    What a process that still runs is writing stays. Where other machines or containers may write, whose processes this
    one does not see, `min_age_seconds` keeps what is younger.
    """
    for parent, folders, names in os.walk(folder):
        _sweep(pathlib.Path(parent), folders + names, min_age_seconds)


def _sweep(parent: pathlib.Path, names: Iterable[str], min_age_seconds: float) -> None:
    for name in names:
        match = _TEMPORARY.fullmatch(name)
        if match and not _is_running(int(match[1])):
            path = parent / name
            with contextlib.suppress(OSError):  # somebody else sweeps, or nobody may
                if time.time() - path.lstat().st_mtime < min_age_seconds:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where this question ends the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path that a user gives, with the home folder that `~` or `~name` in front stands for.

    Raises:
      ConfigError: there is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        user = pathlib.Path(path).parts[0]
        raise ConfigError(f"{path}: {user} is nobody's home folder here; write the path out, or ./{user}") from None


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes indented JSON that any parser reads (no NaN, no Infinity), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """Writes a table without its index, whole or not at all."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


_BY_TRAINING = "delete it, and the command of the training, given once more, makes it anew"
_BY_EVALUATE = "delete it, and `{program} evaluate {folder}` makes it anew"
_REMEDIES = {
    "environment.json": "delete it: the next command begins it anew",
    "metrics.json": _BY_EVALUATE,
    "predictions.csv": _BY_EVALUATE,
    **dict.fromkeys(("audit.json", "model.json", "splits.csv", "table.csv"), _BY_TRAINING),
}
"""What to do about a damaged file of a folder, where not all of it has to be made anew."""


def remedy(path: pathlib.Path) -> str:
    """What to do about a damaged file of a run folder."""
    advice = _REMEDIES.get(path.name, "copy it back from a backup, or train again into a new --workdir")
    return advice.format(program=program(), folder=path.parent)


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file that a run wrote.

    Raises:
      RunError: missing or damaged.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        advice = remedy(path).removeprefix("delete it, and ")
        raise RunError(f"{path}: not found; in the folder of a finished run {advice}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be read ({reason}); {remedy(path)}") from error


def read_object(path: pathlib.Path, **fields: type | types.UnionType) -> dict[str, Any]:
    """Reads a JSON object with at least these fields, each of such a type.

    Raises:
      RunError: missing, damaged, or of another shape, as after an edit by hand.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path}: holds {_shape(value)}, expected an object; it was changed or damaged: {remedy(path)}")
    for name, kind in fields.items():
        is_number = isinstance(value.get(name), bool) and kind is not bool
        if not isinstance(value.get(name), kind) or is_number:
            met = _shape(value[name]) if name in value else "nothing"
            wrong = f"{name} is {met}, expected {_word(kind)}"
            raise RunError(f"{path}: {wrong}; it was changed or damaged: {remedy(path)}")
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
    return expanded(chosen) if chosen else platformdirs.user_cache_path("fpclass")


def is_offline() -> bool:
    """Whether the environment variable FPCLASS_OFFLINE forbids the network."""
    return os.environ.get("FPCLASS_OFFLINE", "") not in ("", "0")
