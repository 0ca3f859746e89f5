"""Sources of data sets: a CSV, a folder, TFDS, the drawn footprints or the user's own, each read into a `Table`.

`folders` says which folders are classes and which splits, `archive` unpacks what `data.root` may be besides a folder,
`columns` reads those of a CSV, `copies` adds saved augmented images, `excluded` leaves out those that a person's list
names, `tfds` reads TensorFlow Datasets, `own` asks a function of the user's. From elsewhere: `load_table`, `FileReader`
and the lists of `excluded`.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fpclass.common.extension import EXPECTED, bare, is_own
from fpclass.common.files import MAX_FILE_MB, cache_dir, expanded, read_bytes
from fpclass.data.files import ImageIndex, all_files, csv_files, is_text, looks_like_image, some_of
from fpclass.data.sources import archive
from fpclass.data.sources.columns import LIMIT_KEY, read_columns, subgroup_columns
from fpclass.data.sources.copies import add_copies, holds_copies
from fpclass.data.sources.excluded import leave_out
from fpclass.data.sources.folders import TRAIN, read_layout
from fpclass.data.sources.own import list_images
from fpclass.data.table import (
    COLUMN,
    WARNING,
    Finding,
    Progress,
    Table,
    canonical_label,
    class_names,
    class_order,
    make_rows,
    merge_classes,
    one_spelling,
)
from fpclass.errors import ConfigError, DataError

SYNTHETIC_MARK = "SYNTHETIC.txt"
"""A file of this name in the root says that the images were drawn, not taken."""


def load_table(data_config: ConfigDict, progress: Progress | None = None, subgroups: Sequence[str] = ()) -> Table:
    """Lists the images of a data set with what its source says about them; opens and quarantines none.

    Args:
      subgroups: columns of the source that are kept, as `COLUMN` + their names, for `evaluate.subgroups`; those of
        `MEASURED` are of the images themselves, and are there after the audit.

    Raises:
      ConfigError: a key of the section makes no sense.
      DataError: the data set is not as the section says.
    """
    load = _load_own if is_own(data_config.source) else SOURCES.get(str(data_config.source))
    if load is None:
        raise ConfigError(f"data.source = {data_config.source!r}: expected one of {', '.join(SOURCES)}, {EXPECTED}")
    # Names are those of the merged classes.
    data: Any = data_config
    config = ConfigDict({**data, "class_names": ()}) if data.merge else data
    try:
        table = load(config, progress)
        table = table.with_columns(**subgroup_columns(table, data, subgroups)) if subgroups else table
        table = table.without_columns({COLUMN + name for name in subgroups})
    except OSError as error:
        raise DataError(f"{error.filename or data_config.root}: cannot be read ({error.strerror})") from error
    if data_config.source not in ("tfds", "synthetic"):  # these know their classes
        _check_case(table, data)
    if data.group_pattern and table.has_names:
        table = table.with_columns(group=groups_of(table.rows["filename"].tolist(), data))
    elif data.group_pattern:
        nobody = f"grouped by nothing: {table.source} has no file names, in which data.group_pattern finds people"
        table = dataclasses.replace(table, notes=(f"{nobody}; only copies stay together",))
    if data.copies:
        table = add_copies(table, expanded(data.copies), lambda paths: FileReader(paths, data.max_file_mb))
    if data.exclude:
        table = leave_out(table, expanded(data.exclude), data.max_file_mb)
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
    max_file_mb: float = MAX_FILE_MB

    def __call__(self, position: int) -> bytes:
        """Raises OSError where there is no file, or none that can be read."""
        if not self.paths[position]:
            raise FileNotFoundError("missing file")
        return read_bytes(self.paths[position], self.max_file_mb, LIMIT_KEY)


# --- csv ------------------------------------------------------------------------------------------


def _load_csv(data: Any, _: Progress | None) -> Table:
    """A CSV with one row per image; an empty label cell is a row to predict."""
    root = _root_folder(data)
    path = _csv_path(root, data.csv)
    base = root / data.image_dir
    if not base.is_dir():
        raise DataError(f"data.image_dir: no folder {base}; give a folder below {root}, or leave it empty")
    keys = ["filename_column", "label_column"] + ["group_column"] * bool(data.group_column)
    lines, (filename, label, *group) = read_columns(
        path, {f"data.{key}": data[key] for key in keys}, data.max_file_mb, data.separator
    )
    _check_filenames(path, lines, filename, data.filename_column)
    label, findings = _without_missing(filename, label, data, "label_column", _named_classes(data))
    groups = None
    if group:
        cells, more = _without_missing(filename, group[0], data, "group_column")
        groups, findings = [canonical_label(value) for value in cells], findings + more
    if groups and not any(groups):
        raise DataError(f"{path}: column {data.group_column!r} (data.group_column) is empty in every row")

    index = ImageIndex(root, base)
    files = [index.find(name, f"{path} line {line}") for name, line in zip(filename, lines, strict=True)]
    raw_label, several = one_spelling(label)
    classes = class_order(data.classes, raw_label)
    paths = [str(root.absolute() / name) if name else "" for name in files]
    is_synthetic = (root / SYNTHETIC_MARK).exists()
    return Table(
        rows=make_rows(filename, paths, raw_label, classes, group=groups),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=FileReader(tuple(paths), data.max_file_mb),
        source=f"{'SYNTHETIC ' * is_synthetic}csv {path}{_origin(data)}",
        is_synthetic=is_synthetic,
        listed_in=path,
        unlisted=tuple(sorted(set(index.images) - set(files))),
        findings=findings + _spelling_findings(filename, raw_label, several),
    )


def _without_missing(
    filename: list[str], cells: list[str], data: Any, column: str, named: Sequence[object] = ()
) -> tuple[list[str], tuple[Finding, ...]]:
    """The cells of a column, "" for what stands for an empty one; and a finding that counts those.

    `named` are classes that the config names: they are none of those, also in Namibia, whose code is NA.
    """
    missing = {canonical_label(value) for value in data.missing} - {canonical_label(value) for value in named} - {""}
    are_missing = [canonical_label(cell) in missing for cell in cells]
    if not any(are_missing):
        return cells, ()
    counts = Counter(cell for cell, is_missing in zip(cells, are_missing, strict=True) if is_missing)
    met = some_of([f"{count} x {cell!r}" for cell, count in counts.most_common()])
    blank = f" (and {cells.count('')} cells are blank)" if "" in cells else ""
    follows = "no person"
    if column == "label_column":
        follows = "to be predicted; if one is a class, name all classes in data.classes"
    reason = f"{met} in column {data[column]!r} taken for empty cells by data.missing{blank}: {follows}"
    files = tuple(name for name, is_missing in zip(filename, are_missing, strict=True) if is_missing)
    kept = ["" if is_missing else cell for cell, is_missing in zip(cells, are_missing, strict=True)]
    kind = "missing_label" if column == "label_column" else "missing_group"
    return kept, (Finding(kind, WARNING, files, reason),)


def _csv_path(root: Path, name: str) -> Path:
    """The CSV of the config, or the only one in the root."""
    there = [path.name for path in csv_files(root)]
    if name:
        if not (root / name).exists():
            raise DataError(f"data.csv: no file {root / name}; CSV files in {root}: {some_of(there)}")
        return root / name
    if len(there) != 1:
        raise DataError(
            f"{root}: expected one CSV file, met {len(there)} ({some_of(there)}); name it with data.csv, "
            f"or use data.source=folder"
        )
    return root / there[0]


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
    """One sub-folder per class, perhaps in folders of splits: see `fpclass.data.sources.folders`."""
    if data.group_column:
        raise ConfigError(
            f"data.group_column = {data.group_column!r}: folders have no columns; leave it empty, "
            f"or use data.source=csv"
        )
    root = _root_folder(data)
    layout = read_layout(root, _named_classes(data))
    rows = [(file, folder.name, folder.split) for folder in layout.classes for file in folder.images]
    # Images directly in the folder of the test split have no label: they are to be predicted.
    files, names, split = map(list, zip(*rows, *((file, "", "") for file in layout.to_predict), strict=True))
    raw_label, several = one_spelling(names)
    learnt = [label for label, of in zip(raw_label, split, strict=True) if of in ("", TRAIN)]
    classes = class_order(data.classes, learnt)
    filename = [file.relative_to(root).as_posix() for file in files]
    paths = [str(file.absolute()) for file in files]
    # A README in the root is no finding; whatever else nobody asked for may be an image that got lost.
    unlisted = [f for f in set(all_files(root)) - set(files) if f.parent != root or looks_like_image(f)]
    return Table(
        rows=make_rows(filename, paths, raw_label, classes, split=split),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=FileReader(tuple(paths), data.max_file_mb),
        source=f"folder {layout.top}{_origin(data)}",
        unlisted=tuple(sorted(f.relative_to(root).as_posix() for f in unlisted)),
        findings=_spelling_findings(filename, raw_label, several),
    )


# --- the user's own -------------------------------------------------------------------------------


def _load_own(data: Any, _: Progress | None) -> Table:
    """What a function of the user's lists: see `fpclass.data.sources.own`."""
    listed = list_images(data.source, _root_folder(data) if data.root else None)
    raw_label, several = one_spelling(listed.label)
    learnt = [label for label, of in zip(raw_label, listed.split, strict=True) if of in ("", TRAIN)]
    classes = class_order(data.classes, learnt)
    rows = make_rows(listed.filename, listed.path, raw_label, classes, listed.group, listed.split)
    return Table(
        rows=rows.assign(**{COLUMN + name: cells for name, cells in listed.others.items()}),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=FileReader(tuple(listed.path), data.max_file_mb),
        source=f"{bare(data.source)}{f' of {data.root}' if data.root else ''}",
        findings=_spelling_findings(listed.filename, raw_label, several),
    )


# --- synthetic and tfds ---------------------------------------------------------------------------


def _load_synthetic(data: Any, progress: Progress | None) -> Table:
    """The embedded footprints, drawn into the user cache unless they are there: never into a folder of the user's."""
    from fpclass.data.synthetic.dataset import draw_dataset

    num_images, image_size, seed = data.synthetic.num_images, data.synthetic.image_size, data.synthetic.seed
    height, width = image_size
    root = cache_dir() / "synthetic" / f"{num_images}x{height}x{width}-seed{seed}"
    draw_dataset(root, num_images=num_images, image_size=(height, width), seed=seed, progress=progress)
    columns = {"filename_column": "filename", "label_column": "SEX", "group_column": "ID"}
    files = {"root": str(root), "csv": "all_labels.csv", "image_dir": ""}
    table = _load_csv(ConfigDict({**data, **files, **columns}), None)
    source = f"SYNTHETIC footprints, {num_images} of {height} x {width} pixels, seed {seed}, in {root}"
    return dataclasses.replace(table, source=source, is_synthetic=True)


def _load_tfds(data: Any, progress: Progress | None) -> Table:
    from fpclass.data.sources.tfds import load_tfds

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


def _named_classes(data: Any) -> tuple[object, ...]:
    """The classes of the source that the config names."""
    return (*data.classes, *(member for _, members in data.merge for member in members))


def _spelling_findings(
    filename: list[str], raw_label: list[str], several: dict[str, dict[str, int]]
) -> tuple[Finding, ...]:
    """One finding per label that the source spells in several ways."""
    return tuple(
        Finding(
            "label_spellings",
            WARNING,
            tuple(name for name, value in zip(filename, raw_label, strict=True) if value == label),
            f"{', '.join(f'{count} x {text!a}' for text, count in spellings.items())} are one class, {label!r}",
        )
        for label, spellings in several.items()
    )


def _check_case(table: Table, data: Any) -> None:
    """Labels that differ only in upper and lower case may be one class or two: the config has to say so.

    Raises:
      DataError: it does not.
    """
    named = {canonical_label(value) for value in _named_classes(data)}
    alike: dict[str, list[str]] = {}
    for label in sorted(set(table.rows["raw_label"]) - {""}):
        alike.setdefault(label.casefold(), []).append(label)
    counts = table.rows["raw_label"].value_counts()
    for labels in alike.values():
        if len(labels) > 1 and not named.issuperset(map(canonical_label, labels)):
            met = some_of([f"{label!r} ({counts[label]} images)" for label in labels])
            raise DataError(
                f"{table.source}: labels {met} differ only in upper and lower case: mend them; or, if they are one "
                f'class, put them together with data.merge=(("{labels[0]}", {tuple(labels)}), …), and if not, name '
                "all classes in data.classes"
            )


def _root_folder(data: Any) -> Path:
    """The folder of the data set; an archive, or what is at an address, is unpacked into the cache first."""
    if not data.root:
        raise ConfigError("data.root is empty; give the folder of the data set, e.g. --config.data.root=DIR")
    if not is_text(data.root):
        raise DataError(f"data.root = {data.root!r}: the name is not UTF-8; rename the folder")
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
