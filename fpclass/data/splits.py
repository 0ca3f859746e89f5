"""Stratified splits for training, selection and evaluation that never divide a person or a copied image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass.common.console import program
from fpclass.config import Config
from fpclass.data.table import Table
from fpclass.errors import DataError
from fpclass.stats.cohort import ALONE

TRAIN = "train"
SELECTION = "selection"
VALIDATION = "validation"
TEST = "test"
PREDICT = "predict"
EXCLUDED = "excluded"


@dataclasses.dataclass(frozen=True)
class Splits:
    """The role of every row of a table.

    Attributes:
      frame: one row per table row: filename, group (the person), unit (a person together with everybody who shares an
        image or a near copy of it, or an image of its own: what intervals resample, and what is never divided unless
        split.grouped=False), label (as the source has it), fold (-1 outside of folds), role (train, selection: where
        the best epoch is chosen, validation: what is reported, test: labelled rows that the source sets aside,
        predict, excluded: kept out because the same person or image is held out, or by split.train_share; "" for
        quarantined rows).
      notes: what a person should know about this split, one line each.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def rows(self, role: str) -> Int[np.ndarray, " n"]:
        """Positions of the rows with this role, ascending, int32 [n]."""
        return np.flatnonzero((self.frame["role"] == role).to_numpy()).astype(np.int32)

    @functools.cached_property
    def csv(self) -> bytes:
        """The frame as `splits.csv` holds it, made once: the members of a fold share their splits, in all configs."""
        return self.frame.to_csv(index=False, lineterminator="\n").encode()

    def counted(self, role: str) -> str:
        """How many images have this role, in words, and of how many people where these are fewer."""
        units = self.frame["unit"].iloc[self.rows(role)].astype(str)
        return counted(
            len(units), units.nunique(), "independent images" if units.str.startswith(ALONE).all() else "people"
        )


def draw_some(rows: Int[np.ndarray, " n"], number: int, seed: int = 0) -> Int[np.ndarray, " m"]:
    """At most so many of these rows, drawn at random, ascending: the same ones for the same rows and seed."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:number])


def counted(num_images: int, num_units: int, units_are: str) -> str:
    """So many images, and of so many people, or whatever they belong to, where these are fewer."""
    return f"{num_images} images" + (f" of {num_units} {units_are}" if num_units < num_images else "")


def make_splits(table: Table, split_config: Config, *, needs_selection: bool) -> Splits:
    """Assigns a role to every row, from the seed alone.

    Augmented copies have no part in that: a copy trains where its original does, and is excluded otherwise.

    The order of the rows, the number of classes and the rows to predict have no influence on where a person goes:
    people are shuffled by a hash of the seed and their name.

    The columns `pixel_sha256` and `near_duplicates` of the audited table, if there, tie copies together.
    `needs_selection` says whether training chooses anything, and so needs images set aside for that.

    Raises:
      DataError: a class with fewer people (or independent images) than the split needs, or folds asked of a source
        that gives its own validation images.
    """
    if table.copy_mask.any():
        alone = dataclasses.replace(table, rows=table.rows[~table.copy_mask])
        return _with_copies(table, make_splits(alone, split_config, needs_selection=needs_selection))
    people = find_groups(table, grouped=True)
    groups = people if split_config.grouped else find_groups(table, grouped=False)
    labels = table.labels
    notes = list(table.notes)
    num_people = table.rows.loc[table.labelled_mask & (table.rows["group"] != ""), "group"].nunique()
    if split_config.grouped and num_people:
        notes.append(f"grouped by person: {num_people} people, none of them in two splits")
    notes += _describe_near_duplicates(table)
    role = _given_roles(table, groups, notes)

    def divide(shares: Sequence[float], purpose: str) -> tuple[np.ndarray, np.ndarray]:
        pool = np.flatnonzero(role == TRAIN)
        seed = f"{split_config.seed}/{purpose}"
        try:
            return pool, partition(groups[pool], labels[pool], shares, seed, table.class_names)
        except DataError as error:
            because = _why_few_groups(table, pool, len(shares), grouped=split_config.grouped)
            raise DataError(f"{error}{because}") from None

    fold = np.full(len(table), -1)
    num_folds = split_config.num_folds
    if np.any(role == VALIDATION):
        if num_folds:
            raise DataError(
                f"split.num_folds is {num_folds}, but {table.source} gives its own validation images: set it to 0 (a "
                "study: leave --folds out) to validate on these, or give data.root a folder with one split only"
            )
    elif num_folds:
        pool, fold[pool] = divide([1 / num_folds] * num_folds, "fold")
        role[fold == split_config.fold] = VALIDATION
    else:
        fraction = split_config.validation_fraction
        pool, part = divide([1 - fraction, fraction], "hold-out")
        role[pool[part == 1]] = VALIDATION
    if split_config.train_share < 1:
        notes.append(_leave_out(role, groups, labels, split_config))
    if needs_selection and split_config.selection == "inner":
        fraction = split_config.selection_fraction
        pool, part = divide([1 - fraction, fraction], "inner")
        role[pool[part == 1]] = SELECTION

    frame = pd.DataFrame(
        {
            "filename": table.rows["filename"],
            "group": table.rows["group"],
            "unit": people,
            "label": table.rows["raw_label"],
            "fold": fold,
            "role": role,
        }
    )
    if not split_config.grouped:
        notes.append(_describe_leak(frame))
    return Splits(frame, tuple(notes))


def _with_copies(table: Table, splits: Splits) -> Splits:
    """The roles of originals, and behind them those of their augmented copies."""
    rows = table.rows[table.copy_mask]
    position: Any = pd.Series(range(len(splits.frame)), index=splits.frame["filename"])
    added = splits.frame.iloc[position[rows["copy_of"]].to_numpy()]
    trains = (added["role"] == TRAIN).to_numpy()
    role = np.where(rows["quarantine"].to_numpy() != "", "", np.where(trains, TRAIN, EXCLUDED))
    frame = pd.concat([splits.frame, added.assign(filename=rows["filename"].to_numpy(), role=role)], ignore_index=True)
    note = f"{np.sum(role == TRAIN)} augmented copies train beside their originals"
    num_out = int(np.sum(role == EXCLUDED))
    out = f"; {num_out} are left out, whose originals do not train" * bool(num_out)
    return Splits(frame, (*splits.notes, note + out))


def partition(
    groups: np.ndarray,
    labels: Int[np.ndarray, " n"],
    shares: Sequence[float] | Float[np.ndarray, " b"],
    seed: str,
    class_names: tuple[str, ...],
) -> Int[np.ndarray, " n"]:
    """Divides images into parts 0 … b - 1 of given shares, summing to 1, class by class, never dividing a group.

    Groups go one by one, the large ones first and shuffled among equals, to the part that lacks most images of the
    group's class (of its classes, weighted by its images); the last ones go where a class would otherwise be absent.
    With groups of one class each, the images of a class in a part differ from its share by less than one group.

    Raises:
      DataError: there are no images, or a class cannot be in every part.
    """
    if not len(groups):
        raise DataError("no labelled images to split: all of them are in quarantine, or shared with held-out ones")
    names, group_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of)
    num_classes = len(class_names)
    pairs, counts = np.unique(group_of * num_classes + labels, return_counts=True)
    num_groups = np.bincount(pairs % num_classes, minlength=num_classes)
    # Plain lists from here on: groups go one at a time, and there may be a hundred thousand of them.
    classes_of: list[list[tuple[int, int]]] = [[] for _ in names]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        classes_of[pair // num_classes].append((pair % num_classes, count))
    lacks = np.outer(shares, np.bincount(labels, minlength=num_classes)).tolist()
    still_to_come = num_groups.tolist()
    parts_without = [list(range(len(shares))) if count else [] for count in still_to_come]

    part_of = np.empty(len(names), int)
    for group in sorted(range(len(names)), key=lambda u: (-sizes[u], _hash(f"{seed}/{names[u]}"))):
        urgent = [k for k, _ in classes_of[group] if parts_without[k] and still_to_come[k] <= len(parts_without[k])]
        allowed = parts_without[urgent[0]] if urgent else range(len(shares))
        part = max(allowed, key=lambda p: sum(count * lacks[p][k] for k, count in classes_of[group]))
        part_of[group] = part
        for k, count in classes_of[group]:
            lacks[part][k] -= count
            still_to_come[k] -= 1
            parts_without[k] = [p for p in parts_without[k] if p != part]
    is_alone = bool(np.char.startswith(names, ALONE).all())
    for k, parts in enumerate(parts_without):
        if parts:
            who, which = ("person", "independent image") if num_groups[k] == 1 else ("people", "independent images")
            who = which if is_alone else f"{who} (or {which})"
            raise DataError(
                f"class {class_names[k]!r} has {num_groups[k]} {who}, too few for a split "
                f"into {len(shares)} parts: add data" + ", or lower split.num_folds" * (len(shares) > 2)
            )
    return part_of[group_of]


def _leave_out(role: np.ndarray, groups: np.ndarray, labels: Int[np.ndarray, " n"], split_config: Config) -> str:
    """Excludes all but `split.train_share` of the people who train, in place; says how many are left."""
    pool, share = np.flatnonzero(role == TRAIN), split_config.train_share
    is_kept = share_mask(groups[pool], labels[pool], share, f"{split_config.seed}/share")
    role[pool[~is_kept]] = EXCLUDED
    kept, everybody = (len(np.unique(groups[rows])) for rows in (pool[is_kept], pool))
    return f"split.train_share={share:g}: {kept} of {everybody} people (or independent images) train"


def share_mask(groups: np.ndarray, labels: Int[np.ndarray, " n"], share: float, seed: str) -> np.ndarray:
    """Which images belong to the first share of the groups of each class, in an order by hash, bool [n].

    A smaller share is part of a larger one. A group's class is that of most of its images. A class keeps two groups,
    if it has two.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), int(labels.max(initial=0)) + 1), np.int64)
    np.add.at(counts, (group_of, labels), 1)
    class_of = counts.argmax(axis=1)
    is_kept = np.zeros(len(names), bool)
    for k in np.unique(class_of):
        ordered = sorted(np.flatnonzero(class_of == k).tolist(), key=lambda u: _hash(f"{seed}/{names[u]}"))
        is_kept[ordered[: max(2, round(share * len(ordered)))]] = True
    return is_kept[group_of]


def _why_few_groups(table: Table, pool: np.ndarray, num_parts: int, *, grouped: bool) -> str:
    """What copies and near copies have to do with it that a class has too few groups; "" if nothing."""
    labels = table.labels[pool]

    def few_without(columns: Sequence[str]) -> set[int]:
        """Classes that have too few groups where these columns tie no images."""
        rest = dataclasses.replace(table, rows=table.rows.drop(columns=[*columns], errors="ignore"))
        apart = find_groups(rest, grouped=grouped)[pool]
        return {int(k) for k in np.unique(labels) if len(np.unique(apart[labels == k])) < num_parts}

    few = few_without([])
    if not few or few & few_without(["near_duplicates", "pixel_sha256"]):
        return ""  # there are too few anyway
    is_near = not few & few_without(["near_duplicates"])
    copies = table.rows["near_duplicates" if is_near else "pixel_sha256"].iloc[pool]
    sizes = copies[copies != ""].value_counts()
    many, shown = f"{sizes.iloc[0]} of the {len(pool)} images", f"`{program()} dedupe --list` shows them"
    if is_near:
        return (
            f"; that is because {many} count as near copies of one another (or of copies), such as {sizes.index[0]!r}, "
            "and stay together: if they are different pictures that only look alike, raise data.near_duplicates or "
            f"set it to 0; if they are copies, {shown}"
        )
    first = table.rows["filename"].iloc[pool[(copies == sizes.index[0]).to_numpy()][0]]
    return f"; that is because {many} are the same picture, as {first!r}, and stay together: {shown}"


def find_groups(table: Table, *, grouped: bool) -> np.ndarray:
    """The name of each row's group: connected components of "copies of an image" and, if grouped, of "same person"."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num_rows = len(table)
    links = [table.rows["group"]] if grouped else []
    links += [table.rows[name] for name in ("pixel_sha256", "near_duplicates") if name in table.rows]
    edges = [np.zeros((2, 0), int)]
    for column in links:
        # Only labelled rows tie: a row to predict must not change who is trained on.
        present = np.flatnonzero(table.labelled_mask & (column != "").to_numpy(bool))
        codes, values = pd.factorize(column.iloc[present])
        first = np.full(len(values), num_rows)
        np.minimum.at(first, codes, present)
        edges.append(np.stack([present, first[codes]]))
    pairs = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(num_rows, num_rows))
    _, component = connected_components(graph, directed=False)
    # A component is called after its first person, or else its first file: names survive a reordering of the rows.
    filenames, people = table.rows["filename"].to_numpy(str), table.rows["group"].to_numpy(str)
    names = np.where(people != "", people, np.char.add(ALONE, filenames)) if grouped else filenames
    return pd.Series(names).groupby(component).transform("min").to_numpy(str)


def rows_without_label(table: Table) -> Int[np.ndarray, " n"]:
    """Rows to predict that may be learnt from: of nobody who has a labelled image, and not the same picture as one.

    Of the others a label is known, and images of whoever they are, or they themselves, may judge what learns from them.
    """
    names = [name for name in ("group", "pixel_sha256") if name in table.rows]
    columns = [table.rows[name].to_numpy(str) for name in names]
    known, num_known = table.labelled_mask, 0
    while known.sum() > num_known:  # whose picture is a labelled person's is that person, in all pictures
        num_known = int(known.sum())
        for values in columns:
            known = known | (np.isin(values, values[known]) & (values != ""))
    return np.flatnonzero(table.to_predict_mask & table.usable_mask & ~known)


def _given_roles(table: Table, groups: np.ndarray, notes: list[str]) -> np.ndarray:
    """The roles that the source gives; of groups that its splits share, test is kept, then validation."""
    role = np.full(len(table), "", dtype=object)
    role[table.to_predict_mask & table.usable_mask] = PREDICT
    role[table.labelled_mask] = TRAIN
    for given in (VALIDATION, TEST):
        role[table.labelled_mask & (table.rows["split"] == given).to_numpy(bool)] = given
    for kept, others in ((TEST, (TRAIN, VALIDATION)), (VALIDATION, (TRAIN,))):
        shared = np.isin(role, others) & np.isin(groups, groups[role == kept])
        role[shared] = EXCLUDED
        if shared.any():
            reason = f"their person or a copy is among the {kept} images"
            notes.append(f"{shared.sum()} images left out: {reason}")
    for given in (VALIDATION, TEST):
        if np.any(role == given):
            notes.append(f"{np.sum(role == given)} {given} images as the source gives them")
    return role


def _describe_near_duplicates(table: Table) -> list[str]:
    """One line on what the splits keep together because it looks the same; none where nothing does."""
    if "near_duplicates" not in table.rows:
        return []
    rows = table.rows[table.labelled_mask]
    copies = rows[rows["near_duplicates"] != ""].groupby("near_duplicates")
    # Of identical pixels alone nobody needs to be told here.
    num_pictures = copies["pixel_sha256"].nunique()
    near = num_pictures.index[num_pictures > 1]
    if not len(near):
        return []
    clusters = f"{len(near)} cluster{'s' * (len(near) > 1)}"
    tied = (copies["group"].nunique()[near] > 1).sum()
    remark = f", {tied} of which tie different people: look at them" if tied else ""
    return [f"near-duplicates kept together: {copies.size()[near].sum()} images in {clusters}{remark}"]


def _describe_leak(frame: pd.DataFrame) -> str:
    people = frame.loc[frame["group"] != ""]
    trained = set(people.loc[people["role"].isin([TRAIN, SELECTION]), "group"])
    reported = set(people.loc[people["role"].isin([VALIDATION, TEST]), "group"])
    if not reported:
        return "split.grouped=False: the data set names no people, so only copies are kept together"
    if not trained & reported:
        return f"split.grouped=False, yet none of the {len(reported)} people held out were also trained on"
    return (
        f"LEAK: split.grouped=False, {len(trained & reported)} of {len(reported)} people held out were also "
        "trained on; the result is too good"
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
