"""Images that a person leaves out: the list of file names that `data.exclude` gives."""

from __future__ import annotations

import csv
import dataclasses
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fpclass.common.files import MAX_FILE_MB, read_text
from fpclass.data.files import some_of
from fpclass.data.sources.columns import LIMIT_KEY, SEPARATORS
from fpclass.data.table import WARNING, Finding, Table
from fpclass.errors import DataError

COMMENT = "#"
HEADER = "filename"
"""What the first cell of a header may be called."""
HOW_TO = (
    f"Nothing is left out as it stands. Look at the images, and delete the {COMMENT} in front of those to leave out.",
    "Then give this file to every command, from outside of the images' folder: --config.data.exclude=FILE",
    "What is left out neither trains nor is judged. Leave out what is wrong, not what is hard: without hard images an",
    "estimate is too good. How many were left out is in the checklist, and which in audit.json.",
)
"""Lines for whoever edits a list."""


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Reads the rows of a source that are left; worker processes can unpickle it."""

    read: Callable[[int], bytes]
    positions: tuple[int, ...]

    def __call__(self, position: int) -> bytes:
        """Raises OSError, as the source does."""
        return self.read(self.positions[position])


def leave_out(table: Table, path: Path, max_mb: float = MAX_FILE_MB) -> Table:
    """The table without the labelled images that a list names, nor their augmented copies.

    They neither train nor judge. Rows to predict stay, and that is said: a submission needs all of them.

    The list is a text file with a file name per line, to the letter as in the table (table.csv of a run); what follows
    after a comma, semicolon, tab or bar is for the reader. Lines that begin with # are comments.

    Raises:
      DataError: the list cannot be read, lists nothing, or nothing that the source has.
    """
    is_listed, unmatched = _find(table, path, max_mb)
    is_to_predict = is_listed & table.to_predict_mask
    is_out = is_listed & ~is_to_predict
    out = table.rows[is_out]
    left_out, findings = tuple(out["filename"]), []
    note = f"{len(out)} images left out by data.exclude={path} ({_counts(out)}); they neither train nor judge"
    if left_out:
        findings.append(Finding("left_out", WARNING, left_out, note))
    if is_to_predict.any():
        reason = f"rows to predict that data.exclude={path} names; they are predicted all the same"
        findings.append(Finding("not_left_out", WARNING, tuple(table.rows["filename"][is_to_predict]), reason))
    if unmatched:
        reason = f"names in data.exclude={path} that no image has"
        findings.append(Finding("exclude_unmatched", WARNING, unmatched, reason))
    if table.copy_mask.any():
        is_out |= table.rows["copy_of"].isin(left_out).to_numpy(bool)
    kept = np.flatnonzero(~is_out)
    return dataclasses.replace(
        table,
        rows=table.rows.iloc[kept].reset_index(drop=True),
        read=_Kept(table.read, tuple(kept.tolist())),
        notes=(*table.notes, *([note] if left_out else [])),
        findings=(*findings, *table.findings),
        left_out=left_out,
    )


def _find(table: Table, path: Path, max_mb: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which rows a list names, bool [N], and the names in it that no row has.

    Raises:
      DataError: as `leave_out`.
    """
    filenames = [_composed(name) for name in table.rows["filename"]]
    known, listed, unmatched = set(filenames), set(), []
    for line in _lines(path, max_mb):
        try:
            readings = list(_readings(line))
        except csv.Error as error:
            raise DataError(
                f"data.exclude: {path}: a line of {len(line)} characters cannot be read ({error}); give a text file "
                "with a file name per line"
            ) from None
        name = next((reading for reading in readings if reading in known), "")
        if name:
            listed.add(name)
        elif readings[1] != HEADER:
            unmatched.append(readings[1])
    if not listed and unmatched:
        raise DataError(
            f"data.exclude: {path}: no image of {table.source} is called {some_of(unmatched, limit=2)}; write names as "
            f"the data have them, such as {table.rows['filename'].iloc[0]}"
        )
    if not listed:
        raise DataError(
            f"data.exclude: {path} lists no file: delete the {COMMENT} in front of those to leave out, or leave "
            "data.exclude out"
        )
    return np.isin(filenames, list(listed)), tuple(dict.fromkeys(unmatched))


def list_to_edit(rows: Iterable[Sequence[object]], columns: Sequence[str], about: Sequence[str]) -> str:
    """The text of a list for `leave_out` in which every line is commented out, for a person to edit.

    Args:
      rows: cells of each image, its filename first.
      columns: what the cells are.
      about: why these images, in lines.
    """
    text = io.StringIO()
    for line in (*about, *HOW_TO, f"columns: {', '.join(columns)}"):
        text.write(f"{COMMENT} {line}\n")
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    for row in rows:
        text.write(COMMENT)
        writer.writerow(row)
    return text.getvalue()


def has_lines(path: Path) -> bool:
    """Whether a list is there from which somebody has deleted a # already."""
    return path.is_file() and any(True for _ in _lines(path, MAX_FILE_MB))


def _lines(path: Path, max_mb: float) -> Iterator[str]:
    """The lines that are neither blank nor comments."""
    try:
        text = read_text(path, "utf-8-sig", max_mb, LIMIT_KEY)
    except UnicodeDecodeError as error:
        raise DataError(f"data.exclude: {path}: not UTF-8 text (byte {error.start}); save it in UTF-8") from None
    except OSError as error:
        raise DataError(
            f"data.exclude: {path}: cannot be read ({error.strerror or error}); give a text file with a file name per "
            "line"
        ) from None
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if line and not line.startswith(COMMENT))


def _readings(line: str) -> Iterator[str]:
    """What a line may name: all of it, or what stands before its first comma, semicolon, tab or bar."""
    yield _composed(line)
    for separator in SEPARATORS:
        yield _composed(next(csv.reader([line], delimiter=separator))[0].strip())


def _composed(name: str) -> str:
    """One spelling for what looks the same: macOS stores an umlaut as two characters, an editor writes one."""
    return unicodedata.normalize("NFC", name)


def _counts(rows: Any) -> str:
    """How many images of which class, and of which split where the source gives splits."""
    parts = [f"{label}: {n}" for label, n in sorted(Counter(rows["raw_label"]).items())]
    splits = [f"{n} of {split}" for split, n in sorted(Counter(rows["split"]).items()) if split]
    return "; ".join([some_of(parts), *([", ".join(splits)] if splits else [])])
