"""Removal of copies from a folder of images: they are listed, and left out of a clean copy of the folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fpclass.common.files import cache_dir, sweep
from fpclass.data import perceptual
from fpclass.data.clusters import find_clusters, joined
from fpclass.data.decode import decode_table
from fpclass.data.files import image_files, some_of
from fpclass.data.perceptual import Fingerprints
from fpclass.data.resize import Decoding
from fpclass.data.sources import FileReader
from fpclass.data.sources.folders import TEST, read_layout, split_of
from fpclass.data.table import Progress, Table, make_rows
from fpclass.data.tidy.convert import check_apart, copy_companions
from fpclass.errors import DataError, RunError

KEEP, DROP = "keep", "drop"
BYTES, PIXELS, NEAR, MIRRORED = "same file", "same pixels", "saved again or resized", "mirrored"
"""Kinds of copies, the first that holds."""
HOW = ("", NEAR, MIRRORED, PIXELS, BYTES)
"""Kinds by number; "" is no copy."""
NUM_PAIRS = 1 << 22
"""Pairs of a cluster that are compared together."""
CLEAN, CLUSTERS, SHEETS = "clean", "duplicates.csv", "sheets"
"""Names in the output: the folder without copies, the list, the pictures of the clusters."""

COLUMNS = (
    *("cluster", "decision", "filename", "how", "similarity", "phash_distance", "dhash_distance"),
    *("width", "height", "num_bytes", "format", "label", "split", "contradiction"),
)


def list_images(folder: Path, labels: dict[str, str] | None = None) -> Table:
    """All images below a folder, as a table; `labels` has the classes by POSIX path, else the folders' names are.

    Raises:
      DataError: there are none.
    """
    images = image_files(folder)
    if not images:
        raise DataError(f"{folder}: no images in it; give a folder with image files at any depth")
    names = [file.relative_to(folder).as_posix() for file in images]
    folders, splits = _classes_and_splits(folder, names)
    labels = folders if labels is None else labels
    split = [splits.get(name, "") for name in names]
    raw_label = [labels.get(name, "") for name in names]
    classes = tuple(sorted(set(raw_label) - {""}))
    paths = tuple(str(file.absolute()) for file in images)
    rows = make_rows(names, list(paths), raw_label, classes, split=split)
    return Table(rows, classes, classes, FileReader(paths), source=f"folder {folder}")


def _classes_and_splits(folder: Path, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Class and split of each image by its POSIX path, as far as its folders tell."""
    try:
        layout = read_layout(folder)
    except DataError:  # no data set yet: every image is of the folder that it is in
        parts = {name: name.split("/")[:-1] for name in names}
        return {name: part[-1] for name, part in parts.items() if part}, {
            name: next(filter(None, map(split_of, part[:-1])), "") for name, part in parts.items()
        }
    rows = [(file.relative_to(folder).as_posix(), part) for part in layout.classes for file in part.images]
    splits = {name: part.split for name, part in rows}
    splits |= {file.relative_to(folder).as_posix(): TEST for file in layout.to_predict}
    return {name: part.name for name, part in rows}, splits


def measure_images(table: Table, progress: Progress) -> pd.DataFrame:
    """Decodes every image on all cores; its facts, from the cache where it holds them."""
    small = (perceptual.THUMBNAIL_PX, perceptual.THUMBNAIL_PX)
    _, facts = decode_table(table, Decoding(small, channels=1), cache_dir=cache_dir() / "decoded", progress=progress)
    return facts


def find_duplicates(
    table: Table, facts: pd.DataFrame, min_similarity: float, *, mirrored: bool = False
) -> pd.DataFrame:
    """Every image that has copies, with what becomes of it.

    The best image of a cluster is kept: one with a class before those without, test before validation before others,
    then the largest, then the one with most bytes, which is the least compressed. Its copies are dropped, but for those
    without a class where others have one: they are to be predicted. What is only a copy of a copy, and not like the
    kept image, goes on by the same rule. Near hashes mean copies from a correlation of thumbnails of `min_similarity`.

    Returns:
      One row per image with `COLUMNS`, clusters with contradictory classes first, in each the best image first: cluster
      (from 1), how ("" for the best one), similarity, phash_distance and dhash_distance (to the best one),
      contradiction ("", or the classes).
    """
    decoded = np.flatnonzero((facts["error"] == "").to_numpy())
    columns = ["width", "height", "num_bytes", "format", "sha256", "pixel_sha256"]
    shown: Any = facts.iloc[decoded][columns].reset_index(drop=True)
    shown["filename"], shown["label"], shown["split"] = (
        table.rows[name].to_numpy()[decoded] for name in ("filename", "raw_label", "split")
    )
    prints = Fingerprints.from_facts(facts.iloc[decoded])
    exact = np.stack([pd.factorize(shown[column])[0] for column in ("pixel_sha256", "sha256")])
    cluster = find_clusters(prints, min_similarity, mirrored=mirrored)
    _, first, same = np.unique(exact[0], return_index=True, return_inverse=True)
    cluster = joined(cluster, np.arange(len(shown)), first[same])

    if mirrored:
        prints = prints.and_also(prints.mirrored())
    is_to_predict = bool(table.classes) & (shown["label"] == "").to_numpy()
    rank = shown["split"].map({"test": 0, "validation": 1}).fillna(2)
    area = shown["width"] * shown["height"]
    preference = np.lexsort((shown["filename"], -shown["num_bytes"], -area, rank, is_to_predict))
    open_rows = preference[np.bincount(cluster)[cluster[preference]] > 1]
    parts: list[dict[str, np.ndarray]] = []
    for _, members in pd.Series(open_rows).groupby(cluster[open_rows]):
        waiting = members.to_numpy()
        while len(waiting) > 1:
            # Some at a time, because most are copies of one of the first ones, or none is.
            firsts = waiting[: max(1, NUM_PAIRS // len(waiting))]
            kinds = _kinds(prints, exact, firsts, waiting, min_similarity, mirrored)
            is_left = np.ones(len(waiting), bool)
            for k in range(len(firsts)):
                if is_left[k]:
                    is_left[k] = False
                    copies_of = np.flatnonzero(is_left & (kinds[k] > 0))
                    is_left[copies_of] = False
                    if len(copies_of):
                        rows = np.concatenate([[k], copies_of])
                        part = _compare(prints, exact, waiting[rows], kinds[k, rows])
                        parts.append(part | {"cluster": np.full(len(rows), len(parts))})
            waiting = waiting[is_left]
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    copies = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return _described(copies, shown, is_to_predict)


def write_clean(folder: Path, output: Path, table: Table, dropped: set[str], progress: Progress) -> list[str]:
    """Copies the images that are not dropped, and the CSV files, to output/`CLEAN`; gives notes on the CSV files.

    Raises:
      RunError: it cannot be written.
    """
    target, unfinished = output / CLEAN, output / f".{CLEAN}.unfinished"
    kept = [name for name in table.rows["filename"] if name not in dropped]
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name in progress(kept, len(kept)):
            copy = unfinished / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, copy)
        names = {name: None if name in dropped else name for name in table.rows["filename"]}
        notes = copy_companions(folder, unfinished, names)
        unfinished.rename(target)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{error.filename or target}: cannot be copied ({reason}); free space, or mend the file"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return notes


def check_output(folder: Path, output: Path) -> None:
    """Makes sure that the output is a new folder outside of the originals.

    Raises:
      DataError: there is no folder of originals, or one is inside the other.
      RunError: the output holds something already, other than a list and sheets.
    """
    check_apart(folder, output)
    if output.exists() and not output.is_dir():
        raise RunError(f"{output}: is a file; give a folder")
    sweep(output)
    there = {path.name for path in output.iterdir() if path.name[0] != "."} if output.exists() else set()
    if there - {CLUSTERS, SHEETS}:
        raise RunError(f"{output}: holds {some_of(sorted(there), limit=3)} already; give a new folder")


def summary_text(table: Table, facts: pd.DataFrame, duplicates: Any) -> str:
    """Summary for the terminal, the alarming things loudly."""
    unreadable = table.rows["filename"][(facts["error"] != "").to_numpy()].tolist()
    dropped = duplicates[duplicates["decision"] == DROP]
    num_clusters = duplicates["cluster"].nunique()
    kinds = ", ".join(f"{(dropped['how'] == how).sum()} {how}" for how in (BYTES, PIXELS, NEAR, MIRRORED))
    lines = [
        f"{len(table)} images in {table.source}: {len(dropped)} copies are dropped, from {num_clusters} clusters, "
        f"{len(table) - len(dropped) - len(unreadable)} remain",
        f"copies      {kinds}",
    ]
    contradictory = duplicates[duplicates["contradiction"] != ""]
    if len(contradictory):
        lines.append(
            f"CONTRADICTORY CLASSES in {contradictory['cluster'].nunique()} clusters: copies of one picture stand in "
            "different classes, at most one is right. Look at them first:"
        )
        lines += _cluster_lines(contradictory)
    across = duplicates[duplicates.groupby("cluster")["split"].transform("nunique") > 1]
    if len(across):
        lines.append(
            f"ACROSS THE SPLITS in {across['cluster'].nunique()} clusters: the result on these images is too good. "
            "Kept is the copy in test, or else in validation:"
        )
        lines += _cluster_lines(across)
    num_to_predict = ((duplicates["decision"] == KEEP) & (duplicates["how"] != "")).sum()
    if num_to_predict:
        lines.append(f"{num_to_predict} images without a class are copies of others; they are kept, to be predicted")
    if unreadable:
        lines.append(f"{len(unreadable)} files cannot be read and are left out: {some_of(unreadable)}")
    return "\n".join(lines)


def _cluster_lines(duplicates: Any, num_shown: int = 5) -> list[str]:
    clusters = [members["filename"].tolist() for _, members in duplicates.groupby("cluster", sort=False)]
    lines = [f"  {first} (kept) = {some_of(others, limit=4)}" for first, *others in clusters[:num_shown]]
    return lines + [f"  and {len(clusters) - num_shown} more"] * (len(clusters) > num_shown)


def _kinds(
    prints: Fingerprints,
    exact: np.ndarray,
    firsts: np.ndarray,
    rows: np.ndarray,
    min_similarity: float,
    mirrored: bool,
) -> np.ndarray:
    """What `rows` are beside each of their `firsts`: numbers of `HOW`, 0 for no copy and for the image itself, [k, n].

    `prints` are of all N images, and behind them those of their mirror images if `mirrored`; `exact` has equal numbers
    for equal pixels (first row) and equal files (second row), [2, N].
    """
    kinds = np.where(perceptual.copy_matrix(prints, firsts, rows, min_similarity), HOW.index(NEAR), 0)
    if mirrored:
        mirrors = firsts + exact.shape[1]
        is_mirrored = perceptual.copy_matrix(prints, mirrors, rows, min_similarity, kinds == 0)
        kinds[is_mirrored] = HOW.index(MIRRORED)
    for how, values in zip((PIXELS, BYTES), exact, strict=True):
        kinds[values[firsts, None] == values[rows]] = HOW.index(how)
    kinds[firsts[:, None] == rows] = 0
    return kinds


def _compare(prints: Fingerprints, exact: np.ndarray, rows: np.ndarray, kind: np.ndarray) -> dict[str, np.ndarray]:
    """Columns on the first of `rows` and its copies, which are of the kinds that `_kinds` gives: how near they are."""
    against = np.where(kind == HOW.index(MIRRORED), rows[0] + exact.shape[1], rows[0])
    # An empty page is like itself, too, and what is the same is so without rounding.
    is_same = (exact[:, rows] == exact[:, rows[:1]]).any(axis=0)
    return {
        "row": rows,
        "how": np.array(HOW, object)[kind],
        "similarity": np.where(is_same, 1, perceptual.similarity(prints, against, rows)).round(6),
        "phash_distance": perceptual.hamming(prints.phash, against, rows),
        "dhash_distance": perceptual.hamming(prints.dhash, against, rows),
    }


def _described(copies: pd.DataFrame, shown: Any, is_to_predict: np.ndarray) -> pd.DataFrame:
    """The rows of `_compare` with what the images are, in the order and with the columns of `find_duplicates`."""
    rows = copies["row"].to_numpy()
    table: Any = pd.concat([copies, shown.iloc[rows].reset_index(drop=True)], axis=1)
    is_first = ~table["cluster"].duplicated()
    table["decision"] = np.where(is_first | is_to_predict[rows], KEEP, DROP)
    labels = {number: sorted(set(values) - {""}) for number, values in table.groupby("cluster")["label"]}
    table["contradiction"] = [", ".join(labels[k]) if len(labels[k]) > 1 else "" for k in table["cluster"]]
    table["is_quiet"] = table["contradiction"] == ""
    table["leader"] = table["cluster"].map(table[is_first].set_index("cluster")["filename"])
    table = table.sort_values(["is_quiet", "leader"], kind="stable", ignore_index=True)
    table["cluster"] = pd.factorize(table["cluster"])[0] + 1
    return table[list(COLUMNS)]
