"""Data sets that a function of the user's own lists: what it returns, checked, as lists of text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd

from fpclass.common.extension import bare, call, load
from fpclass.data.files import some_of
from fpclass.data.sources.folders import TEST, TRAIN, VALIDATION
from fpclass.data.table import canonical_label
from fpclass.errors import DataError

KEY = "data.source"
SPLITS = ("", TRAIN, VALIDATION, TEST)


@dataclasses.dataclass(frozen=True)
class Listed:
    """One entry per image in each list.

    Attributes:
      filename: as the function gave it, unique; path: the same, absolute.
      label, group, split: "" where there is none.
      others: the cells of all other columns.
    """

    filename: list[str]
    path: list[str]
    label: list[str]
    group: list[str]
    split: list[str]
    others: dict[str, list[str]]


def list_images(name: str, root: Path | None) -> Listed:
    """What `function(root)` returns: a data frame with filename, label, and perhaps group, split and other columns.

    Args:
      name: package.module:function.
      root: `data.root`; None where that is empty.

    Raises:
      ConfigError: there is no such function, or it raises something.
      DataError: it does not return such a data frame, names an image twice, or a split that there is not.
    """
    frame, where = call(load(name, KEY), name, KEY, root), f"{KEY}={bare(name)}"
    if not isinstance(frame, pd.DataFrame) or not {"filename", "label"} <= set(frame):
        met = f"columns {some_of(list(map(str, frame)))}" if isinstance(frame, pd.DataFrame) else type(frame).__name__
        raise DataError(f"{where}: gave {met}; return a pandas data frame with the columns filename and label")
    cells = {str(column): _as_text(frame[column]) for column in frame}
    empty = [""] * len(frame)
    filename, split = cells.pop("filename"), cells.pop("split", empty)
    twice = [file for file, is_again in zip(filename, pd.Series(filename).duplicated(), strict=True) if is_again]
    if not filename or "" in filename or twice:
        met = f"{twice[0]!r} twice" if twice else "a row without filename" if filename else "no rows"
        raise DataError(f"{where}: gave {met}; every image needs one row with its path")
    if unknown := sorted(set(split) - set(SPLITS)):
        raise DataError(f"{where}: gave split {unknown[0]!r}; expected {', '.join(filter(None, SPLITS))} or nothing")
    relative = [file for file in filename if not Path(file).is_absolute()]
    if relative and root is None:
        raise DataError(f"{where}: gave {relative[0]!r}; give absolute paths, or their folder with data.root")
    path = [str((root or Path()) / file) for file in filename]
    label, group = cells.pop("label"), list(map(canonical_label, cells.pop("group", empty)))
    return Listed(filename, path, label, group, split, cells)


def _as_text(column: Any) -> list[str]:
    return ["" if is_missing else str(cell).strip() for cell, is_missing in zip(column, column.isna(), strict=True)]
