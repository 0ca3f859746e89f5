"""Files that are whole or not there (written under a temporary name and renamed), and the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fpclass.errors import RunError

if TYPE_CHECKING:
    import pandas as pd


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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: not found; is this the folder of a finished run?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}); train again into a new --workdir") from error


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
