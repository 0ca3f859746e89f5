"""Splits: nobody and nothing in two roles, whatever the table looks like."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import base
from fpclass.data.splits import EXCLUDED, PREDICT, SELECTION, TEST, TRAIN, VALIDATION, Splits, make_splits, partition
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError

CLASSES = ("a", "b", "c")


def split_config(**values: object) -> ConfigDict:
    config = base.get_config().split
    config.update(values)
    return config


def make_table(
    label: Sequence[str],
    group: Sequence[str] | None = None,
    pixels: Sequence[str] | None = None,
    split: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    quarantine: Sequence[int] = (),
) -> Table:
    """A table without files; `pixels` stands for the hash of the decoded image."""
    names = list(names or (f"img_{i:04d}" for i in range(len(label))))
    rows = make_rows(names, names, list(label), CLASSES, list(group or []), list(split or []))
    rows["pixel_sha256"] = list(pixels) if pixels else [f"own pixels of {name}" for name in names]
    rows.loc[list(quarantine), "quarantine"] = "broken"
    return Table(rows, CLASSES, CLASSES, read=lambda i: b"", source="a test")


def people(num_per_class: int, num_classes: int = 2, images_each: int = 2) -> Table:
    """People with as many images each, of one class each."""
    everybody = [(k, p) for p in range(num_per_class) for k in range(num_classes) for _ in range(images_each)]
    return make_table([CLASSES[k] for k, _ in everybody], [f"{CLASSES[k]}-{p}" for k, p in everybody])


def roles(splits: Splits) -> dict[str, str]:
    return dict(zip(splits.frame["filename"], splits.frame["role"], strict=True))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """People of several sizes and classes, some rows of nobody, copied images, rows to predict, broken ones."""
    label, group, pixels = [], [], []
    num_classes = draw(st.integers(2, 3))
    for k in range(num_classes):
        for person in range(draw(st.integers(8, 14))):
            for _ in range(draw(st.integers(1, 4))):
                label.append(CLASSES[k])
                group.append(f"{CLASSES[k]}-{person}" if draw(st.integers(0, 5)) else "")
                pixels.append(f"copy {draw(st.integers(0, 9))}" if draw(st.integers(0, 14)) == 0 else f"{len(pixels)}")
    num_labelled = len(label)
    for _ in range(draw(st.integers(0, 5))):
        label.append("")
        group.append(draw(st.sampled_from(["", "a-0", "b-1", "new"])))
        pixels.append(draw(st.sampled_from(["copy 1", "0", "unseen"])))
    broken = draw(st.lists(st.integers(0, num_labelled - 1), max_size=3))
    return make_table(label, group, pixels, quarantine=broken)


def assert_nothing_is_divided(table: Table, splits: Splits, grouped: bool) -> None:
    frame = splits.frame.assign(pixels=table.rows["pixel_sha256"])
    judged = frame[frame["role"].isin([TRAIN, SELECTION, VALIDATION, TEST])]
    for column in ("pixels", *(("unit", "group") if grouped else ())):
        named = judged[judged[column] != ""]
        num_roles = named.groupby(column)["role"].nunique()
        assert (num_roles == 1).all(), f"{column} in two roles: {num_roles[num_roles > 1].index.tolist()}"


@settings(deadline=None, max_examples=60)
@given(table=tables(), seed=st.integers(0, 99), num_folds=st.sampled_from([0, 2, 3]), grouped=st.booleans())
def test_no_person_and_no_copied_image_has_two_roles(table: Table, seed: int, num_folds: int, grouped: bool) -> None:
    config = split_config(seed=seed, num_folds=num_folds, grouped=grouped)
    try:
        splits = make_splits(table, config, needs_selection=True)
    except DataError:  # copies can tie a whole class together; tested below
        assume(False)
    assert_nothing_is_divided(table, splits, grouped)
    role = splits.frame["role"].to_numpy()
    assert set(role[table.labelled_mask]) == {TRAIN, SELECTION, VALIDATION}
    assert set(role[table.to_predict_mask]) <= {PREDICT}
    assert set(role[~table.usable_mask]) <= {""}
    for name in (TRAIN, SELECTION, VALIDATION):
        assert set(table.labels[splits.rows(name)]) == set(table.labels[table.labelled_mask]), name


@settings(deadline=None, max_examples=30)
@given(table=tables(), seed=st.integers(0, 99), num_folds=st.sampled_from([0, 3]), data=st.data())
def test_the_order_of_the_rows_and_rows_to_predict_change_nothing(
    table: Table, seed: int, num_folds: int, data: st.DataObject
) -> None:
    config = split_config(seed=seed, num_folds=num_folds)
    try:
        expected = roles(make_splits(table, config, needs_selection=True))
    except DataError:
        assume(False)
    order = data.draw(st.permutations(range(len(table))))
    shuffled = Table(table.rows.iloc[order].reset_index(drop=True), CLASSES, CLASSES, table.read, table.source)
    assert roles(make_splits(shuffled, config, needs_selection=True)) == expected
    labelled = table.rows[table.labels >= 0].reset_index(drop=True)
    without = Table(labelled, CLASSES, CLASSES, table.read, table.source)
    splits = make_splits(without, config, needs_selection=True)
    assert roles(splits) == {name: expected[name] for name in labelled["filename"]}


def test_rows_to_predict_tie_nobody_together() -> None:
    """The row to predict is a copy of an image of one person and belongs to another one."""
    before = people(6)
    rows = before.rows
    copy = make_table([""], ["a-0"], [rows["pixel_sha256"].iloc[-1]], names=["a copy"]).rows
    after = Table(pd.concat([rows, copy], ignore_index=True), CLASSES, CLASSES, before.read, "a test")
    config = split_config()
    was, now = (make_splits(t, config, needs_selection=True) for t in (before, after))
    assert was.frame["unit"].tolist() == now.frame["unit"].tolist()[:-1]
    assert roles(was) == {k: v for k, v in roles(now).items() if k != "a copy"}
    assert was.notes == now.notes


def test_the_seed_decides() -> None:
    table = people(20)
    first, again, other = (
        roles(make_splits(table, split_config(seed=seed), needs_selection=True)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=6, max_size=40),
    shares=st.sampled_from([(0.8, 0.2), (0.85, 0.15), (0.5, 0.5), (0.2,) * 5, (1 / 3,) * 3, (0.98, 0.02)]),
    seed=st.text(max_size=3),
)
def test_every_class_is_within_one_unit_of_its_share(sizes: list[int], shares: tuple[float, ...], seed: str) -> None:
    """Two classes with the same unit sizes, so that one class's division must not lean on the other's."""
    unit = np.concatenate([np.repeat([f"{k}/{i}" for i in range(len(sizes))], sizes) for k in "ab"])
    label = np.repeat([0, 1], sum(sizes))
    part = partition(unit, label, shares, seed, ("a", "b"))
    for k in range(2):
        there = np.bincount(part[label == k], minlength=len(shares))
        assert there.min() > 0
        assert np.all(np.abs(there - np.array(shares) * sum(sizes)) < max(sizes))
    assert pd.Series(part).groupby(unit).nunique().max() == 1


def test_small_units_make_up_for_the_large_one() -> None:
    """Large units go first: one that came last would leave the parts 9 images apart."""
    unit = np.array(["giant"] * 9 + [f"{i}" for i in range(31)])
    for seed in range(20):
        part = partition(unit, np.zeros(40, int), [0.5, 0.5], str(seed), ("a",))
        assert np.bincount(part).tolist() == [20, 20]


def test_the_largest_person_trains() -> None:
    """One person with a third of the images must not be the whole validation set."""
    label = ["a"] * 20 + ["a"] * 40 + ["b"] * 60
    group = ["giant"] * 20 + [f"a-{i}" for i in range(40)] + [f"b-{i}" for i in range(60)]
    splits = make_splits(make_table(label, group), split_config(), needs_selection=False)
    assert set(splits.frame.loc[splits.frame["group"] == "giant", "role"]) == {TRAIN}
    assert splits.frame["role"].value_counts().to_dict() == {TRAIN: 96, VALIDATION: 24}


def test_people_with_images_of_every_class_can_be_split() -> None:
    """Nine climbers, each with most images of class a and some of b and c: no class has people of its own."""
    label = ["a", "a", "a", "b", "b", "c"] * 9
    group = [f"climber {i // 6}" for i in range(len(label))]
    table = make_table(label, group)
    splits = make_splits(table, split_config(num_folds=3), needs_selection=False)
    assert splits.frame.groupby("fold")["group"].nunique().tolist() == [3, 3, 3]
    assert_nothing_is_divided(table, splits, grouped=True)


def test_every_labelled_image_validates_in_exactly_one_fold() -> None:
    table = people(11, num_classes=3)
    seen = np.zeros(len(table), int)
    folds = []
    for fold in range(4):
        splits = make_splits(table, split_config(num_folds=4, fold=fold), needs_selection=True)
        seen[splits.rows(VALIDATION)] += 1
        assert splits.frame.loc[splits.rows(VALIDATION), "fold"].unique().tolist() == [fold]
        assert_nothing_is_divided(table, splits, grouped=True)
        folds.append(splits.frame["fold"].tolist())
    assert seen.tolist() == [1] * len(table)
    assert folds == folds[:1] * 4, "the folds must not depend on which of them validates"


def test_the_inner_selection_comes_out_of_the_training_images_alone() -> None:
    table = people(20)
    without = make_splits(table, split_config(), needs_selection=False)
    inner = make_splits(table, split_config(), needs_selection=True)
    assert np.array_equal(without.rows(VALIDATION), inner.rows(VALIDATION))
    assert len(without.rows(SELECTION)) == 0
    assert set(inner.rows(SELECTION)) | set(inner.rows(TRAIN)) == set(without.rows(TRAIN))
    assert len(inner.rows(SELECTION)) == pytest.approx(0.15 * len(without.rows(TRAIN)), abs=4)
    on_validation = make_splits(table, split_config(selection="validation"), needs_selection=True)
    assert roles(on_validation) == roles(without)


def test_identical_images_stay_together_without_groups() -> None:
    label = ["a", "b"] * 30
    pixels = [f"{i}" for i in range(60)]
    pixels[0] = pixels[20] = pixels[40] = "the same"
    table = make_table(label, pixels=pixels)
    for seed in range(10):
        for grouped in (True, False):
            splits = make_splits(table, split_config(seed=seed, grouped=grouped), needs_selection=True)
            assert len(set(splits.frame["role"].iloc[[0, 20, 40]])) == 1
    assert splits.frame["unit"].nunique() == 58


def test_a_copied_image_ties_two_people_and_everybody_tied_to_them() -> None:
    table = people(10)
    pixels = table.rows["pixel_sha256"].copy()
    group = table.rows["group"]
    first = {name: group.eq(name).idxmax() for name in ("a-0", "a-1", "a-2")}
    pixels[first["a-1"]] = pixels[first["a-0"]]
    pixels[first["a-1"] + 1] = pixels[first["a-2"] + 1]
    splits = make_splits(table.with_columns(pixel_sha256=pixels), split_config(), needs_selection=False)
    tied = splits.frame[group.isin(["a-0", "a-1", "a-2"])]
    assert set(tied["unit"]) == {"a-0"}
    assert len(tied) == 6
    assert len(set(tied["role"])) == 1


def with_near_duplicates(table: Table, *clusters: Sequence[int]) -> Table:
    """Says of these positions that they look the same; their pixels differ."""
    names = [""] * len(table)
    for cluster in clusters:
        for row in cluster:
            names[row] = f"cluster of {cluster[0]}"
    return table.with_columns(near_duplicates=names)


def test_near_duplicates_have_one_role_with_and_without_groups() -> None:
    table = with_near_duplicates(make_table(["a", "b"] * 30), (0, 20, 40), (5, 7))
    for seed in range(10):
        for grouped in (True, False):
            splits = make_splits(table, split_config(seed=seed, grouped=grouped), needs_selection=True)
            for cluster in ([0, 20, 40], [5, 7]):
                assert len(set(splits.frame["role"].iloc[cluster])) == 1
            assert splits.notes[0] == "near-duplicates kept together: 5 images in 2 clusters"
    assert splits.frame["unit"].nunique() == 57


def test_near_duplicates_tie_people_and_that_is_said() -> None:
    table = with_near_duplicates(people(10), (0, 4), (1, 40 - 1), (8, 9))
    splits = make_splits(table, split_config(), needs_selection=False)
    tied = splits.frame[splits.frame["group"].isin(["a-0", "a-1", "b-9"])]
    assert set(tied["unit"]) == {"a-0"}
    assert len(set(tied["role"])) == 1
    assert splits.notes[1:] == (
        "near-duplicates kept together: 6 images in 3 clusters, 2 of which tie different people: look at them",
    )


def test_near_duplicates_in_given_splits_are_left_out_of_training() -> None:
    table = people(10).with_columns(split=["train"] * 36 + ["test"] * 4, group="")
    splits = make_splits(with_near_duplicates(table, (0, 36)), split_config(), needs_selection=False)
    assert splits.rows(EXCLUDED).tolist() == [0]
    assert splits.rows(TEST).tolist() == [36, 37, 38, 39]


def test_without_near_duplicates_nothing_changes() -> None:
    """Neither where none were found, nor where clusters are of identical pixels, which is no news."""
    pixels = ["the same", "the same", *map(str, range(38))]
    table = make_table(["a", "b"] * 20, pixels=pixels)
    before = make_splits(table, split_config(), needs_selection=True)
    for after in (with_near_duplicates(table), with_near_duplicates(table, (0, 1))):
        splits = make_splits(after, split_config(), needs_selection=True)
        assert splits.notes == before.notes
        assert splits.frame.equals(before.frame)


def test_a_person_called_like_a_file_is_not_that_file() -> None:
    label, group = ["a", "a", "b", "b"] * 3, ["img_0001", ""] + [""] * 10
    units = make_splits(make_table(label, group), split_config(), needs_selection=False).frame["unit"]
    assert units.nunique() == 12


def test_ungrouped_says_how_many_people_leak() -> None:
    table = people(20)
    splits = make_splits(table, split_config(grouped=False), needs_selection=False)
    frame = splits.frame
    held_out = set(frame.loc[frame["role"] == VALIDATION, "group"])
    leaking = held_out & set(frame.loc[frame["role"] == TRAIN, "group"])
    assert leaking
    assert any(f"LEAK: split.grouped=False, {len(leaking)} of {len(held_out)} people" in note for note in splits.notes)
    grouped = make_splits(table, split_config(), needs_selection=False)
    assert frame["unit"].equals(grouped.frame["unit"]), "intervals resample people, however the images were split"
    assert grouped.notes == ("grouped by person: 40 people, none of them in two splits",)


def test_ungrouped_does_not_cry_leak_where_nobody_leaks() -> None:
    alone = make_splits(people(20, images_each=1), split_config(grouped=False), needs_selection=False)
    assert not any("LEAK" in note for note in alone.notes)
    nobody = make_splits(make_table(["a", "b"] * 10), split_config(grouped=False), needs_selection=False)
    assert "names no people" in nobody.notes[-1]


def test_given_validation_and_test_images_are_respected_and_what_they_share_is_left_out() -> None:
    everybody = people(10)
    group = everybody.rows["group"].tolist()
    given_split = ["train"] * len(group)
    held_out = {"a-0": VALIDATION, "b-0": VALIDATION, "a-1": TEST, "b-1": TEST}
    for i, person in enumerate(group):
        given_split[i] = held_out.get(person, "train")
    # One image of each of two held-out people stands in the training folder, and one of a test person in validation.
    leaks = {"a-0": "train", "b-1": "train", "a-1": VALIDATION}
    for person, where in leaks.items():
        given_split[group.index(person)] = where
    table = everybody.with_columns(split=given_split)
    splits = make_splits(table, split_config(), needs_selection=True)
    role = splits.frame["role"].to_numpy()
    assert {group[i] for i in splits.rows(EXCLUDED)} == {"a-0", "b-1", "a-1"}
    assert len(splits.rows(EXCLUDED)) == 3
    for i, where in enumerate(given_split):
        if role[i] != EXCLUDED:
            assert role[i] == where or (where == "train" and role[i] == SELECTION)
    assert_nothing_is_divided(table, splits, grouped=True)
    assert "3 validation images as the source gives them" in splits.notes
    assert "2 test images as the source gives them" in splits.notes
    assert any(note.startswith("2 images left out") and TEST in note for note in splits.notes)
    assert any(note.startswith("1 images left out") and VALIDATION in note for note in splits.notes)


def test_a_test_person_is_not_drawn_into_validation() -> None:
    """With a given test set only: the rest of its people must neither train nor validate."""
    everybody = people(10)
    first_of_each = ~everybody.rows["group"].duplicated()
    table = everybody.with_columns(split=np.where(first_of_each & everybody.rows["group"].str.endswith("0"), TEST, ""))
    for num_folds in (0, 3):
        splits = make_splits(table, split_config(num_folds=num_folds), needs_selection=True)
        assert_nothing_is_divided(table, splits, grouped=True)
        assert len(splits.rows(TEST)) == len(splits.rows(EXCLUDED)) == 2
        assert splits.frame["fold"].iloc[splits.rows(EXCLUDED)].eq(-1).all()


def test_folds_of_a_source_with_its_own_validation_are_refused() -> None:
    table = people(10).with_columns(split=["train", "train", "train", "validation"] * 10)
    with pytest.raises(DataError, match=r"split\.num_folds is 5, but a test gives its own validation"):
        make_splits(table, split_config(num_folds=5), needs_selection=False)


def test_too_few_people_are_named() -> None:
    with pytest.raises(DataError, match=r"class 'a' has 4 people .*5 parts.*lower split\.num_folds"):
        make_splits(people(4), split_config(num_folds=5), needs_selection=False)
    make_splits(people(5), split_config(num_folds=5), needs_selection=False)
    with pytest.raises(DataError, match=r"class 'a' has 1 person .*2 parts: add data$"):
        make_splits(people(1), split_config(), needs_selection=False)
    with pytest.raises(DataError, match=r"class 'a' has 1 person"):
        make_splits(people(2), split_config(), needs_selection=True)


def test_copies_that_tie_a_class_together_are_an_error_not_a_missing_class() -> None:
    table = make_table(["a"] * 10 + ["b"] * 10, pixels=["the same"] * 10 + [f"{i}" for i in range(10)])
    with pytest.raises(DataError, match=r"'a' has 1 independent image, .* 10 of the 20 images are the same picture"):
        make_splits(with_near_duplicates(table, tuple(range(10))), split_config(), needs_selection=False)


def test_no_labelled_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no labelled images"):
        make_splits(make_table([""] * 5), split_config(), needs_selection=False)


def test_nothing_left_to_train_on_is_an_error() -> None:
    table = people(4).with_columns(split=["train", "validation"] * 8)
    with pytest.raises(DataError, match="no labelled images"):
        make_splits(table, split_config(), needs_selection=True)


def test_rows_are_positions_in_the_table() -> None:
    table = people(6)
    splits = make_splits(table, split_config(), needs_selection=True)
    rows = np.concatenate([splits.rows(role) for role in (TRAIN, SELECTION, VALIDATION)])
    assert rows.dtype == np.int32
    assert sorted(rows) == list(range(len(table)))
    assert splits.frame["filename"].tolist() == table.rows["filename"].tolist()


def test_a_hundred_thousand_images_take_seconds() -> None:
    number = 100_000
    table = make_table(["a", "b"] * (number // 2), [f"person {i // 4}" for i in range(number)])
    started = time.perf_counter()
    splits = make_splits(table, split_config(), needs_selection=True)
    assert time.perf_counter() - started < 10, "1 s on an idle machine"
    assert len(splits.rows(VALIDATION)) == pytest.approx(0.2 * number, abs=8)
