"""Conversion of a folder of images to PNGs or JPEGs of one size and mode; the originals stay as they are."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from PIL import Image

from fpclass.common import files
from fpclass.common.threads import in_threads
from fpclass.data.decode import MAX_PIXELS, open_picture
from fpclass.data.files import ImageIndex, csv_files, image_files, some_of
from fpclass.data.resize import Decoding, resize_picture
from fpclass.data.sources import SYNTHETIC_MARK
from fpclass.data.table import Progress
from fpclass.errors import DataError, DecodeError, RunError

SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
CHANNELS = {"grey": 1, "rgb": 3}
MAX_JPEG_PX = 65_500
"""Longest side that libjpeg writes."""
SETTINGS = "convert.json"
REPORT = ".convert.csv"
"""Table of the files. Hidden: `data.source=csv` takes the only CSV that it sees for that of the labels."""


@dataclass(frozen=True)
class Conversion:
    """Settings of a conversion; `resize` and `interpolation` are those of `fpclass.data.resize`.

    Attributes:
      format: one of `SUFFIXES`.
      mode: one of `CHANNELS`.
      image_size: (height, width) in pixels, or None to leave each image at its own.
      pad_value: grey level, 0 to 255, of what "pad" fills.
      quality: of JPEG, 1 to 100.
    """

    format: str
    mode: str
    image_size: tuple[int, int] | None = None
    resize: str = "stretch"
    interpolation: str = "bicubic"
    pad_value: int = 255
    quality: int = 95


def convert_folder(
    folder: Path, output: Path, conversion: Conversion, progress: Progress
) -> tuple[pd.DataFrame, list[str]]:
    """Converts every image below a folder; goes on where it broke off. Colour profiles and EXIF are left behind.

    The output gets the same folders. It is new, empty, or of an earlier start with the same settings.

    Returns:
      The report, also in the output as `REPORT`, a row per file: filename, output ("" if it could not be read),
      num_bytes, output_bytes, note (what was done to it that its owner may not expect), is_new (False: it was there
      already), error. And notes on the copies of the CSV files.

    Raises:
      DataError: no images, folders inside one another, or a size that could not be read again.
      RunError: the output holds something else, or cannot be written.
    """
    check_apart(folder, output)
    if conversion.image_size and math.prod(conversion.image_size) > MAX_PIXELS:
        height, width = conversion.image_size
        raise DataError(
            f"--size {height} {width}: expected {MAX_PIXELS:,} pixels at most, as many as can be read again"
        )
    sources = [file.relative_to(folder).as_posix() for file in image_files(folder)]
    if not sources:
        raise DataError(f"{folder}: no images in it; give a folder with image files at any depth")
    _claim(output, conversion)
    names = output_names(sources, SUFFIXES[conversion.format])
    convert = functools.partial(_convert_file, folder, output, conversion)
    with contextlib.closing(in_threads(lambda row: convert(sources[row], names[sources[row]]), len(sources))) as rows:
        report = pd.DataFrame(list(progress(rows, len(sources))))
    notes = copy_companions(folder, output, names)
    left = sorted({file.relative_to(output).as_posix() for file in image_files(output)} - set(names.values()))
    if left:
        notes.append(f"{len(left)} images in {output} are of no file in {folder}: {some_of(left, 4)}; delete them")
    files.write_csv(output / REPORT, report.drop(columns="is_new"))
    return report, notes


def output_names(sources: Iterable[str], suffix: str) -> dict[str, str]:
    """The name of each image after conversion: another extension; where two would be the same, it is put behind.

    No two names are the same, also where case makes no difference (unless it makes the only one between two sources).
    """
    names = {source: str(PurePosixPath(source).with_suffix(suffix)) for source in sources}
    while True:  # again, because 1.jpg.png may be the name of another one already
        times = Counter(name.casefold() for name in names.values())
        behind = {source: source + suffix for source, name in names.items() if times[name.casefold()] > 1}
        if behind.items() <= names.items():
            return names
        names |= behind


def copy_companions(folder: Path, output: Path, names: Mapping[str, str | None]) -> list[str]:
    """Copies the CSV files of a data set and the mark of drawn images; gives notes on the copies."""
    if (folder / SYNTHETIC_MARK).exists():  # what was drawn stays marked as such
        shutil.copyfile(folder / SYNTHETIC_MARK, output / SYNTHETIC_MARK)
    notes = [copy_csv(path, output / path.name, folder, names) for path in csv_files(folder)]
    return [note for note in notes if note]


def copy_csv(path: Path, target: Path, root: Path, names: Mapping[str, str | None]) -> str:
    """Copies a CSV of a data set so that it names the images of the new folder; gives a note on the copy, or "".

    The column that names images is the one in which most cells do; a CSV without one is copied as it is. `names` has
    the new path of each image by that below `root` (POSIX paths), or None to leave the row out.

    Raises:
      DataError: not a CSV that can be read.
    """
    try:
        text = io.StringIO(files.read_text(path, "utf-8-sig"), newline="")
        header, *lines = list(csv.reader(text, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a CSV in UTF-8 ({error}); mend it, or move it elsewhere") from None
    find = _make_find(root)
    named = [[find(line[k].strip()) if k < len(line) else "" for line in lines] for k in range(len(header))]
    numbers = [sum(map(bool, column)) for column in named]
    column = numbers.index(max(numbers)) if any(numbers) else -1
    with files.replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row, line in enumerate(lines):
            source = named[column][row] if column >= 0 else ""
            name = names.get(source, "")
            if name:
                line[column] = _renamed(line[column], source, name)
            if name is not None:
                writer.writerow(line)
    if column < 0:
        return f"{path.name}: no column names images; copied as it is"
    num_unknown = len(lines) - numbers[column]
    return f"{path.name}: {num_unknown} cells name no image, or several; left as they are" if num_unknown else ""


def check_apart(folder: Path, output: Path) -> None:
    """Makes sure that what is written is not among what is read.

    Raises:
      DataError: `folder` is none, or one of the two is inside the other.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one with images")
    source, target = (Path(os.path.realpath(path)) for path in (folder, output))  # also of a circle of links
    if source == target or source in target.parents or target in source.parents:
        raise DataError(f"{output}: is, holds or is inside {folder}; write to a folder beside it")


def report_text(report: Any, notes: Iterable[str], folder: Path, output: Path) -> str:
    """Summary of a conversion for the terminal."""
    broken = report[report["error"] != ""]
    done = report[report["error"] == ""]
    num_new = int(done["is_new"].sum())
    sizes = f"{done['num_bytes'].sum() / 1e6:.1f} MB became {done['output_bytes'].sum() / 1e6:.1f} MB"
    lines = [
        f"{len(report)} files in {folder}: {num_new} converted, {len(done) - num_new} were there already, "
        f"{len(broken)} cannot be read; {sizes}",
        *(f"  {count} x {note}" for note, count in Counter(done.loc[done["note"] != "", "note"]).most_common(8)),
    ]
    if len(broken):
        named = [f"{name} ({error})" for name, error in zip(broken["filename"], broken["error"], strict=True)]
        lines.append(f"left out: {some_of(named)}")
    return "\n".join([*lines, *notes, f"written: {output}; {output / REPORT} lists every file"])


def _claim(output: Path, conversion: Conversion) -> None:
    """Begins the output folder, or makes sure that it was begun with the same settings.

    Raises:
      RunError: it was not, or holds something else.
    """
    settings = asdict(conversion) | {"image_size": list(conversion.image_size) if conversion.image_size else None}
    path = output / SETTINGS
    if path.is_file():
        files.sweep(output)
        before = files.read_json(path)
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            was, now = ({key: values.get(key) for key in changed} for values in (before, settings))
            raise RunError(f"{output}: begun with {was}, not with {now}; give the same, or another folder")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output}: is not empty and not of an earlier conversion; give a new folder")
    else:
        files.write_json(path, settings)


def _convert_file(folder: Path, output: Path, conversion: Conversion, source: str, name: str) -> dict[str, Any]:
    """Converts one file, unless that is done already; gives its row of the report."""
    path, target = folder / source, output / name
    row: dict[str, Any] = {
        "filename": source,
        "output": name,
        "num_bytes": 0,
        "output_bytes": 0,
        "note": "",
        "is_new": True,
    }
    try:
        status = path.stat()
        row["num_bytes"] = status.st_size
        # An output is whole or not there, and has the time of its original.
        if target.is_file() and target.stat().st_mtime_ns == status.st_mtime_ns:
            return row | {"output_bytes": target.stat().st_size, "is_new": False, "error": ""}
        picture, facts = open_picture(files.read_bytes(path))
        if conversion.format == "jpeg" and max(conversion.image_size or picture.size) > MAX_JPEG_PX:
            raise DecodeError(f"{picture.width} x {picture.height} pixels, more than a JPEG can have")
    except (DecodeError, OSError) as error:
        why = error if isinstance(error, DecodeError) else f"cannot be read: {error.strerror or error}"
        target.unlink(missing_ok=True)  # of an earlier start, when it could be read
        return row | {"output": "", "error": str(why)}
    image = _converted(picture, conversion)
    with files.replacing(target) as temporary:
        # Full resolution of the colours, too: these images are to be learnt from.
        options = {"quality": conversion.quality, "subsampling": 0} if conversion.format == "jpeg" else {}
        image.save(temporary, conversion.format.upper(), **options)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    return row | {"note": facts["note"], "output_bytes": target.stat().st_size, "error": ""}


def _converted(picture: Image.Image, conversion: Conversion) -> Image.Image:
    channels = CHANNELS[conversion.mode]
    if conversion.image_size is None:
        return picture.convert({1: "L", 3: "RGB"}[channels])
    how = (conversion.interpolation, conversion.resize, conversion.pad_value)
    pixels, _ = resize_picture(picture, Decoding(conversion.image_size, channels, *how))
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def _make_find(root: Path) -> Callable[[str], str]:
    """A function that gives the image that a cell means, or "" if it means none, or several."""
    index = ImageIndex(root, root)
    # Paths may start in any folder: which one is data.image_dir is not known here.
    by_end: dict[str, set[str]] = {}
    for image in index.images:
        parts = PurePosixPath(image).parts
        for start in range(1, len(parts) - 1):
            end = PurePosixPath(*parts[start:])
            for name in (end, end.with_suffix("")):
                by_end.setdefault(str(name), set()).add(image)

    def find(cell: str) -> str:
        try:
            image = index.find(cell, "") if cell else ""
        except DataError:
            return ""
        ends = by_end.get(cell.replace("\\", "/"), set())
        return image or (min(ends) if len(ends) == 1 else "")

    return find


def _renamed(cell: str, source: str, name: str) -> str:
    """The cell for `name`, with or without folders and extension as the cell for `source` was."""
    cell, new = cell.strip(), PurePosixPath(name)
    old = PurePosixPath(cell.replace("\\", "/"))
    has_suffix = old.name.endswith(PurePosixPath(source).suffix)
    return str(old.with_name(new.name if has_suffix else new.stem))
