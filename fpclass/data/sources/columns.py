"""Columns of a CSV: those that say what the images are, and those that make subgroups."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fpclass.common.files import read_text
from fpclass.data.files import some_of
from fpclass.data.table import COLUMN, MEASURED, Table
from fpclass.errors import DataError

LIMIT_KEY = "data.max_file_mb"
SEPARATORS = (",", ";", "\t", "|")
"""Commas; semicolons, which Excel writes where numbers have a decimal comma; tabs; bars."""


def subgroup_columns(table: Table, data: Any, names: Sequence[str]) -> dict[str, list[str]]:
    """Cells of the columns of the source that make subgroups, by `COLUMN` + name; of `MEASURED` those it has.

    Raises:
      DataError: there is no such column.
    """
    measured = f"of the images themselves there are {', '.join(MEASURED)}"
    path, names = table.listed_in, [name for name in names if COLUMN + name not in table.rows]
    if path is None:
        for name in names:
            if name not in MEASURED:
                raise DataError(f"evaluate.subgroups names {name!r}, and {table.source} has no columns; {measured}")
        return {}
    with _opened(path, data.max_file_mb, data.separator) as (header, reader):
        wanted = [name for name in names if name in header or name not in MEASURED]
        for name in wanted:
            if header.count(name) != 1:
                met = f"{header.count(name) or 'no'} column{'s' * (header.count(name) > 1)} {name!r}"
                there = f"the columns are {some_of(header)}"
                raise DataError(f"{path}: {met} (evaluate.subgroups); {there}; {measured}; name others, or () for none")
        if not wanted:
            return {}
        _, columns = _read(path, header, reader, dict(zip(wanted, wanted, strict=True)))
    missing = set(data.missing)
    return {
        COLUMN + name: ["" if cell in missing else cell for cell in cells]
        for name, cells in zip(wanted, columns, strict=True)
    }


def read_columns(
    path: Path, wanted: dict[str, str], max_mb: float, separator: str = ""
) -> tuple[list[int], list[list[str]]]:
    """The line number of each row of a CSV, and the stripped cells of some columns (config key -> name of the column).

    The file is UTF-8, with or without a byte order mark, with a header; see `separator_of`.

    Raises:
      DataError: the file cannot be read as this, lacks a column or has no rows.
    """
    with _opened(path, max_mb, separator) as (header, reader):
        return _read(path, header, reader, wanted)


def read_all_columns(path: Path, max_mb: float, separator: str = "") -> dict[str, list[str]]:
    """The stripped cells of every column of a CSV by its name, if that is there once; otherwise as `read_columns`."""
    with _opened(path, max_mb, separator) as (header, reader):
        names = [name for name in header if name and header.count(name) == 1]
        _, columns = _read(path, header, reader, dict(zip(names, names, strict=True)))
    return dict(zip(names, columns, strict=True))


def separator_of(header: str) -> str:
    """What stands between the cells of a CSV, by its first line: the one of `SEPARATORS` that it has most often."""
    return max(SEPARATORS, key=header.count)  # the first of equals: a comma


@contextlib.contextmanager
def _opened(path: Path, max_mb: float, separator: str) -> Iterator[tuple[list[str], Any]]:
    """The stripped cells of the header, and a reader of what is below it, to be read within."""
    try:
        text = read_text(path, "utf-8-sig", max_mb, LIMIT_KEY)
        delimiter = separator or separator_of(text.partition("\n")[0])
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        yield [cell.strip() for cell in next(reader, [])], reader
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV that can be read ({error})") from None


def _read(path: Path, header: list[str], reader: Any, wanted: dict[str, str]) -> tuple[list[int], list[list[str]]]:
    """`read_columns` below the header."""
    positions = [_column(path, header, key, name) for key, name in wanted.items()]
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in positions]
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue  # spreadsheets leave blank lines at the end
        if len(cells) != len(header):
            met = f"{len(cells)} cells where the header has {len(header)}"
            raise DataError(f"{path} line {reader.line_num}: {met}; mend the line")
        lines.append(reader.line_num)
        for column, position in zip(columns, positions, strict=True):
            column.append(cells[position].strip())
    if not lines:
        raise DataError(f"{path}: no rows below the header; expected one row per image")
    return lines, columns


def _column(path: Path, header: list[str], key: str, name: str) -> int:
    """Position of a column in the header, which must have it once."""
    if header.count(name) != 1:
        met = "no column" if name not in header else f"{header.count(name)} columns"
        raise DataError(f"{path}: {met} {name!r} ({key}); the columns are {some_of(header)}")
    return header.index(name)
