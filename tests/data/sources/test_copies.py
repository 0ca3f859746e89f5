"""Augmented copies train beside their originals, wherever these go, and never judge."""

from __future__ import annotations

import pathlib
import pickle

import numpy as np
import pandas as pd
import pytest

from configs import base
from fpclass import cli
from fpclass.data.splits import EXCLUDED, PREDICT, TRAIN, find_groups
from fpclass.errors import DataError
from fpclass.experiment import load_config
from fpclass.run.prepare import prepare
from fpclass.run.train import make_member

FLAGS = [
    "--config.data.label_column=SEX", "--config.data.group_column=ID", "--config.data.image_size=(30, 20)",
    "--config.train.early_stopping=restore_best",
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(blobs, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("copies") / "saved"
    sheet = f"--output={folder.parent / 's.png'}"
    flags = ["--config=configs/base.py", f"--config.data.root={blobs}", *FLAGS, "--config.augment.max_rotation_deg=20"]
    assert cli.main(["augment-preview", *flags, sheet, "--images=99", "--copies=3", f"--save={folder}"]) == 0
    return folder


def prepared(blobs, *more: object):
    config = load_config("configs/base.py", [f"--config.data.root={blobs}", *FLAGS, *map(str, more)])
    return prepare(config)


def test_copies_train_beside_their_originals(blobs, saved):
    """The originals are divided as they are without; a copy trains where its original does, and nowhere else."""
    without, with_copies = prepared(blobs), prepared(blobs, f"--config.data.copies={saved}")
    num = len(without.table)
    table, frame = with_copies.table, with_copies.splits.frame
    pd.testing.assert_frame_equal(frame.iloc[:num], without.splits.frame)
    np.testing.assert_array_equal(with_copies.images[:num], without.images)
    copies = table.rows.iloc[num:]
    assert len(copies) == 3 * np.sum(frame["role"].iloc[:num] == TRAIN)
    assert set(frame["role"].iloc[num:]) == {TRAIN}
    originals = table.rows.set_index("filename").loc[copies["copy_of"]]
    for column in ("label", "raw_label", "group", "split"):
        assert copies[column].tolist() == originals[column].tolist()
    units = frame.set_index("filename")["unit"]
    assert units[copies["filename"]].tolist() == units[copies["copy_of"]].tolist()
    assert with_copies.splits.notes[-1] == f"{len(copies)} augmented copies train beside their originals"
    assert not [f for f in with_copies.audit.findings if set(f.filenames) & set(copies["filename"])]
    assert pickle.loads(pickle.dumps(table.read))(num) == (saved / copies["filename"].iloc[0][7:]).read_bytes()


@pytest.mark.parametrize("fold", range(3))
def test_in_every_fold_copies_follow(blobs, saved, fold):
    """Copies of images that validate now, or choose the epoch, are left out."""
    folds = ["--config.split.num_folds=3", f"--config.split.fold={fold}"]
    splits = prepared(blobs, *folds, f"--config.data.copies={saved}").splits
    frame = splits.frame.assign(copy_of=lambda f: f["filename"].str.extract(r"-(img_\d+)-copy")[0].fillna(""))
    role = frame.set_index("filename")["role"]
    copies = frame[frame["copy_of"] != ""]
    expected = [TRAIN if role[original] == TRAIN else EXCLUDED for original in copies["copy_of"]]
    assert copies["role"].tolist() == expected
    assert set(expected) == {TRAIN, EXCLUDED}
    assert "are left out, whose originals do not train" in splits.notes[-1]
    pd.testing.assert_series_equal(
        role.iloc[: -len(copies)], prepared(blobs, *folds).splits.frame.set_index("filename")["role"]
    )
    assert (role == PREDICT).sum() == 6


def test_training_sees_them_and_judges_the_same_images(blobs, saved):
    config = load_config("configs/base.py", [f"--config.data.root={blobs}", *FLAGS])
    without, with_copies = prepared(blobs), prepared(blobs, f"--config.data.copies={saved}")
    one, other = make_member(config, without), make_member(config, with_copies)
    added = np.arange(len(without.table), len(with_copies.table))
    np.testing.assert_array_equal(other.train_rows, [*np.asarray(one.train_rows), *added])
    np.testing.assert_array_equal(other.validation_rows, one.validation_rows)
    np.testing.assert_array_equal(other.selection_rows, one.selection_rows)
    assert with_copies.images[added].std(axis=(1, 2)).min() > 10, "decoded like the others"
    assert with_copies.sha256 != without.sha256
    assert with_copies.sha256_without_copies == without.sha256_without_copies == without.sha256, "a study compares them"


def refused(blobs, folder, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared(blobs, f"--config.data.copies={folder}")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_what_does_not_fit_is_refused(blobs, saved, tmp_path):
    refused(blobs, tmp_path, "augmented.csv", "augment-preview --save")
    frame = pd.read_csv(saved / "augmented.csv", dtype=str, keep_default_na=False)
    for changes, words in (
        ({"original": "img_9999"}, ("that csv", "does not have", "'img_9999'")),
        ({"label": "7"}, ("has the label '7'", "make the copies anew")),
        ({"filename": "same.png"}, ("one of them twice",)),
    ):
        frame.assign(**changes).to_csv(tmp_path / "augmented.csv", index=False)
        refused(blobs, tmp_path, *words)


@pytest.mark.parametrize("source", ["folder", "csv"])
def test_copies_are_no_data_set_of_their_own(saved, source):
    """They would validate each other."""
    config = base.get_config()
    config.data.update({"root": str(saved), "source": source})
    with pytest.raises(DataError, match=rf"augmented copies.*--config\.data\.copies={saved} beside"):
        prepare(config)


def test_copies_are_not_tied_to_anything(blobs, saved):
    table = prepared(blobs, f"--config.data.copies={saved}").table
    alone = prepared(blobs).table
    assert find_groups(table, grouped=True)[: len(alone)].tolist() == find_groups(alone, grouped=True).tolist()
