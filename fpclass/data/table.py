"""The manifest of a data set: one row per image, in the order of its source."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.files import some_of
from fpclass.errors import ConfigError

Progress = Callable[[Iterable, int], Iterable]
"""Wraps an iterable of known length, for example in a progress bar."""

UNLABELLED = -1
"""Label of a row whose class is to be predicted."""
OUT_OF_RANGE = -2
"""Label of a row whose label column holds a value that is not one of the configured classes."""

FATAL = "fatal"
"""Training makes no sense: `train` stops."""
QUARANTINE = "quarantine"
"""The files take no part; `--strict` stops."""
WARNING = "warning"
"""A person should look at it; nothing is left out."""

NUM_NAMES = 3
"""How many files of a finding the terminal names."""

COLUMN = "column "
"""What the names of columns of the source begin with, in a table that keeps them."""
MEASURED = {
    "image_size": lambda rows: (rows["width"] * rows["height"]).astype(np.int64),
    "image_width": lambda rows: rows["width"].astype(np.int64),
    "image_height": lambda rows: rows["height"].astype(np.int64),
    "image_mode": lambda rows: rows["mode"],
}
"""Columns that every audited table makes of itself: size in pixels, width and height in px, colours as the file has."""

COLUMNS = ("filename", "path", "label", "raw_label", "group", "split", "quarantine")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem of the data set, with the files it is about.

    Attributes:
      kind: what findings are counted by, e.g. byte_identical.
      severity: `FATAL`, `QUARANTINE` or `WARNING`.
      filenames: keys of the table's rows, or files that no row names; empty where it is about the whole set.
      reason: one line that says what is wrong and what follows from it.
    """

    kind: str
    severity: str
    filenames: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        files = f": {some_of(self.filenames, limit=NUM_NAMES)}" if self.filenames else ""
        return f"{self.kind}: {self.reason}{files}"


@dataclasses.dataclass(frozen=True)
class Table:
    """One row per image; a row's position is its identity (`example id`) in every array of a run.

    Attributes:
      rows: a data frame with a range index and at least these columns, of str where not given:
        filename (unique: the key of every table a run writes), path ("" without a file), label (int64: class index,
        `UNLABELLED` or `OUT_OF_RANGE`), raw_label (as the source has it), group (the person; "" for none), split ("" or
        "train", "validation", "test" as the source gives it), quarantine ("" or why the row takes no part).
        Where copies were added also copy_of (the filename of the original; "" for an image that is none).
        Where they were asked for, columns of the source, as `COLUMN` + name, of str.
        After merging also original (the class as the source has it; "" without a label); after the audit also what it
        measured: sha256, pixel_sha256, width, height, mode, ….
      classes: label values in the source's own coding, in the order of the class indices.
      class_names: their names in figures and reports.
      read: gives the encoded bytes of the row at a position. Raises OSError.
      source: one line that says where the data come from, for reports.
      is_synthetic: the images were drawn, not taken; every result has to say so.
      unlisted: files below the data root that no row names.
      has_names: filenames are those of files, so that they may say whom an image is of; else they are numbers.
      notes: what a person should know before these images are divided, one line each.
      originals: the source's classes in its order, where `classes` were merged from them; else empty.
      findings: what reading the source showed, for the audit.
      left_out: filenames of images that `data.exclude` names, which have no row.
      listed_in: the file that lists the images; None where folders do.
      is_stretched: decoding has not kept the shape of the pictures: figures show them in that of their files.
    """

    rows: Any  # a data frame; to pandas' own annotations nearly every expression may be anything
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    read: Callable[[int], bytes]
    source: str
    is_synthetic: bool = False
    unlisted: tuple[str, ...] = ()
    has_names: bool = True
    notes: tuple[str, ...] = ()
    originals: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()
    listed_in: Path | None = None
    is_stretched: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    @property
    def labels(self) -> np.ndarray:
        """Class index, `UNLABELLED` or `OUT_OF_RANGE`, int64 [N]."""
        return self.rows["label"].to_numpy(np.int64)

    @property
    def usable_mask(self) -> np.ndarray:
        """Rows that are not in quarantine, bool [N]."""
        return (self.rows["quarantine"] == "").to_numpy(bool)

    @property
    def labelled_mask(self) -> np.ndarray:
        """Usable rows with a label in range, bool [N]."""
        return self.usable_mask & (self.labels >= 0)

    @property
    def copy_mask(self) -> np.ndarray:
        """Augmented copies of other rows, which stand behind all of these, bool [N]."""
        if "copy_of" not in self.rows:
            return np.zeros(len(self), bool)
        return (self.rows["copy_of"] != "").to_numpy(bool)

    @property
    def to_predict_mask(self) -> np.ndarray:
        """Rows whose class is to be predicted, in quarantine or not, bool [N]."""
        return self.labels == UNLABELLED

    def rows_of(self, filenames: Iterable[str]) -> np.ndarray:
        """Positions of the rows with these file names, [n]; KeyError where there is none."""
        place = {name: row for row, name in enumerate(self.rows["filename"])}
        return np.array([place[name] for name in filenames], dtype=np.int64)

    def shapes(self, rows: Any = slice(None)) -> np.ndarray | None:
        """(height, width) in pixels in which to show audited images, int64 [n, 2]; None: as they were decoded."""
        return self.rows[["height", "width"]].to_numpy(np.int64)[rows].clip(1) if self.is_stretched else None

    def with_columns(self, **columns: Any) -> Table:
        """A copy of the table with these columns added or replaced."""
        return dataclasses.replace(self, rows=self.rows.assign(**columns))

    def without_columns(self, kept: Collection[str]) -> Table:
        """A copy of the table with no more columns of the source than these."""
        dropped = [name for name in self.rows if name.startswith(COLUMN) and name not in kept]
        return dataclasses.replace(self, rows=self.rows.drop(columns=dropped)) if dropped else self


def column_cells(rows: Any, name: str) -> list[str] | None:
    """The cells of a column that makes subgroups, of audited rows; None where they do not have it."""
    if COLUMN + name in rows:
        return rows[COLUMN + name].astype(str).tolist()
    if name in MEASURED and {"width", "height", "mode"} <= set(rows):
        return MEASURED[name](rows).astype(str).tolist()
    return None


def canonical_label(value: object) -> str:
    """The text that labels are compared by: stripped, and `0.0`, `0` and `00` all `0`; empty for a missing value.

    Letters with accents are composed: macOS stores them as two characters, and nobody sees the difference.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = unicodedata.normalize("NFC", _without_decimals(str(value)))
    return str(int(text)) if re.fullmatch(r"[+-]?\d{1,100}", text) else text


def _without_decimals(text: str) -> str:
    """A label as the source spells it, but for decimals that no person wrote.

    A column of integers with gaps is read as floats by every CSV reader, so `SEX` holds `0.0` where a person wrote 0.
    """
    text = text.strip()
    return text.partition(".")[0] if re.fullmatch(r"[+-]?\d{1,100}(\.0*)?", text) else text


def one_spelling(values: Sequence[str]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Labels in the source's own spelling; where several mean the same, such as 1 and 01, in the most frequent one.

    Returns:
      The label of each value, "" for a blank one; and the labels that have several spellings, with how often each of
      these occurs.
    """
    spellings: dict[str, Counter[str]] = {}
    for text, count in sorted(Counter(map(_without_decimals, values)).items()):
        spellings.setdefault(canonical_label(text), Counter())[text] += count
    label_of = {key: unicodedata.normalize("NFC", counts.most_common(1)[0][0]) for key, counts in spellings.items()}
    several = {label_of[key]: dict(counts) for key, counts in spellings.items() if len(counts) > 1}
    return [label_of[canonical_label(value)] for value in values], several


def class_order(configured: Sequence[object], values: Iterable[str]) -> tuple[str, ...]:
    """The label values in the order of the class indices: the configured ones, or else those of the source.

    Those are the distinct values but "", each in one spelling, sorted as numbers if all of them are numbers. The
    configured ones are spelled as the source spells them, where it has them.

    Raises:
      ConfigError: a class is configured twice or is empty.
    """
    distinct = sorted(set(values) - {""})
    if configured:
        spelling = {canonical_label(value): value for value in distinct}
        keys = [canonical_label(value) for value in configured]
        if len(set(keys)) < len(keys) or "" in keys:
            raise ConfigError(f"data.classes = {some_of(keys)}: every class once, none of them empty")
        texts = [_without_decimals(str(value)) for value in configured]
        return tuple(spelling.get(key, text) for key, text in zip(keys, texts, strict=True))
    return tuple(sorted(distinct, key=float) if all(map(_is_number, distinct)) else distinct)


def class_names(configured: Sequence[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes for figures: `data.class_names`, or the label values themselves.

    Raises:
      ConfigError: there are not as many names as classes.
    """
    if not configured or not classes:
        return classes
    if len(configured) != len(classes):
        raise ConfigError(
            f"data.class_names: {len(configured)} names ({some_of(configured)}) for {len(classes)} classes "
            f"({some_of(classes)}); give one name per class, in the same order"
        )
    return tuple(configured)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def make_rows(
    filename: list[str],
    path: list[str],
    raw_label: list[str],
    classes: tuple[str, ...],
    group: list[str] | None = None,
    split: list[str] | None = None,
) -> pd.DataFrame:
    """Builds the rows of a `Table` from parallel lists; labels are looked up in `classes`, nothing is in quarantine.

    A path is "" where there is no file, a raw label spelled as in the classes, and "" for a row to predict.
    """
    index = {value: k for k, value in enumerate(classes)}
    empty = [""] * len(filename)
    return pd.DataFrame(
        {
            "filename": pd.Series(filename, dtype=object),
            "path": pd.Series(path, dtype=object),
            "label": np.array([UNLABELLED if not r else index.get(r, OUT_OF_RANGE) for r in raw_label], np.int64),
            "raw_label": pd.Series(raw_label, dtype=object),
            "group": pd.Series(group or empty, dtype=object),
            "split": pd.Series(split or empty, dtype=object),
            "quarantine": pd.Series(empty, dtype=object),
        }
    )


def merge_classes(table: Table, merge: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """Puts classes together; the column `original` keeps what each image was, and labels out of range stay.

    `merge` has (name, classes of the source) of every class that is wanted, in the order of the class indices.

    Raises:
      ConfigError: a class that the source does not have, one that is in two, or one that is in none.
    """
    home: dict[str, str] = {}
    for name, members in merge:
        for member in map(canonical_label, members):
            if member in home:
                raise ConfigError(f"data.merge: class {member!r} is in {home[member]!r} and in {name!r}; once, please")
            home[member] = name
    have = ", ".join(table.classes)
    for member in home.keys() - set(map(canonical_label, table.classes)):
        raise ConfigError(f"data.merge: no class {member!r} in {table.source}; it has {have}")
    for absent in [value for value in table.classes if canonical_label(value) not in home]:
        raise ConfigError(f"data.merge: class {absent!r} of {table.source} is in none of {', '.join(dict(merge))}")
    home = {value: home[canonical_label(value)] for value in table.classes}
    classes = tuple(name for name, _ in merge)
    original = table.rows["raw_label"]
    raw_label = original.map(lambda value: home.get(value, value))
    index = {name: k for k, name in enumerate(classes)}
    label = [
        index[name] if value in home else old
        for name, value, old in zip(raw_label, original, table.labels, strict=True)
    ]
    merged = table.with_columns(raw_label=raw_label, original=original, label=np.array(label, np.int64))
    return dataclasses.replace(merged, classes=classes, class_names=classes, originals=table.classes)
