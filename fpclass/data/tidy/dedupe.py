"""Removal of copies from a folder of images: they are listed, and left out of a clean copy of the folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data import perceptual
from fpclass.data.decode import decode_table
from fpclass.data.files import image_files, some_of
from fpclass.data.perceptual import Fingerprints
from fpclass.data.resize import Decoding
from fpclass.data.sources import VALIDATION_FOLDERS, FileReader
from fpclass.data.table import Progress, Table, make_rows
from fpclass.data.tidy.convert import check_apart, copy_companions
from fpclass.errors import DataError, RunError
from fpclass.files import cache_dir, sweep

KEEP, DROP = "keep", "drop"
BYTES, PIXELS, NEAR, MIRRORED = "same file", "same pixels", "saved again or resized", "mirrored"
"""Kinds of copies, the first that holds."""
HOW = ("", NEAR, MIRRORED, PIXELS, BYTES)
"""Kinds by number; "" is no copy."""
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
    parts = [name.split("/") for name in names]
    splits = {"train": "train", "test": "test"} | dict.fromkeys(VALIDATION_FOLDERS, "validation")
    split = [splits.get(part[0], "") if len(part) > 2 else "" for part in parts]
    if labels is None:
        # As data.source=folder reads it: directly in the test/ beside a divided train/ are images to predict.
        is_divided = any(part[0] == "train" and len(part) > 2 for part in parts)
        classless = {("test",)} if is_divided else set()
        labels = {
            name: part[-2] if len(part) > 1 and tuple(part[:-1]) not in classless else ""
            for name, part in zip(names, parts, strict=True)
        }
    raw_label = [labels.get(name, "") for name in names]
    classes = tuple(sorted(set(raw_label) - {""}))
    paths = tuple(str(file.absolute()) for file in images)
    rows = make_rows(names, list(paths), raw_label, classes, split=split)
    return Table(rows, classes, classes, FileReader(paths), source=f"folder {folder}")


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
    cluster = perceptual.find_clusters(prints, min_similarity, mirrored=mirrored)
    _, first, same = np.unique(exact[0], return_index=True, return_inverse=True)
    cluster = perceptual.joined(cluster, np.arange(len(shown)), first[same])

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
            is_copy, part = _compare(prints, exact, waiting, min_similarity, mirrored)
            if is_copy.any():
                parts.append(part | {"cluster": np.full(len(part["row"]), len(parts))})
            is_copy[0] = True
            waiting = waiting[~is_copy]
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


def _compare(
    prints: Fingerprints, exact: np.ndarray, rows: np.ndarray, min_similarity: float, mirrored: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images beside the first of `rows`: which are copies of it, how, and how near. The first is one, if any is.

    `prints` are of all N images, and behind them those of their mirror images if `mirrored`; `exact` has equal numbers
    for equal pixels (first row) and equal files (second row), [2, N]. Gives a mask of the copies [n], and columns.
    """
    against = np.full(len(rows), rows[0])
    kind = np.where(perceptual.is_copy(prints, against, rows, min_similarity), HOW.index(NEAR), 0)
    if mirrored:
        mirror = against + exact.shape[1]
        is_mirrored = (kind == 0) & perceptual.is_copy(prints, mirror, rows, min_similarity)
        kind[is_mirrored] = HOW.index(MIRRORED)
        against[is_mirrored] = mirror[is_mirrored]
    is_same = exact[:, rows] == exact[:, rows[:1]]
    for how, same in zip((PIXELS, BYTES), is_same, strict=True):
        kind[same] = HOW.index(how)
    kind[0] = 0
    is_copy = kind > 0
    is_copy[0] = is_copy.any()
    against, rows = against[is_copy], rows[is_copy]
    # An empty page is like itself, too, and what is the same is so without rounding.
    similarity = np.where(is_same.any(axis=0)[is_copy], 1, perceptual.similarity(prints, against, rows))
    return is_copy, {
        "row": rows,
        "how": np.array(HOW, object)[kind[is_copy]],
        "similarity": similarity.round(6),
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
