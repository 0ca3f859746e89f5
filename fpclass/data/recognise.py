"""What a data set is taken for where nobody said: its source, the columns of its CSV, its colours and sizes."""

from __future__ import annotations

import dataclasses
import difflib
import io
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fpclass.common.files import MAX_FILE_MB, expanded, read_bytes
from fpclass.data.decode import MAX_PIXELS, open_picture
from fpclass.data.files import csv_files, image_files, some_of
from fpclass.data.listing import counted, find_listing, of_listing
from fpclass.data.sources import archive
from fpclass.data.sources.folders import TEST, ClassFolder, read_layout
from fpclass.errors import ConfigError, DataError, DecodeError

NUM_GLANCES = 48
"""So many images are opened to see how large and how colourful all of them are."""
COLOUR = 5.0
"""Levels of 255 by which the channels of a coloured picture's pixels differ, on average: grey ones that were saved as
JPEG in colours have up to 2, photographs of cats and dogs 7 to 118."""


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
    listing, wrong = (None, ()) if is_folder else find_listing(folder, data, given)
    if listing:
        keys, found, notes = of_listing(listing, data, given)
        num_to_predict = listing.columns[keys["label_column"]].count("")
        files = [folder / name for name in listing.files if name]
        labels = zip(listing.columns[keys["label_column"]], listing.files, strict=True)
        num_labelled = sum(bool(label and name) and _is_wanted(label, data) for label, name in labels)
    else:
        keys, found, classes, num_to_predict = _instead_of(wrong, folder, data, given, is_given=is_folder)
        notes = tuple(f"left aside, as folders have the classes: {line}" for line in wrong)
        if "group_column" in given:
            notes = (*notes, "folders of classes have no column that names people, as asked")
        files = [file for of_class in classes for file in of_class.images]
        to_learn = [each for each in classes if each.split != TEST and _is_wanted(each.name, data)]
        num_labelled = sum(len(of_class.images) for of_class in to_learn)
    image_size, is_colour = glance(files)
    height, width = image_size
    colour = "colour" if is_colour else "grey"
    of_some = f" (of a sample of {NUM_GLANCES})" if len(files) > NUM_GLANCES else ""
    line = f"{data.root}: {found}; {colour}, median {height} x {width} pixels{of_some}"
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


def _instead_of(
    wrong: Sequence[str], folder: Path, data: Any, given: Collection[str], *, is_given: bool
) -> tuple[dict[str, Any], str, tuple[ClassFolder, ...], int]:
    """`_of_folders` where no CSV can be used; `wrong` are the reasons why those that are there cannot.

    Raises:
      DataError, ConfigError: the CSV was meant, as there are no folders of several classes, or a column is given.
    """
    named = [data[key] for key in ("group_column", "label_column") if key in given and data[key]]
    why = DataError(f"{wrong[0]}; mend it, or give a folder per class") if wrong else None
    if named and not is_given:
        raise why or ConfigError(
            f"{data.root}: no CSV that names images, so that {named[0]!r} is no column; leave it out"
        )
    try:
        found = _of_folders(folder, data, is_given=is_given)
    except DataError as error:
        raise why or error from None
    if why and len({of_class.name for of_class in found[2]}) < 2:
        raise why
    return found


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
        f"{'class' if len(counts) == 1 else 'classes'} ({counted(counts)})"
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
