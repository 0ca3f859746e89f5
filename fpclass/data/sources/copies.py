"""Augmented copies that `augment-preview --save` wrote: rows that train beside their originals, and never judge."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.table import Table, canonical_label
from fpclass.errors import DataError

TABLE_NAME = "augmented.csv"
COLUMNS = ("filename", "label", "group", "original", "copy", "synthetic")
"""Of that table; `original` is the filename of the row that an image is a copy of."""
PREFIX = "copies/"
"""Begins the name of a copy in every table of a run."""


@dataclasses.dataclass(frozen=True)
class _Both:
    """Reads the rows of one source, and behind them those of another; worker processes can unpickle it."""

    first: Callable[[int], bytes]
    num_first: int
    second: Callable[[int], bytes]

    def __call__(self, position: int) -> bytes:
        """Raises OSError, as they do."""
        is_first = position < self.num_first
        return self.first(position) if is_first else self.second(position - self.num_first)


def holds_copies(folder: Path) -> bool:
    """Whether a folder is one that copies were saved in, and no data set of its own."""
    try:
        with (folder / TABLE_NAME).open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), []) == list(COLUMNS)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def add_copies(table: Table, folder: Path, make_reader: Callable[[tuple[str, ...]], Callable[[int], bytes]]) -> Table:
    """The table with the copies of a folder behind its rows; the column copy_of names the original of each.

    A copy has label, person and split of its original.

    Args:
      table: as the source gives it, before classes are put together.
      make_reader: gives what reads the files of these paths.

    Raises:
      DataError: no such folder or table, or a copy whose original is not there or has another label now.
    """
    frame: Any = _read(folder)
    rows = table.rows.assign(copy_of="")
    position = pd.Series(range(len(rows)), index=rows["filename"]).reindex(frame["original"])
    place = f"data.copies = {folder}"
    if position.isna().any():
        absent = frame["original"][position.isna().to_numpy()]
        raise DataError(
            f"{place}: {len(absent)} of {len(frame)} copies are of images that {table.source} does not have, first "
            f"{absent.iloc[0]!r}; give the data set that they were made of, or make them anew"
        )
    originals = rows.iloc[position.to_numpy(int)].reset_index(drop=True)
    differs = originals["raw_label"].map(canonical_label) != frame["label"].map(canonical_label)
    if differs.any():
        k = int(np.flatnonzero(differs)[0])
        raise DataError(
            f"{place}: {frame['filename'][k]!r} has the label {frame['label'][k]!r}, its original "
            f"{frame['original'][k]!r} {originals['raw_label'][k]!r}; make the copies anew"
        )
    paths = tuple(str((folder / name).absolute()) for name in frame["filename"])
    added = originals.assign(filename=PREFIX + frame["filename"], path=paths, copy_of=frame["original"])
    return dataclasses.replace(
        table,
        rows=pd.concat([rows, added], ignore_index=True),
        read=_Both(table.read, len(rows), make_reader(paths)),
    )


def _read(folder: Path) -> pd.DataFrame:
    path = folder / TABLE_NAME
    if not holds_copies(folder):
        raise DataError(f"data.copies: {path} is no table of `augment-preview --save`; give a folder that it wrote")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); make the copies anew") from None
    if not len(frame) or frame["filename"].duplicated().any():
        raise DataError(f"{path}: no copies in it, or one of them twice; make the copies anew")
    return frame
