"""The CSV of a data set that names its images: which one it is, and which of its columns are what.

The label and the person are taken where their columns are called so, or where nothing else could be meant.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fpclass.common.console import program
from fpclass.data.files import ImageIndex, csv_files, looks_like_image, some_of
from fpclass.data.sources.columns import SEPARATORS, read_all_columns
from fpclass.data.sources.folders import TRAIN, split_of
from fpclass.errors import ConfigError, DataError

MAX_CLASSES = 100
"""A column of more values is not taken for that of the classes unless it is named."""

_LABEL = {"label", "labels", "class", "classes", "target", "category", "sex", "gender", "species", "diagnosis", "breed"}
_GROUP = {
    "person",
    "subject",
    "patient",
    "participant",
    "individual",
    "animal",
    "donor",
    "group",
    "id",
    "people",
    "site",
}
_DIVISION = {"split", "splits", "fold", "folds", "subset", "partition"}
"""Names of columns of parts of the data, which are no labels unless they are named."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclasses.dataclass(frozen=True)
class Listing:
    """A CSV whose rows name images.

    Attributes:
      filename: the column with the names.
      files: the file of each row, "" for none.
      unlisted: images that no row names.
      notes: what to say of it.
    """

    path: Path
    columns: dict[str, list[str]]
    filename: str
    files: list[str]
    unlisted: list[str]
    notes: tuple[str, ...] = ()


def find_listing(folder: Path, data: Any, given: Collection[str]) -> tuple[Listing | None, tuple[str, ...]]:
    """The CSV of a folder that names its images and may have their labels; None where there is none.

    A form of a submission, as competitions have beside their labels, is left aside. The second value: what is wrong
    with other CSVs that were meant to do so, one line each.

    Raises:
      DataError: several do.
    """
    paths = [folder / data.csv] if data.csv else csv_files(folder)
    base = folder / data.image_dir
    index = ImageIndex(folder, base) if paths and base.is_dir() else None
    listings, wrong = [], []
    for path in paths:
        if index is None:
            break
        try:
            columns = read_all_columns(path, data.max_file_mb, data.separator)
        except (DataError, OSError) as error:
            if data.csv:
                raise
            wrong.append(str(error))  # or something else that lies there
            continue
        name = data.filename_column if "filename_column" in given else _filename_column(columns, index, data)
        if name in columns:
            columns = {key: ["" if cell in data.missing else cell for cell in columns[key]] for key in columns}
            files = [_found(index, cell) for cell in columns[name]]
            listings.append(Listing(path, columns, name, files, sorted(set(index.images) - set(files))))
        else:
            wrong += _missed(path, columns, index, base)
    with_label = [listing for listing in listings if _label_candidates(listing, data, given)]
    if len(with_label) > 1:
        with_label = _without_forms(with_label, data, given)
    if len(with_label) > 1:
        names = some_of([listing.path.name for listing in with_label])
        raise DataError(f"{folder}: {names} all name images and may have the labels; say which: --config.data.csv=NAME")
    if not with_label and "source" in given:
        there = some_of([path.name for path in paths])
        advice = "name them by --config.data.filename_column=NAME --label=NAME"
        raise DataError(f"{folder}: no CSV ({there}) with a column that names images and one of classes; {advice}")
    return (with_label[0] if with_label else None), tuple(wrong)


def _missed(path: Path, columns: Mapping[str, list[str]], index: ImageIndex, base: Path) -> list[str]:
    """What is wrong with a CSV whose rows name images by their extensions, but hardly any that are there."""
    for name, cells in columns.items():
        named = [cell for cell in cells if looks_like_image(Path(cell))]
        if len(named) > len(cells) // 2:
            missing = [cell for cell in named if not _found(index, cell)]
            there = len(named) - len(missing)
            many = f"only {there:,}" if there else "none"
            files = f"{many} of the {len(named):,} files that {path.name} names (column {name!r})"
            return [f"{files} {'are' if there else 'exist'} below {base}, first {missing[0]!r}"]
    return []


def _without_forms(listings: list[Listing], data: Any, given: Collection[str]) -> list[Listing]:
    """The CSVs without forms of a submission: by their name, or as every image has the same label, if any are left."""

    def is_form(listing: Listing) -> bool:
        labels = [listing.columns.get(name, []) for name in _label_candidates(listing, data, given)]
        return "submission" in _words(listing.path.stem) or all(len(set(cells) - {""}) < 2 for cells in labels)

    forms = [listing.path.name for listing in listings if is_form(listing)]
    rest = [listing for listing in listings if not is_form(listing)]
    if len(rest) != 1 or not forms:
        return listings
    note = f"labels are those of {rest[0].path.name}, as {some_of(forms)} looks like the form of a submission"
    return [dataclasses.replace(rest[0], notes=(f"{note}: --config.data.csv=NAME takes another",))]


def _of_unlisted(listing: Listing) -> tuple[str, ...]:
    """What to say of images that no row of the CSV names."""
    if not listing.unlisted:
        return ()
    folders = Counter(Path(name).parent.as_posix() for name in listing.unlisted)
    where = some_of([f"{count:,} in {'.' if name == '.' else name + '/'}" for name, count in folders.items()], 4)
    name = max(folders, key=lambda name: folders[name])
    files = shlex.quote(str(listing.path.parent / name))
    return (
        f"images that {listing.path.name} does not list are left aside ({where}): to predict them, give them rows with "
        f"an empty label, or predict them afterwards: {program()} predict {files} --workdir=RUN",
    )


def _filename_column(columns: Mapping[str, list[str]], index: ImageIndex, data: Any) -> str:
    """The column of which most cells are images; of equals the one of the config; "" where half of none are."""
    shares = {}
    for name, cells in columns.items():
        sample = [cell for cell in cells[:: max(len(cells) // 200, 1)] if cell]
        if len(set(sample)) > len(sample) // 2:
            shares[name] = sum(bool(_found(index, cell)) for cell in sample) / len(sample)
    best = max(shares, key=lambda name: (shares[name], name == data.filename_column), default="")
    return best if shares.get(best, 0) >= 0.5 else ""


def _found(index: ImageIndex, cell: str) -> str:
    """The image that a cell names, or ""; also "" where it could be several, which `load_table` refuses."""
    try:
        name = index.find(cell, "") if cell else ""
    except DataError:
        return ""
    return name if looks_like_image(Path(name)) else ""


def _label_candidates(listing: Listing, data: Any, given: Collection[str]) -> dict[str, int]:
    """Columns that could be the label, with the number of their values; those that are called like one, if any are."""
    if "label_column" in given or data.label_column in listing.columns:
        return {data.label_column: 0}
    counts = _could_be_label(listing, data, given)
    called = {name: count for name, count in counts.items() if _words(name) & _LABEL}
    rest = {name: count for name, count in counts.items() if not _words(name) & _GROUP}
    return called or rest or counts


def _could_be_label(listing: Listing, data: Any, given: Collection[str]) -> dict[str, int]:
    """Columns of few enough values for a label, whatever they are called, with the number of these; no divisions."""
    group = data.group_column if "group_column" in given else ""
    return {
        name: num_values
        for name, num_values, num_rows in _repeated(listing)
        if name != group
        and num_values <= min(MAX_CLASSES, num_rows // 2)
        and not _is_division(name, set(listing.columns[name]) - {""})
    }


def _is_division(name: str, values: Collection[str]) -> bool:
    """Whether a column says of what part of the data a row is: by its name, or as each value is that of one split."""
    splits = [split_of(value) for value in values]
    are_splits = TRAIN in splits and all(splits) and len(splits) == len(set(splits))
    return are_splits or (bool(_words(name)) and _words(name) <= _DIVISION)


def _repeated(listing: Listing) -> Iterator[tuple[str, int, int]]:
    """Columns, but that of the files, with several values of which some repeat: name, number of values and of cells."""
    for name, cells in listing.columns.items():
        num_values, num_cells = len(set(cells) - {""}), sum(map(bool, cells))
        if name != listing.filename and 2 <= num_values < num_cells:
            yield name, num_values, num_cells


def of_listing(listing: Listing, data: Any, given: Collection[str]) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Keys, what was found, and notes of a CSV."""
    columns = listing.columns
    label = _label_column(listing, data, given)
    group, notes = _group_column(listing, label, data, given)
    others = [repr(name) for name in _could_be_label(listing, data, given) if name not in (label, group)]
    if others and "label_column" not in given:
        notes = (*notes, f"the label could also be {some_of(others)}: --label=NAME takes it")
    keys = {"source": "csv", "filename_column": listing.filename, "label_column": label, "group_column": group}
    if len(csv_files(listing.path.parent)) > 1:
        keys["csv"] = listing.path.name
    classes = Counter(cell for cell in columns[label] if cell)
    parts = [f"{len(listing.files):,} rows of {listing.path.name} (file: {listing.filename!r})"]
    parts.append(f"label {label!r} ({counted(classes)})")
    if group:
        parts.append(f"group {group!r} ({len(set(columns[group]) - {''}):,})")
    if "" in columns[label]:
        parts.append(f"{columns[label].count(''):,} to predict")
    if "" in listing.files:
        parts.append(f"{listing.files.count(''):,} without an image")
    return (
        keys,
        ", ".join(parts),
        (*listing.notes, *notes, *_of_several_labels(label, columns[label]), *_of_unlisted(listing)),
    )


def _label_column(listing: Listing, data: Any, given: Collection[str]) -> str:
    if "label_column" in given or data.label_column in listing.columns:
        return _existing(listing, data.label_column, "--label")
    candidates = _label_candidates(listing, data, given)
    if len(candidates) > 1:
        met = ", ".join(f"{name} ({count} values)" for name, count in candidates.items())
        hint = "; they look like a column per class: write the class of each image into one column"
        one_hot = hint if _are_one_hot([listing.columns[name] for name in candidates]) else ""
        raise ConfigError(f"{listing.path}: the label could be {met}; say which: --label=NAME{one_hot}")
    return next(iter(candidates))


def _are_one_hot(columns: list[list[str]]) -> bool:
    """Whether columns hold 0 and 1, and no row two of the latter."""
    zeros, ones = {"0", "0.0", "False", "false", ""}, {"1", "1.0", "True", "true"}
    rows = zip(*columns, strict=True)
    return all(set(row) <= zeros | ones and sum(cell in ones for cell in row) <= 1 for row in rows)


def _of_several_labels(name: str, cells: list[str]) -> tuple[str, ...]:
    """A note where many cells hold several labels, as "cat,dog" beside "cat": every part is in cells of two values."""
    values = set(cells) - {""}
    for separator in SEPARATORS:
        parts = {value: [part.strip() for part in value.split(separator)] for value in values if separator in value}
        of_part = Counter(part for value in values for part in set(parts.get(value, [value])))
        are_many = sum(cell in parts for cell in cells) > len(cells) // 20
        if are_many and all(
            all(of_part[part] > 1 for part in several) and values & set(several) for several in parts.values()
        ):
            first = min(parts)
            return (
                f"several labels per image are not supported: in column {name!r} each combination, such as {first!r}, "
                "is a class of its own",
            )
    return ()


def _group_column(listing: Listing, label: str, data: Any, given: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The column of the person, "" for none, and what to say about others that could be it."""
    if "group_column" in given or data.group_pattern or data.group_column in listing.columns:
        return (_existing(listing, data.group_column, "--group") if data.group_column else ""), ()
    repeated = {name: num_values for name, num_values, _ in _repeated(listing) if name != label}
    called = {name: count for name, count in repeated.items() if _words(name) & _GROUP}
    if len(called) > 1:
        met = ", ".join(f"{name} ({count} values)" for name, count in called.items())
        advice = "say which: --group=NAME, or --group=none"
        raise ConfigError(f"{listing.path}: whose images they are could be in {met}; {advice}")
    if called:
        return next(iter(called)), ()
    num_classes = len(set(listing.columns[label]))
    return "", tuple(
        f"column {name!r} has {count:,} values in {len(listing.files):,} rows: if it says whose images they are "
        f"(person, animal, site), --group={name} keeps them together; without that the result may be too good"
        for name, count in repeated.items()
        if count > max(10, num_classes)
    )


def _existing(listing: Listing, name: str, flag: str) -> str:
    """The name of a column that is there.

    Raises:
      ConfigError: it is not.
    """
    if name in listing.columns:
        return name
    alike = [column for column in listing.columns if column.lower() == name.lower()]
    close = alike or difflib.get_close_matches(name, listing.columns, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    there = some_of(list(listing.columns))
    raise ConfigError(f"{flag}={name}: {listing.path} has no such column{hint}; its columns are {there}")


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


def counted(counts: Mapping[str, int]) -> str:
    """Names with their numbers, in one line."""
    return some_of([f"{name} {count:,}" for name, count in sorted(counts.items())], 6)
