"""Sources of data sets: a CSV, a folder, TFDS or the drawn footprints, each read into a `Table`."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fpclass.data import archive
from fpclass.data.copies import add_copies, holds_copies
from fpclass.data.files import ImageIndex, all_files, csv_files, image_files, is_folder, looks_like_image, some_of
from fpclass.data.table import Progress, Table, canonical_label, class_names, class_order, make_rows, merge_classes
from fpclass.errors import ConfigError, DataError
from fpclass.files import cache_dir, expanded

VALIDATION_FOLDERS = ("validation", "val", "valid")
SYNTHETIC_MARK = "SYNTHETIC.txt"
"""A file of this name in the root says that the images were drawn, not taken."""


def load_table(data_config: ConfigDict, progress: Progress | None = None) -> Table:
    """Lists the images of a data set with what its source says about them; opens and quarantines none.

    Raises:
      ConfigError: a key of the section makes no sense.
      DataError: the data set is not as the section says.
    """
    if data_config.source not in SOURCES:
        raise ConfigError(f"data.source = {data_config.source!r}: expected one of {', '.join(SOURCES)}")
    # Names are those of the merged classes.
    data: Any = data_config
    config = ConfigDict({**data, "class_names": ()}) if data.merge else data
    try:
        table = SOURCES[data_config.source](config, progress)
    except OSError as error:
        raise DataError(f"{error.filename or data_config.root}: cannot be read ({error.strerror})") from error
    if data.group_pattern and table.has_names:
        table = table.with_columns(group=groups_of(table.rows["filename"].tolist(), data))
    elif data.group_pattern:
        nobody = f"grouped by nothing: {table.source} has no file names, in which data.group_pattern finds people"
        table = dataclasses.replace(table, notes=(f"{nobody}; only copies stay together",))
    if data.copies:
        table = add_copies(table, Path(data.copies).expanduser(), FileReader)
    if not data.merge:
        return table
    merged = merge_classes(table, data.merge)
    return dataclasses.replace(merged, class_names=class_names(data.class_names, merged.classes))


def groups_of(filenames: Sequence[str], data_config: Any) -> list[str]:
    """The person of each image by its name below the root: what the first group of `data.group_pattern` finds in it.

    Raises:
      ConfigError: no regular expression with a group, a column as well, or a name in which it finds nothing.
    """
    pattern = data_config.group_pattern
    if data_config.group_column:
        raise ConfigError(
            f"data.group_pattern = {pattern!r} and data.group_column = {data_config.group_column!r}: give one of them"
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.group_pattern = {pattern!r}: no regular expression ({error})") from None
    if not expression.groups:
        raise ConfigError(f"data.group_pattern = {pattern!r}: expected (…) around what names the person")
    matches = [expression.search(name) for name in filenames]
    missed = [name for name, match in zip(filenames, matches, strict=True) if not (match and match[1])]
    if missed:
        raise ConfigError(
            f"data.group_pattern = {pattern!r} finds nothing in {len(missed)} of {len(filenames)} names, first "
            f"{missed[0]!r}; mend the pattern"
        )
    return [match[1] for match in matches if match]


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Reads the encoded bytes of the row at a position; worker processes can unpickle it."""

    paths: tuple[str, ...]

    def __call__(self, position: int) -> bytes:
        """Raises OSError where there is no file, or none that can be read."""
        if not self.paths[position]:
            raise FileNotFoundError("missing file")
        return Path(self.paths[position]).read_bytes()


# --- csv ------------------------------------------------------------------------------------------


def _load_csv(data: Any, _: Progress | None) -> Table:
    """A CSV with one row per image; an empty label cell is a row to predict."""
    root = _root_folder(data)
    path = _csv_path(root, data.csv)
    base = root / data.image_dir
    if not base.is_dir():
        raise DataError(f"data.image_dir: no folder {base}; give a folder below {root}, or leave it empty")
    keys = ["filename_column", "label_column"] + ["group_column"] * bool(data.group_column)
    lines, (filename, label, *group) = _read_columns(path, {f"data.{key}": data[key] for key in keys})
    _check_filenames(path, lines, filename, data.filename_column)
    groups = [canonical_label(value) for value in group[0]] if group else None
    if groups and not any(groups):
        raise DataError(f"{path}: column {data.group_column!r} (data.group_column) is empty in every row")

    index = ImageIndex(root, base)
    files = [index.find(name, f"{path} line {line}") for name, line in zip(filename, lines, strict=True)]
    raw_label = [canonical_label(value) for value in label]
    classes = class_order(data.classes, raw_label)
    paths = [str(root.absolute() / name) if name else "" for name in files]
    is_synthetic = (root / SYNTHETIC_MARK).exists()
    return Table(
        rows=make_rows(filename, paths, raw_label, classes, group=groups),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=FileReader(tuple(paths)),
        source=f"{'SYNTHETIC ' * is_synthetic}csv {path}{_origin(data)}",
        is_synthetic=is_synthetic,
        unlisted=tuple(sorted(set(index.images) - set(files))),
    )


def _csv_path(root: Path, name: str) -> Path:
    """The CSV of the config, or the only one in the root."""
    there = [path.name for path in csv_files(root)]
    if name:
        if not (root / name).is_file():
            raise DataError(f"data.csv: no file {root / name}; CSV files in {root}: {some_of(there)}")
        return root / name
    if len(there) != 1:
        raise DataError(
            f"{root}: expected one CSV file, met {len(there)} ({some_of(there)}); name it with data.csv, "
            f"or use data.source=folder"
        )
    return root / there[0]


def _read_columns(path: Path, wanted: dict[str, str]) -> tuple[list[int], list[list[str]]]:
    """The line number of each row of a CSV, and the stripped cells of some columns (config key -> name of the column).

    The file is UTF-8, with or without a byte order mark, separated by commas, with a header.

    Raises:
      DataError: the file cannot be read as this, lacks a column or has no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
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
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV that can be read ({error})") from None
    if not lines:
        raise DataError(f"{path}: no rows below the header; expected one row per image")
    return lines, columns


def _column(path: Path, header: list[str], key: str, name: str) -> int:
    """Position of a column in the header, which must have it once."""
    if header.count(name) != 1:
        met = "no column" if name not in header else f"{header.count(name)} columns"
        raise DataError(f"{path}: {met} {name!r} ({key}); the columns are {some_of(header)}")
    return header.index(name)


def _check_filenames(path: Path, lines: list[int], filename: list[str], column: str) -> None:
    first: dict[str, int] = {}
    for line, name in zip(lines, filename, strict=True):
        if not name:
            raise DataError(f"{path} line {line}: empty cell in column {column!r}; every row names its image")
        if name in first:
            raise DataError(f"{path}: {name!r} in lines {first[name]} and {line}; every image needs one row")
        first[name] = line


# --- folder ---------------------------------------------------------------------------------------


def _load_folder(data: Any, _: Progress | None) -> Table:
    """One sub-folder per class, or `train/`, `validation/` and `test/` of such."""
    if data.group_column:
        raise ConfigError(
            f"data.group_column = {data.group_column!r}: folders have no columns; leave it empty, "
            f"or use data.source=csv"
        )
    root = _root_folder(data)
    splits = _split_folders(root)
    rows = [
        (file, canonical_label(class_folder.name), split)
        for split, folder in splits.items()
        for class_folder in _class_folders(folder, is_optional=split == "test")
        for file in _class_images(class_folder)
    ]
    classes = class_order(data.classes, [label for _, label, split in rows if split in ("", "train")])
    if "test" in splits:  # images directly in it have no label: they are to be predicted
        rows += [(file, "", "") for file in image_files(splits["test"]) if file.parent == splits["test"]]
    files, raw_label, split = map(list, zip(*rows, strict=True))
    filename = [file.relative_to(root).as_posix() for file in files]
    paths = [str(file.absolute()) for file in files]
    # A README in the root is no finding; whatever else nobody asked for may be an image that got lost.
    unlisted = [f for f in set(all_files(root)) - set(files) if f.parent != root or looks_like_image(f)]
    return Table(
        rows=make_rows(filename, paths, raw_label, classes, split=split),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=FileReader(tuple(paths)),
        source=f"folder {root}{_origin(data)}",
        unlisted=tuple(sorted(f.relative_to(root).as_posix() for f in unlisted)),
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; {"": root} where the classes stand directly in the root."""
    # A class may be called "train" or "val" (vehicles): only a folder of folders is a split.
    folders = filter(is_folder, root.iterdir())
    has_folders = {folder.name: any(map(is_folder, folder.iterdir())) for folder in folders}
    validation = [name for name in VALIDATION_FOLDERS if has_folders.get(name)]
    if len(validation) > 1:
        raise DataError(f"{root}: {some_of(validation)} are all validation folders; keep one of them")
    if not has_folders.get("train"):
        if validation:
            raise DataError(f"{root}: {validation[0]}/ without train/; expected one folder per class in each")
        return {"": root}
    splits = {"train": root / "train"}
    if validation:
        splits["validation"] = root / validation[0]
    if "test" in has_folders:
        splits["test"] = root / "test"
    return splits


def _class_folders(folder: Path, *, is_optional: bool) -> list[Path]:
    """The sub-folders of a split, one per class, sorted by name."""
    folders = sorted(filter(is_folder, folder.iterdir()))
    if not folders and not is_optional:
        raise DataError(f"{folder}: no sub-folders; expected one per class, with its images in it")
    for value, count in Counter(canonical_label(path.name) for path in folders).items():
        if count > 1:
            raise DataError(f"{folder}: {count} folders mean class {value!r}; put their images into one")
    return folders


def _class_images(folder: Path) -> list[Path]:
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder}: no image in this class folder; fill it or remove it")
    return files


# --- synthetic and tfds ---------------------------------------------------------------------------


def _load_synthetic(data: Any, progress: Progress | None) -> Table:
    """The embedded footprints, drawn into `data.root` or the user cache unless they are there already."""
    from fpclass.data.synthetic.dataset import draw_dataset

    num_images, image_size, seed = data.synthetic.num_images, data.synthetic.image_size, data.synthetic.seed
    height, width = image_size
    folder = cache_dir() / "synthetic" / f"{num_images}x{height}x{width}-seed{seed}"
    root = expanded(data.root) if data.root else folder
    draw_dataset(root, num_images=num_images, image_size=(height, width), seed=seed, progress=progress)
    columns = {"filename_column": "filename", "label_column": "SEX", "group_column": "ID"}
    files = {"root": str(root), "csv": "all_labels.csv", "image_dir": ""}
    table = _load_csv(ConfigDict({**data, **files, **columns}), None)
    source = f"SYNTHETIC footprints, {num_images} of {height} x {width} pixels, seed {seed}, in {root}"
    return dataclasses.replace(table, source=source, is_synthetic=True)


def _load_tfds(data: Any, progress: Progress | None) -> Table:
    from fpclass.data.tfds_source import load_tfds

    if data.root and archive.is_packed(data.root):
        data = ConfigDict({**data, "root": str(archive.open_root(data.root, data.sha256, is_tree=True))})
    return load_tfds(data, progress)


SOURCES: dict[str, Callable[[ConfigDict, Progress | None], Table]] = {
    "csv": _load_csv,
    "folder": _load_folder,
    "tfds": _load_tfds,
    "synthetic": _load_synthetic,
}


# --- shared ---------------------------------------------------------------------------------------


def _root_folder(data: Any) -> Path:
    """The folder of the data set; an archive, or what is at an address, is unpacked into the cache first."""
    if not data.root:
        raise ConfigError("data.root is empty; give the folder of the data set, e.g. --config.data.root=DIR")
    if archive.is_packed(data.root):
        return archive.open_root(data.root, data.sha256)
    root = expanded(data.root)
    if not root.is_dir():
        raise DataError(f"data.root: no folder {root}; give the folder of the data set, or an archive of it")
    if holds_copies(root):
        raise DataError(
            f"data.root: {root} holds augmented copies, which are no data set: give it as --config.data.copies={root} "
            "beside the data.root of their originals"
        )
    if data.sha256:
        raise ConfigError(f"data.sha256 is {data.sha256!r}, but data.root = {root} is a folder; leave one of them out")
    return root


def _origin(data: Any) -> str:
    return f", unpacked from {data.root}" if archive.is_packed(data.root) else ""
