"""Absolute paths in a report, cut down to what says something elsewhere too: the name of the file or folder."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fpclass.config import flatten
from fpclass.run.report.subject import Subject

T = TypeVar("T")
_START = r"(?<![\w.~:/\\-])"
"""What an absolute path does not follow: else it is a part of an address, a relative path or a fraction."""
_FOLDERS = re.compile(_START + r"~?/(?:[^\s/\\\"'`<>|,;:()\[\]=]+/)+(?=[^\s/])")


def without_folders(value: T, known: Iterable[str]) -> T:
    """A page, or texts in lists and dataclasses, where every absolute path is its last name.

    Args:
      known: absolute paths that may stand in it, which may hold blanks; what is below one keeps its name:
        photos/cat/1.jpg.
    """
    names = {path.rstrip("/\\"): pathlib.PureWindowsPath(path).name for path in known}
    longest_first = sorted(filter(names.get, names), key=len, reverse=True)
    whole = re.compile(f"{_START}(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![\\w-])")

    def shortened(text: str) -> str:
        return _FOLDERS.sub("", whole.sub(lambda match: names[match[0]], text))

    return _in_texts(value, shortened)


def known_paths(subject: Subject) -> Iterator[str]:
    """The absolute paths that a folder's config names, and where the folder is."""
    yield str(subject.facts.folder.absolute())
    configs = subject.facts.get(*subject.config[:1], default={})
    for value in flatten(configs).values() if isinstance(configs, dict) else ():
        if isinstance(value, str) and pathlib.PureWindowsPath(value).root:
            yield value


def _in_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_in_texts(one, change) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _in_texts(getattr(value, field.name), change) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
