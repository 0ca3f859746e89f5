"""Images that a person's list leaves out: they neither train nor judge, and that is said."""

from __future__ import annotations

import json
import pathlib
import pickle

import numpy as np
import pandas as pd
import pytest

from fpclass import cli
from fpclass.data.sources.excluded import HOW_TO, list_to_edit
from fpclass.errors import DataError
from fpclass.experiment import load_config
from fpclass.run.prepare import prepare

KEYS = ["--config.data.label_column=SEX", "--config.data.group_column=ID", "--config.data.image_size=(24, 16)"]
OUT = ("img_0003", "img_0012")
NUM_IMAGES = 38
"""Of the fixture `blobs`; the last six are to be predicted."""


def prepared(data: pathlib.Path, path: pathlib.Path | None = None, text: str = "", *more: str):
    if path is not None:
        path.write_text(text, encoding="utf-8")
        more = (*more, f"--config.data.exclude={path}")
    return prepare(load_config("configs/base.py", [f"--config.data.root={data}", *KEYS, *more]))


@pytest.mark.parametrize(
    "text",
    [
        "img_0003\nimg_0012\n",
        '\ufefffilename,reason\r\nimg_0003,blurred\r\n\r\n  img_0012 , "torn, twice"\r\n# img_0011\r\n',
        "img_0003;Unschärfe, wohl\nimg_0012\tx\nimg_0012\n#img_0000\n",
        list_to_edit([("img_0003", "1", 0.2), ("img_0012", "0", 0.3), ("img_0011", "0", 0.4)], "abc", ["why"])
        .replace('#"img_0003', '"img_0003')
        .replace('#"img_0012', '"img_0012'),
    ],
    ids=["plain", "csv", "separators", "edited"],
)
def test_listed_images_are_left_out_before_splitting(blobs, tmp_path, text):
    without, whole = prepared(blobs, tmp_path / "list.csv", text), prepared(blobs)
    is_kept = ~whole.table.rows["filename"].isin(OUT).to_numpy()
    assert is_kept.sum() == len(whole.table) - 2 == len(without.table) == NUM_IMAGES - 2
    assert without.table.rows["filename"].tolist() == whole.table.rows["filename"][is_kept].tolist()
    np.testing.assert_array_equal(without.images[:], whole.images[:][is_kept])
    assert without.table.left_out == OUT
    assert not set(OUT) & set(without.splits.frame["filename"])
    read = pickle.loads(pickle.dumps(without.table.read))
    assert [read(i) for i in range(NUM_IMAGES - 2)] == [whole.table.read(i) for i in np.flatnonzero(is_kept)]
    assert without.sha256 != whole.sha256
    (note,) = [note for note in without.splits.notes if "data.exclude" in note]
    assert "2 images left out by" in note
    assert "(0: 1, 1: 1)" in note
    assert "img_0003" in without.audit.to_text()
    assert without.audit.summary["num_left_out"] == 2


def test_rows_to_predict_stay_and_what_matches_nothing_is_named(blobs, tmp_path):
    """A submission needs all of them."""
    made = prepared(blobs, tmp_path / "list.csv", "img_0003\nimg_0036\nimg_3\nimg_0003.png\n")
    assert len(made.table) == NUM_IMAGES - 1
    assert "img_0036" in set(made.table.rows["filename"])
    found = {finding.kind: finding for finding in made.audit.findings}
    assert found["not_left_out"].filenames == ("img_0036",)
    assert found["exclude_unmatched"].filenames == ("img_3", "img_0003.png")
    assert "names in data.exclude" in found["exclude_unmatched"].reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("img_3\nimg_0003.png,x\n", ("no image of", "img_3, img_0003.png", "such as img_0000")),
        ("# img_0003\n\n", ("lists no file", "delete the #")),
        (list_to_edit([("img_0003",)], ("filename",), ()), ("lists no file", "delete the #")),
        (None, ("cannot be read", "No such file")),
        ("x" * 140_000 + "\n", ("a line of 140000 characters cannot be read", "a file name per line")),
    ],
    ids=["matches nothing", "comments", "as written", "no file", "another file"],
)
def test_a_list_that_leaves_nothing_out_is_an_error(blobs, tmp_path, text, words):
    path = tmp_path / "list.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        prepared(blobs, None, "", f"--config.data.exclude={path}")
    assert "\n" not in str(caught.value)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_copies_go_with_their_originals(blobs, tmp_path):
    saved = tmp_path / "saved"
    flags = ["--config=configs/base.py", f"--config.data.root={blobs}", *KEYS, f"--output={tmp_path / 's.png'}"]
    assert cli.main(["augment-preview", *flags, "--images=99", "--copies=1", f"--save={saved}"]) == 0
    originals = pd.read_csv(saved / "augmented.csv", dtype=str)["original"]
    out = originals[0]
    made = prepared(blobs, tmp_path / "list.csv", f"{out}\n", f"--config.data.copies={saved}")
    assert made.table.copy_mask.sum() == len(originals) - 1
    assert out not in set(made.table.rows["copy_of"])
    assert made.table.left_out == (out,)


@pytest.mark.promise
def test_another_list_is_another_training(blobs, tmp_path, capsys):
    """The weights differ; the report says what was left out; a folder takes no other list."""
    path, folder = tmp_path / "list.csv", tmp_path / "run"
    path.write_text("img_0003\nimg_0012,wrong\n")
    small = ["--config.model.conv_features=(2,)", "--config.model.kernel_size=3", "--config.train.num_epochs=1",
             "--config.evaluate.num_resamples=20", "--until=evaluate"]  # fmt: skip
    flags = ["train", "--config=configs/base.py", f"--config.data.root={blobs}", *KEYS, *small]
    assert cli.main([*flags, f"--workdir={folder}", f"--config.data.exclude={path}"]) == 0
    assert cli.main([*flags, f"--workdir={tmp_path / 'whole'}"]) == 0
    losses = [json.loads((run / "log.jsonl").read_text().splitlines()[0])["train_loss"]
              for run in (folder, tmp_path / "whole")]  # fmt: skip
    assert losses[0] != losses[1]
    judged = pd.concat([pd.read_csv(folder / name) for name in ("predictions.csv", "splits.csv")])
    assert not set(OUT) & set(judged["filename"])
    assert "2 images left out by data.exclude" in "".join(
        json.loads((folder / "metrics.json").read_text())["split_notes"]
    )
    checklist = (folder / "checklist.md").read_text()
    assert f"images listed {NUM_IMAGES} → left out by a person's list 2 → in quarantine 0" in checklist
    assert "data.exclude: 2, neither trained on nor judged" in checklist
    assert "by a person's list" not in (tmp_path / "whole" / "checklist.md").read_text()

    path.write_text("# another comment\nimg_0012\nimg_0003\n")
    assert cli.main([*flags, f"--workdir={folder}", f"--config.data.exclude={path}"]) == 0, "it leaves out the same"
    path.write_text("img_0003\n")
    capsys.readouterr()
    assert cli.main([*flags, f"--workdir={folder}", f"--config.data.exclude={path}"]) == 2
    assert "or what data.exclude leaves out of them" in capsys.readouterr().err


def test_the_lines_above_a_list_are_comments():
    text = list_to_edit([('#1 "a".png', "b", 0.5)], ("filename", "label", "p"), ("why",))
    *head, last = text.splitlines()
    assert head == [f"# {line}" for line in ("why", *HOW_TO, "columns: filename, label, p")]
    assert last == '#"#1 ""a"".png","b",0.5'
