"""What a data set is taken for where nobody said: its source, the columns of its CSV, its colours and sizes."""

from __future__ import annotations

import dataclasses
import difflib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fpclass.common.files import MAX_FILE_MB, expanded, read_bytes
from fpclass.data.decode import MAX_PIXELS, open_picture
from fpclass.data.files import ImageIndex, csv_files, image_files, looks_like_image, some_of
from fpclass.data.sources import archive
from fpclass.data.sources.columns import read_all_columns
from fpclass.data.sources.folders import TEST, TRAIN, ClassFolder, read_layout, split_of
from fpclass.errors import ConfigError, DataError, DecodeError

NUM_GLANCES = 48
"""So many images are opened to see how large and how colourful all of them are."""
COLOUR = 5.0
"""Levels of 255 by which the channels of a coloured picture's pixels differ, on average: grey ones that were saved as
JPEG in colours have up to 2, photographs of cats and dogs 7 to 118."""
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
class Recognised:
    """A data set at a glance.

    Attributes:
      keys: what was worked out, by key of the config's section `data`, e.g. {"source": "csv", "label_column": "SEX"}.
      found: one line: what is there.
      notes: what a person may want to say otherwise, one line each.
      image_size: (height, width) in pixels, medians of a sample.
      is_colour: whether a part of the sample is coloured.
      num_labelled: images with a label that may be learnt from: of the classes that are wanted, and not of a test set.
      num_to_predict: images that have none.
    """

    keys: dict[str, Any]
    found: str
    notes: tuple[str, ...]
    image_size: tuple[int, int]
    is_colour: bool
    num_labelled: int
    num_to_predict: int


def recognise(data: Any, given: Collection[str]) -> Recognised:
    """Finds out what the folder `data.root`, or the archive, holds.

    Args:
      data: the section `data` of a config.
      given: those of its keys that the user has set, which stay as they are, such as "source" or "label_column". A
        column that only the config names is taken where it is there.

    Raises:
      DataError: nothing is there, nothing says what the images are, or several things could.
      ConfigError: several columns could be the label or the person; the message names them.
    """
    folder, is_folder = _folder_of(data), "source" in given and data.source == "folder"
    listing = None if is_folder else _listing(folder, data, given)
    if listing:
        keys, found, notes = _of_listing(listing, data, given)
        num_to_predict = listing.columns[keys["label_column"]].count("")
        files = [folder / name for name in listing.files if name]
        labels = zip(listing.columns[keys["label_column"]], listing.files, strict=True)
        num_labelled = sum(bool(label and name) and _is_wanted(label, data) for label, name in labels)
    else:
        if not is_folder and (named := {"label_column", "group_column"} & set(given)):
            column = data[min(named)]
            raise ConfigError(f"{data.root}: no CSV that names images, so that {column!r} is no column; leave it out")
        keys, found, classes, num_to_predict = _of_folders(folder, data, is_given=is_folder)
        notes, files = (), [file for of_class in classes for file in of_class.images]
        to_learn = [each for each in classes if each.split != TEST and _is_wanted(each.name, data)]
        num_labelled = sum(len(of_class.images) for of_class in to_learn)
    image_size, is_colour = glance(files)
    height, width = image_size
    colour = "colour" if is_colour else "grey"
    line = f"{data.root}: {found}; {colour}, median {height} x {width} pixels"
    return Recognised(keys, line, notes, image_size, is_colour, num_labelled, num_to_predict)


def glance(files: Sequence[Path]) -> tuple[tuple[int, int], bool]:
    """Median (height, width) in pixels of a sample of image files, and whether there is colour in some of them.

    Raises:
      DataError: none of the sample can be opened.
    """
    rows = np.unique(np.linspace(0, len(files) - 1, NUM_GLANCES).astype(int)) if files else []
    sizes, colours = [], []
    for row in rows:
        try:
            size, is_colour = glance_at(read_bytes(files[row], MAX_FILE_MB))
        except (OSError, DecodeError, ValueError, Image.DecompressionBombError):
            continue  # the audit says what is wrong with it
        sizes.append(size)
        colours.append(is_colour)
    if not sizes:
        raise DataError(
            f"{files[0].parent if files else 'data'}: none of {len(rows)} images that were tried can be opened"
        )
    height, width = np.median(np.array(sizes), axis=0)
    return (int(height), int(width)), float(np.mean(colours)) > 0.05


def glance_at(data: bytes) -> tuple[tuple[int, int], bool]:
    """(height, width) in pixels of an image in a file, and whether it is coloured: see `COLOUR`.

    Raises:
      DecodeError, OSError: it cannot be opened.
    """
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DecodeError("too large")
        if image.format == "JPEG" and image.mode == "RGB":  # a JPEG is opened at an eighth of its size in no time
            image.draft("RGB", (64, 64))
            picture = image
        else:
            picture = open_picture(data)[0]
        if picture.mode != "RGB":
            return (height, width), False
        pixels = np.asarray(picture.resize((64, 64)), np.int16)
    return (height, width), bool(np.ptp(pixels, axis=-1).mean() > COLOUR)


def _folder_of(data: Any) -> Path:
    """The folder of a data set, unpacked where it is an archive."""
    if archive.is_packed(data.root):
        return archive.open_root(data.root, data.sha256)
    folder = expanded(data.root)
    if not folder.is_dir():
        there = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        close = difflib.get_close_matches(folder.name, there, n=1, cutoff=0.6)
        hint = f"; did you mean {folder.parent / close[0]}?" if close else ""
        raise DataError(f"{data.root}: no such folder or archive{hint}")
    return folder


def _is_wanted(label: str, data: Any) -> bool:
    return not data.classes or label in data.classes


# --- a folder per class ---------------------------------------------------------------------------


def _of_folders(folder: Path, data: Any, *, is_given: bool) -> tuple[dict[str, Any], str, tuple[ClassFolder, ...], int]:
    """Keys, what was found, the folders of classes, and the number of images to predict."""
    named = (*data.classes, *(member for _, members in data.merge for member in members))
    try:
        layout = read_layout(folder, named)
    except DataError:
        _explain_no_classes(folder, is_given=is_given)
        raise
    splits: dict[str, Counter[str]] = {}
    for of_class in layout.classes:
        splits.setdefault(of_class.split, Counter())[of_class.name] += len(of_class.images)
    found = "; ".join(
        f"{sum(counts.values()):,} images{f' to {split}' if split else ''} in folders of {len(counts)} "
        f"{'class' if len(counts) == 1 else 'classes'} ({_counted(counts)})"
        for split, counts in splits.items()
    )
    if layout.to_predict:
        found += f"; {len(layout.to_predict):,} to predict"
    return {"source": "folder"}, found, layout.classes, len(layout.to_predict)


def _explain_no_classes(folder: Path, *, is_given: bool) -> None:
    """Says of a folder without classes what it has instead, where that is plain.

    Raises:
      DataError: it has no images, or images and nothing that says what they are.
    """
    images = image_files(folder)
    if not images:
        raise DataError(f"{folder}: no images in it, at any depth") from None
    if not is_given and all(path.parent == folder for path in images):
        tables = csv_files(folder)
        there = f"none of {some_of([path.name for path in tables])} names them" if tables else "no CSV names them"
        raise DataError(
            f"{folder}: {len(images)} images, and nothing that says of which class they are: {there}; expected a "
            "folder per class, or a CSV with a line per image"
        ) from None


def _counted(counts: Mapping[str, int]) -> str:
    return some_of([f"{name} {count:,}" for name, count in sorted(counts.items())], 6)


# --- a CSV ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Listing:
    """A CSV whose rows name images: its columns, the one with the names, and the file of each row ("" for none)."""

    path: Path
    columns: dict[str, list[str]]
    filename: str
    files: list[str]


def _listing(folder: Path, data: Any, given: Collection[str]) -> _Listing | None:
    """The CSV of a folder that names its images and may have their labels; None where there is none.

    Raises:
      DataError: several do.
    """
    paths = [folder / data.csv] if data.csv else csv_files(folder)
    base = folder / data.image_dir
    index = ImageIndex(folder, base) if paths and base.is_dir() else None
    listings = []
    for path in paths:
        if index is None:
            break
        try:
            columns = read_all_columns(path, data.max_file_mb, data.separator)
        except (DataError, OSError):
            if data.csv:
                raise
            continue  # something else that lies there
        name = data.filename_column if "filename_column" in given else _filename_column(columns, index, data)
        if name in columns:
            columns = {key: ["" if cell in data.missing else cell for cell in columns[key]] for key in columns}
            listings.append(_Listing(path, columns, name, [_found(index, cell) for cell in columns[name]]))
    with_label = [listing for listing in listings if _label_candidates(listing, data, given)]
    if len(with_label) > 1:
        names = some_of([listing.path.name for listing in with_label])
        raise DataError(f"{folder}: {names} all name images and may have the labels; say which: --config.data.csv=NAME")
    if not with_label and "source" in given:
        there = some_of([path.name for path in paths])
        advice = "name them by --config.data.filename_column=NAME --label=NAME"
        raise DataError(f"{folder}: no CSV ({there}) with a column that names images and one of classes; {advice}")
    return with_label[0] if with_label else None


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


def _label_candidates(listing: _Listing, data: Any, given: Collection[str]) -> dict[str, int]:
    """Columns that could be the label, with the number of their values; those that are called like one, if any are."""
    if "label_column" in given or data.label_column in listing.columns:
        return {data.label_column: 0}
    counts = _could_be_label(listing, data, given)
    called = {name: count for name, count in counts.items() if _words(name) & _LABEL}
    rest = {name: count for name, count in counts.items() if not _words(name) & _GROUP}
    return called or rest or counts


def _could_be_label(listing: _Listing, data: Any, given: Collection[str]) -> dict[str, int]:
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


def _repeated(listing: _Listing) -> Iterator[tuple[str, int, int]]:
    """Columns, but that of the files, with several values of which some repeat: name, number of values and of cells."""
    for name, cells in listing.columns.items():
        num_values, num_cells = len(set(cells) - {""}), sum(map(bool, cells))
        if name != listing.filename and 2 <= num_values < num_cells:
            yield name, num_values, num_cells


def _of_listing(listing: _Listing, data: Any, given: Collection[str]) -> tuple[dict[str, Any], str, tuple[str, ...]]:
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
    parts.append(f"label {label!r} ({_counted(classes)})")
    if group:
        parts.append(f"group {group!r} ({len(set(columns[group]) - {''}):,})")
    if "" in columns[label]:
        parts.append(f"{columns[label].count(''):,} to predict")
    if "" in listing.files:
        parts.append(f"{listing.files.count(''):,} without an image")
    return keys, ", ".join(parts), notes


def _label_column(listing: _Listing, data: Any, given: Collection[str]) -> str:
    if "label_column" in given or data.label_column in listing.columns:
        return _existing(listing, data.label_column, "--label")
    candidates = _label_candidates(listing, data, given)
    if len(candidates) > 1:
        met = ", ".join(f"{name} ({count} values)" for name, count in candidates.items())
        raise ConfigError(f"{listing.path}: the label could be {met}; say which: --label=NAME")
    return next(iter(candidates))


def _group_column(listing: _Listing, label: str, data: Any, given: Collection[str]) -> tuple[str, tuple[str, ...]]:
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


def _existing(listing: _Listing, name: str, flag: str) -> str:
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
