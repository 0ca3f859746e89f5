"""`fpclass dedupe`: what is kept, what is dropped, what is said; the originals stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import draw_picture, resized, saved_again, tree
from PIL import Image, ImageOps

from fpclass import cli
from fpclass.data.perceptual import Fingerprints
from fpclass.data.tidy import dedupe as module
from fpclass.data.tidy import sheets as figures_dedupe


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five pictures each, copies of some of them, and what else lies in a folder; read only."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(10):
        path = folder / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        draw_picture(k).save(path)
    resized(draw_picture(0), 2).save(folder / "a" / "larger.png")
    shutil.copy(folder / "a" / "2.png", folder / "a" / "the same.png")
    saved_again(draw_picture(4), quality=50).save(folder / "b" / "wrong class.jpg", quality=50)
    ImageOps.mirror(draw_picture(6)).save(folder / "a" / "mirrored.webp", quality=90)
    (folder / "b" / "broken.png").write_bytes((folder / "b" / "1.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("mine")
    return folder


def dedupe(folder: Path, output: Path, *more: str) -> int:
    return cli.main(["dedupe", str(folder), "--output", str(output), *more])


def read_list(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / "duplicates.csv", keep_default_na=False)


def clusters(found: pd.DataFrame) -> list[list[str]]:
    """Filenames by cluster, the kept one first."""
    return [members["filename"].tolist() for _, members in found.groupby("cluster")]


def test_copies_are_listed_shown_and_left_out_and_the_originals_stay(photos, tmp_path, capsys) -> None:
    before = tree(photos)
    output = tmp_path / "out"
    assert dedupe(photos, output) == 1, "a broken file"
    assert tree(photos) == before
    found = read_list(output)
    assert clusters(found) == [
        ["a/4.png", "b/wrong class.jpg"],
        ["a/2.png", "a/the same.png"],
        ["a/larger.png", "a/0.png"],
    ]
    assert found["decision"].tolist() == ["keep", "drop"] * 3
    assert found["how"].tolist() == ["", "saved again or resized", "", "same file", "", "saved again or resized"]
    assert found["contradiction"].tolist() == ["a, b"] * 2 + [""] * 4
    left = {name for name in before if name.endswith((".png", ".jpg", ".webp"))}
    left -= {"b/wrong class.jpg", "a/the same.png", "a/0.png", "b/broken.png"}
    clean = tree(output / "clean")
    assert clean == {name: before[name] for name in left}
    with Image.open(output / "sheets" / "sheet_001.png") as sheet:
        assert sheet.width > 500
    assert not (output / "sheets" / "sheet_002.png").exists()
    said = capsys.readouterr().out
    for part in (
        "15 images",
        "3 copies are dropped, from 3 clusters, 11 remain",
        "1 same file, 0 same pixels, 2 saved again or resized, 0 mirrored",
        "CONTRADICTORY CLASSES in 1 clusters",
        "a/4.png (kept) = b/wrong class.jpg",
        "b/broken.png",
        "(11 images)",
    ):
        assert part in said
    assert not [path for path in output.iterdir() if path.name[0] == "."]


def test_mirrored_copies_on_request_and_only_a_list(photos, tmp_path) -> None:
    output = tmp_path / "out"
    dedupe(photos, output, "--mirrored", "--list")
    found = read_list(output)
    assert ["a/6.png", "a/mirrored.webp"] in clusters(found)
    assert found.set_index("filename").loc["a/mirrored.webp", "how"] == "mirrored"
    assert not (output / "clean").exists()
    dedupe(photos, output)  # after looking at the list: into the same folder
    assert (output / "clean" / "a" / "mirrored.webp").exists()
    assert ["a/6.png", "a/mirrored.webp"] not in clusters(read_list(output))


def test_the_csv_of_the_clean_folder_names_what_is_in_it(tmp_path, capsys) -> None:
    folder = tmp_path / "prints"
    (folder / "images").mkdir(parents=True)
    for k in range(4):
        draw_picture(k).save(folder / "images" / f"img_{k}.png")
    saved_again(draw_picture(1), quality=40).save(folder / "images" / "img_4.jpg", quality=40)
    text = "filename,ID,SEX\nimg_0,1,0\nimg_1,2,1\nimg_2,3,0\nimg_3,4,\nimg_4,5,0.0\nnot there,6,1\n"
    (folder / "labels.csv").write_text(text)
    (folder / "SYNTHETIC.txt").write_text("drawn")
    assert dedupe(folder, tmp_path / "out", "--label-column", "SEX") == 0
    assert "CONTRADICTORY CLASSES in 1 clusters" in capsys.readouterr().out
    assert read_list(tmp_path / "out")["contradiction"].tolist() == ["0, 1"] * 2
    clean = tmp_path / "out" / "clean"
    assert (clean / "labels.csv").read_text() == text.replace("img_4,5,0.0\n", "")
    assert (clean / "SYNTHETIC.txt").exists()
    assert not (clean / "images" / "img_4.jpg").exists()


def test_an_image_to_predict_is_never_dropped_and_never_the_one_that_is_kept(tmp_path, capsys) -> None:
    folder = tmp_path / "prints"
    folder.mkdir()
    for k, picture in enumerate((resized(draw_picture(1), 2), draw_picture(1), draw_picture(1), draw_picture(2))):
        picture.save(folder / f"img_{k}.png")
    text = "filename,label\nimg_0,\nimg_1,a\nimg_2,a\nimg_3,b\n"
    (folder / "labels.csv").write_text(text)
    dedupe(folder, tmp_path / "out", "--label-column", "label")
    found = read_list(tmp_path / "out")
    assert found["filename"].tolist() == ["img_1.png", "img_2.png", "img_0.png"]
    assert found["decision"].tolist() == ["keep", "drop", "keep"]
    assert found["contradiction"].tolist() == [""] * 3
    assert (tmp_path / "out" / "clean" / "labels.csv").read_text() == text.replace("img_2,a\n", "")
    assert "1 images without a class are copies of others" in capsys.readouterr().out


def test_the_test_set_keeps_its_image(tmp_path, capsys) -> None:
    for split, picture in {
        "train": resized(draw_picture(1), 2),
        "val": draw_picture(2),
        "test": draw_picture(1),
    }.items():
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
        picture.save(tmp_path / "data" / split / "a" / "1.png")
        draw_picture(10 + len(split)).save(tmp_path / "data" / split / "b" / "2.png")
    dedupe(tmp_path / "data", tmp_path / "out")
    assert clusters(read_list(tmp_path / "out")) == [["test/a/1.png", "train/a/1.png"]]
    assert "ACROSS THE SPLITS in 1 clusters" in capsys.readouterr().out


def test_images_directly_in_the_test_folder_are_to_be_predicted(tmp_path, capsys) -> None:
    """As `data.source=folder` reads them: they have no class, and a submission needs every one of them."""
    folder = tmp_path / "data"
    for name in ("train/a/1.png", "train/b/2.png", "test/3.png", "test/4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_picture(2 if name.endswith("2.png") else 1).save(folder / name)
    dedupe(folder, tmp_path / "out")
    found = read_list(tmp_path / "out")
    assert found["filename"].tolist() == ["train/a/1.png", "test/3.png", "test/4.png"]
    assert set(found["decision"]) == {"keep"}
    assert found["label"].tolist() == ["a", "", ""]
    assert "CONTRADICTORY" not in capsys.readouterr().out


def test_of_the_same_size_the_least_compressed_is_kept(tmp_path) -> None:
    for quality in (30, 95, 60):
        path = tmp_path / "data" / f"{quality}.jpg"
        path.parent.mkdir(exist_ok=True)
        draw_picture(1).save(path, quality=quality)
    dedupe(tmp_path / "data", tmp_path / "out")
    assert clusters(read_list(tmp_path / "out")) == [["95.jpg", "60.jpg", "30.jpg"]]


def test_what_is_only_a_copy_of_a_copy_is_not_dropped(tmp_path, monkeypatch) -> None:
    """Frames of a film, each like the next one: the first is kept, and the first that is not like it."""
    frame = np.asarray(draw_picture(1, (64, 64), num_channels=1), float) * 0.6 + 40
    stripes = np.sin(np.arange(64) / 3)[None, :]
    (tmp_path / "film").mkdir()
    for k in range(7):
        Image.fromarray((frame + 5 * k * stripes).astype(np.uint8)).save(tmp_path / "film" / f"{k}.png")
    table = module.list_images(tmp_path / "film")
    facts = module.measure_images(table, lambda rows, total: rows)
    facts["num_bytes"] = range(1000, 993, -1)  # the first frames are preferred
    taken, take = [], Fingerprints.take
    monkeypatch.setattr(Fingerprints, "take", lambda prints, rows: taken.append(1) or take(prints, rows))
    found = module.find_duplicates(table, facts, 0.99)
    assert len(taken) <= 1, "copied for every frame that stays, the prints of a long film take the square of its length"
    dropped = found[found["decision"] == "drop"]
    assert (found["decision"] == "keep").sum() > 1, "one cluster of all frames"
    assert (dropped["similarity"] >= 0.99).all()
    assert found["filename"].is_unique
    monkeypatch.setattr(module, "NUM_PAIRS", 1)  # one image after the other
    assert module.find_duplicates(table, facts, 0.99).equals(found)


def test_nothing_to_drop(tmp_path, capsys) -> None:
    (tmp_path / "data").mkdir()
    for k in range(3):
        draw_picture(k).save(tmp_path / "data" / f"{k}.png")
    assert dedupe(tmp_path / "data", tmp_path / "out") == 0
    assert "0 copies are dropped, from 0 clusters, 3 remain" in capsys.readouterr().out
    assert len(read_list(tmp_path / "out")) == 0
    assert len(tree(tmp_path / "out" / "clean")) == 3
    assert not (tmp_path / "out" / "sheets").exists()


def test_an_interrupted_copy_leaves_no_clean_folder(photos, tmp_path, monkeypatch) -> None:
    copies = []

    def interrupted(source, target):
        copies.append(target)
        if len(copies) == 3:
            raise KeyboardInterrupt
        return shutil.copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copy2", interrupted)
        assert dedupe(photos, tmp_path / "out") == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["duplicates.csv", "sheets"]
    dedupe(photos, tmp_path / "out")
    assert (tmp_path / "out" / "clean").is_dir()


@pytest.mark.parametrize(
    ("output", "part"),
    [("photos/out", "inside"), ("photos", "inside"), (".", "inside"), ("full", "holds mine already")],
)
def test_output_where_it_must_not_be(tmp_path, output, part, capsys) -> None:
    (tmp_path / "photos").mkdir()
    draw_picture(1).save(tmp_path / "photos" / "1.png")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    before = tree(tmp_path)
    assert dedupe(tmp_path / "photos", tmp_path / output) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.count("\n") == 1
    assert tree(tmp_path) == before


def test_folders_without_images(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for name, part in {"empty": "no images", "gone": "no such folder"}.items():
        assert dedupe(tmp_path / name, tmp_path / "out") == 2
        assert part in capsys.readouterr().err
    assert cli.main(["dedupe", str(tmp_path / "empty"), "--output", str(tmp_path / "out"), "--config.seed=1"]) == 2


def test_a_large_cluster_and_many_clusters_fit_the_sheets(tmp_path) -> None:
    panel = figures_dedupe.Panel(np.zeros((20, 30, 1), np.uint8), "a/very/long/path/of/a/file.png", ("30 x 20",), "a")
    rows = [figures_dedupe.Cluster(k, (panel,) * figures_dedupe.COLUMNS, 40) for k in range(figures_dedupe.ROWS)]
    figure = figures_dedupe.duplicates_sheet(rows, 2, 3)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["and 34 more"] * figures_dedupe.ROWS
    assert len(figure.axes) == figures_dedupe.ROWS * figures_dedupe.COLUMNS
