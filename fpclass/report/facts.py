"""What the files of a folder say, each number with the file and the key that it comes from."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from fpclass.common import files
from fpclass.errors import FpclassError, RunError, one_line, printable
from fpclass.stats.intervals import Interval, format_number


@dataclasses.dataclass(frozen=True)
class Cited:
    """A text, mostly a number, and where it comes from: "metrics.json: validation.accuracy"."""

    text: str
    source: str


@dataclasses.dataclass(frozen=True)
class Typed:
    """Something to be typed as it is: a command, a key."""

    text: str


Piece = str | Cited | Typed
Sentence = tuple[Piece, ...]
"""A sentence in pieces: words, what files say, what is to be typed."""


def sentence(template: str, **parts: Piece | Sentence) -> Sentence:
    """A sentence of words with fields in braces, each filled with what is given under its name."""
    pieces: list[Piece] = []
    for words, field, _, _ in string.Formatter().parse(template):
        pieces += [words] if words else []
        if field:
            part = parts[field]
            pieces += part if isinstance(part, tuple) else [part]
    return tuple(pieces)


def listed(parts: Iterable[Piece | Sentence], separator: str = ", ") -> Sentence:
    """Parts one after the other, with a separator between them."""
    pieces: list[Piece] = []
    for part in parts:
        pieces += [separator] if pieces else []
        pieces += part if isinstance(part, tuple) else [part]
    return tuple(pieces)


def plain(pieces: Piece | Sentence) -> str:
    """A sentence without its sources."""
    pieces = pieces if isinstance(pieces, tuple) else (pieces,)
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)


class Facts:
    """The files of a folder, each read when it is first asked for."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._objects: dict[str, dict[str, Any] | FpclassError] = {}
        self._frames: dict[str, pd.DataFrame | FpclassError] = {}

    def path(self, name: str) -> pathlib.Path:
        """The path of a file."""
        return self.folder / name

    def is_there(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.path(name).is_file()

    def object(self, file: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
          RunError: missing, damaged, or something else.
        """
        return _known(self._objects, file, lambda: files.read_object(self.path(file)))

    def frame(self, file: str, *columns: str) -> pd.DataFrame:
        """A CSV table, all of it text.

        Args:
          columns: that have to be there.

        Raises:
          RunError: missing or damaged.
        """
        frame = _known(self._frames, file, lambda: self._read_frame(file))
        for column in columns:
            if column not in frame:
                raise RunError(f"{file}: has no column {column}; it was changed or damaged")
        return frame

    def text_of(self, file: str) -> str:
        """A text file.

        Raises:
          RunError: missing or damaged.
        """
        try:
            return files.read_text(self.path(file))
        except FileNotFoundError:
            raise RunError(f"{file}: not found") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: cannot be read ({one_line(error)})") from error

    def at(self, file: str, *keys: str) -> Any:
        """The value behind keys of a JSON object.

        Raises:
          RunError: as `object`, or there is no such key.
        """
        value: Any = self.object(file)
        for i, key in enumerate(keys):
            if not isinstance(value, dict) or key not in value:
                raise RunError(f"{file}: has no {dotted(keys[: i + 1])}")
            value = value[key]
        return value

    def get(self, file: str, *keys: str, default: Any = None) -> Any:
        """The value behind keys; the default where the file or the key is missing."""
        try:
            return self.at(file, *keys)
        except RunError:
            return default

    def cite(self, file: str, *keys: str, show: Callable[[Any], str] = lambda value: _shown(value)) -> Cited:
        """The value behind keys as text, with its source.

        Raises:
          RunError: as `at`.
        """
        return Cited(show(self.at(file, *keys)), source_of(file, *keys))

    def number(self, file: str, *keys: str) -> Cited:
        """A number with three digits; errors as `cite`."""
        return self.cite(file, *keys, show=lambda value: format_number(_number(value, file, keys)))

    def count(self, file: str, *keys: str) -> Cited:
        """A whole number; errors as `cite`."""
        return self.cite(file, *keys, show=lambda value: f"{_number(value, file, keys):,.0f}")

    def interval(self, file: str, *keys: str, sign: str = "") -> Cited:
        """A number with its interval, where there is one; errors as `cite`."""
        return self.cite(file, *keys, show=lambda value: format(_interval(value, file, keys), sign))

    def _read_frame(self, file: str) -> pd.DataFrame:
        path = self.path(file)
        if not path.is_file():
            raise RunError(f"{file}: not found")
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_values={})
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: cannot be read ({one_line(error)})") from error


def source_of(file: str, *keys: str) -> str:
    """Where a value comes from, in words."""
    return f"{file}: {dotted(keys)}" if keys else file


def dotted(keys: Sequence[str]) -> str:
    """Keys as one text; those that are no plain words in brackets."""
    parts = [f".{key}" if re.fullmatch(r"[\w@-]+", key) else f"[{key!r}]" for key in keys]
    return "".join(parts).removeprefix(".")


def why(error: BaseException, folder: pathlib.Path | None = None) -> str:
    """Why a part is missing, in a line; paths as they are inside the folder."""
    text = printable(" ".join(str(error).split()))
    if not isinstance(error, FpclassError):
        text = f"{type(error).__name__}: {one_line(error)}"
    return text.replace(f"{folder}/", "") if folder else text


def _known(cache: dict[str, Any], file: str, read: Callable[[], Any]) -> Any:
    """What a file holds, or the error that it gave, from the cache."""
    if file not in cache:
        try:
            cache[file] = read()
        except FpclassError as error:
            cache[file] = error
    if isinstance(cache[file], FpclassError):
        raise cache[file]
    return cache[file]


def _shown(value: Any) -> str:
    """A value of a JSON file as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return f"({', '.join(_shown(one) for one in value)})"
    return "none" if value in (None, "") else printable(str(value))


def _number(value: Any, file: str, keys: Sequence[str]) -> Any:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise RunError(f"{source_of(file, *keys)} is {printable(repr(value))[:40]}, expected a number")


def _interval(value: Any, file: str, keys: Sequence[str]) -> Interval:
    if not isinstance(value, dict) or "value" not in value:
        raise RunError(f"{source_of(file, *keys)} is {printable(repr(value))[:40]}, expected a value with its interval")
    return Interval(*(_number(value.get(name), file, (*keys, name)) for name in ("value", "low", "high")))
