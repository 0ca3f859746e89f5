"""`fpclass augment-preview`: the sheet, the copies that training will see, and the files that are kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_settings import Unchanged

from configs import base
from fpclass import cli
from fpclass.errors import DataError
from fpclass.run import augment_preview
from fpclass.run import train as fitting
from fpclass.run.prepare import prepare
from fpclass.train.inputs import feature_inputs, image_inputs
from fpclass.train.inputs.feature_cache import compute_features
from fpclass.train.state import Dataset

pytestmark = pytest.mark.figures


def flags(blobs):
    return [
        "--config=configs/base.py",
        f"--config.data.root={blobs}",
        "--config.data.label_column=SEX",
        "--config.data.group_column=ID",
        "--config.data.image_size=(30, 20)",
        "--config.augment.max_rotation_deg=20",
    ]


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def config_of(blobs):
    config = base.get_config()
    config.data.update({"root": str(blobs), "label_column": "SEX", "group_column": "ID", "image_size": (30, 20)})
    config.augment.max_rotation_deg = 20.0
    return config


def test_the_command_writes_a_sheet_and_copies_with_their_table(blobs, tmp_path, capsys):
    sheet, folder = tmp_path / "sheet.png", tmp_path / "made" / "saved"
    command = ["augment-preview", *flags(blobs), "--images=4", "--copies=3", f"--output={sheet}", f"--save={folder}"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "on: flip_probability 0.5, brightness 0.2, contrast 0.2, max_rotation_deg 20\n" in said
    assert "4 of 4 images with 3 copies each" in said
    assert f"--config.data.copies={folder}" in said
    assert min(pixels_of(sheet).shape[:2]) > 300
    table = pd.read_csv(folder / augment_preview.TABLE_NAME, dtype=str)
    assert len(table) == 12
    assert table["label"].value_counts().to_dict() == {"0": 6, "1": 6}
    assert table.groupby("original")["copy"].apply(list).tolist() == [["1", "2", "3"]] * 4
    pixels = [pixels_of(folder / name) for name in table["filename"]]
    assert {one.shape for one in pixels} == {(30, 20)}
    assert len({one.tobytes() for one in pixels}) == 12
    for name, label in zip(table["filename"], table["label"], strict=True):
        assert name.startswith(f"{label}/")
    assert table["group"].str.startswith("10").all()  # the person, not the file
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]  # no scratch is left

    assert cli.main(command) == 2  # nothing is overwritten
    assert "holds something already; give a new folder to --save" in capsys.readouterr().err


@pytest.mark.parametrize("flips", [{}, {"flip_probability": 0.0, "flip_alternates": True}], ids=str)
def test_a_copy_is_what_training_sees_in_that_epoch(blobs, flips):
    config = config_of(blobs)
    config.augment.update(flips)
    prepared = prepare(config)
    member = fitting.make_member(config, prepared)
    rows, labels = member.train_rows[:5], prepared.table.labels.astype(np.int32)
    copies = augment_preview.make_copies(config, int(member.seed), rows, prepared.images[rows], labels[rows], 3)
    assert copies.shape == (5, 3, 30, 20, 1)
    dataset = Dataset(jnp.asarray(prepared.images), jnp.asarray(labels))
    draw = jax.jit(lambda epoch: image_inputs(config).draw(member, epoch, dataset, jnp.asarray(rows)))
    for epoch in range(3):
        seen = np.asarray(draw(jnp.int32(epoch))) * 0.5 + 0.5
        np.testing.assert_allclose(copies[:, epoch] / 255, seen, atol=0.51 / 255)


def test_a_copy_is_the_view_that_training_behind_frozen_stages_sees_in_that_epoch(blobs):
    config = config_of(blobs)
    config.finetune.cache_views = 2
    prepared = prepare(config)
    labels, rows = prepared.table.labels.astype(np.int32), np.array([3, 8, 11])
    features = compute_features(Unchanged(), {"params": {}}, prepared.images, labels, config, None)
    copies = augment_preview.make_copies(config, 5, rows, prepared.images[rows], labels[rows], 3)
    for epoch in range(3):
        seen = feature_inputs().draw(None, epoch, Dataset(jnp.asarray(features), labels), jnp.asarray(rows))
        np.testing.assert_allclose(copies[:, epoch] / 255, np.asarray(seen) * 0.5 + 0.5, atol=0.51 / 255)


def test_copies_keep_the_labels_of_the_source_and_what_splits_keep_together(blobs):
    table = prepare(config_of(blobs)).table
    names = np.where(table.labels == 1, "../a cat", "dog")
    merged = dataclasses.replace(table.with_columns(original=names), originals=("../a cat", "dog"))
    units = np.char.add("unit", (np.arange(len(table)) // 4).astype(str))
    rows = np.array([0, 1, 9])
    frame = augment_preview.copies_table(merged, units, rows, 2)
    assert frame["label"].tolist() == np.repeat(names[rows], 2).tolist()
    assert frame["group"].tolist() == ["unit0"] * 4 + ["unit2"] * 2
    assert frame["filename"].str.match(r"(_a_cat|dog)/0000").all()


def test_rows_are_chosen_evenly_over_the_classes():
    labels = np.array([0] * 10 + [1] * 3)
    chosen = augment_preview.choose_rows(np.arange(100, 113), labels, 7)
    assert chosen.tolist() == [100, 103, 106, 109, 110, 111, 112]
    assert len(augment_preview.choose_rows(np.arange(13), labels, 1000)) == 13
    assert augment_preview.choose_rows(np.arange(13), labels, 1).tolist() == [0]


def test_a_synthetic_sheet_says_so(tmp_path, capsys):
    source = ["--config.data.source=synthetic", "--config.data.synthetic.num_images=24"]
    source += ["--config.data.synthetic.image_size=(60, 40)", "--config.data.image_size=(30, 20)"]
    folder = tmp_path / "saved"
    sheet = f"--output={tmp_path / 's.png'}"
    command = ["augment-preview", "--config=configs/base.py", *source, "--images=2", "--copies=1", sheet]
    assert cli.main([*command, f"--save={folder}"]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    assert (pd.read_csv(folder / augment_preview.TABLE_NAME)["synthetic"] == "SYNTHETIC").all()


def test_a_failure_on_the_way_leaves_nothing(blobs, tmp_path, monkeypatch):
    config = config_of(blobs)
    table = prepare(config).table
    frame = augment_preview.copies_table(table, np.full(len(table), "nobody"), np.array([0, 1]), 2)
    copies = np.zeros((2, 2, 30, 20, 1), np.uint8)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(augment_preview.files, "write_csv", full)
    with pytest.raises(DataError, match=r"cannot write \(No space left on device\); free space or give another --save"):
        augment_preview.save_copies(tmp_path / "saved", frame, copies)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flag", "said"), [("--images=0", "at least 1"), ("--copies=x", "invalid")])
def test_wrong_numbers_are_named(flag, said, capsys):
    with pytest.raises(SystemExit):
        cli.main(["augment-preview", flag])
    assert said in capsys.readouterr().err


def test_an_ending_that_is_no_format_is_refused_before_anything_is_decoded(tmp_path, capsys):
    command = ["augment-preview", "--config=configs/base.py", f"--config.data.root={tmp_path / 'nothing'}"]
    assert cli.main([*command, f"--output={tmp_path / 'sheet.xyz'}"]) == 2
    assert capsys.readouterr().err.endswith("choose an ending of png, jpg, jpeg, webp, tif, tiff, pdf, svg, eps\n")


def test_another_number_of_classes_is_one_line(blobs, capsys, tmp_path):
    command = ["augment-preview", *flags(blobs), "--config.augment.class_probability=(1.0, 0.5, 0.2)"]
    assert cli.main([*command, f"--output={tmp_path / 's.png'}"]) == 2
    assert "but there are 2 classes; give one number for each" in capsys.readouterr().err
