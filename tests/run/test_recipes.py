"""The recipes on small drawn data: merged classes and their errors, one stage at a time, what a run folder then has."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib import figure
from PIL import Image

from fpclass import cli
from fpclass.data.splits import TEST, VALIDATION
from fpclass.report import grids as figures_errors
from fpclass.run import error_analysis as error_report
from fpclass.run.best import BestModel
from fpclass.run.evaluate import evaluate
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import prepare

pytestmark = pytest.mark.promise

SMALL = [
    "--config.model.conv_features=(4,8)",
    "--config.train.num_epochs=2",
    "--config.train.batch_size=16",
    "--config.evaluate.num_resamples=50",
    "--config.explain.num_images=2",
    "--config.data.merge=(('vehicle',('ship','truck')),('animal',('cat','dog')))",
]
CONFIG = "--config=configs/vehicles_animals/vehicles_model1.py"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> pathlib.Path:
    """Four classes of noise around a colour each, 16 images a class."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, colour in (
        ("cat", (200, 120, 60)),
        ("dog", (160, 110, 60)),
        ("ship", (60, 90, 200)),
        ("truck", (60, 200, 90)),
    ):
        (folder / name).mkdir()
        for i in range(16):
            pixels = np.clip(rng.normal(colour, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}{i:02d}.png")
    return folder


def args(data: pathlib.Path, folder: pathlib.Path, *more: str) -> list[str]:
    return ["train", CONFIG, f"--config.data.root={data}", f"--workdir={folder}", *SMALL, *more]


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory):
    """A run whose stages were done one by one; with what each of them left behind."""
    folder = tmp_path_factory.mktemp("runs") / "vehicles"
    left = {}
    for stage in ("ingest", "prepare", "train", "evaluate"):
        assert cli.main(args(photographs, folder, f"--until={stage}")) == 0
        left[stage] = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert cli.main(args(photographs, folder)) == 0
    return folder, left


def test_every_stage_leaves_what_it_says_and_no_more(run):
    _, left = run
    assert {"audit.json", "splits.csv", "figures/sample_grid.png"} <= left["ingest"]
    assert "model.txt" not in left["ingest"]
    assert "model.txt" in left["prepare"]
    assert not any(name.startswith("checkpoints") for name in left["prepare"])
    assert any(name.startswith("checkpoints/best") for name in left["train"])
    assert "metrics.json" not in left["train"]
    assert {"metrics.json", "scores.json", "figures/predictions.png"} <= left["evaluate"]
    assert "figures/grad_cam_worst.png" not in left["evaluate"]


def test_stages_one_by_one_are_one_training(run, photographs, tmp_path):
    folder, _ = run
    assert cli.main(args(photographs, tmp_path / "at once")) == 0
    for name in ("predictions.csv", "metrics.json", "original_classes.csv"):
        assert (tmp_path / "at once" / name).read_bytes() == (folder / name).read_bytes()
    assert (folder / "figures/grad_cam_worst.png").is_file()


def test_the_network_as_a_table(run):
    text = (run[0] / "model.txt").read_text()
    assert text.startswith("blocks: ")
    assert "random weights" in text
    # 3x3 convolutions 3-4-4 and batch norm; 16 x 16 after the pool.
    assert any(line.split() == ["block1", "16", "x", "16", "x", "4", "268", "yes"] for line in text.splitlines())


def test_errors_by_original_class(run):
    folder, _ = run
    table = pd.read_csv(folder / "original_classes.csv").set_index("original")
    assert sorted(table.index) == ["cat", "dog", "ship", "truck"]
    assert table.loc["ship", "class"] == "vehicle"
    predictions = pd.read_csv(folder / "predictions.csv")
    assert table["num_images"].sum() == len(predictions)
    logits = predictions[["logit_vehicle", "logit_animal"]].to_numpy()
    is_cat = predictions["filename"].str.startswith("cat/").to_numpy()
    assert table.loc["cat", "num_wrong"] == np.sum(logits[is_cat].argmax(1) != 1)
    np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-5), "one output, written as two halves"
    pairs = pd.read_csv(folder / "original_pairs.csv")
    assert len(pairs) == 4
    assert not list(folder.rglob("original_*_test.*")), "there are no test images"
    for name in ("original_classes", "errors_by_original_class", "hardest_pair", "feature_maps"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5000
    said = json.loads((folder / "metrics.json").read_text())["findings"]
    assert said[0].startswith("by original class")
    assert any("hardest to tell apart" in line for line in said) == (pairs["auc"].min() < 1)


def test_labelled_test_images_are_counted_by_original_class_and_not_shown(run, tmp_path, monkeypatch):
    """The same training, with half of its training images set aside as the test part of the source."""
    folder = Run.open(pathlib.Path(shutil.copytree(run[0], tmp_path / "run")))
    prepared = prepare(folder.config)
    frame = prepared.splits.frame.copy()
    rows = np.flatnonzero(frame["role"] == "train")[::2]
    frame.loc[rows, "role"] = TEST
    with_test = dataclasses.replace(prepared, splits=dataclasses.replace(prepared.splits, frame=frame))
    galleries = []
    draw = figures_errors.error_gallery
    spy = lambda images, *more, **options: galleries.append(images) or draw(images, *more, **options)
    monkeypatch.setattr(figures_errors, "error_gallery", spy)
    metrics = evaluate(BestModel(folder, 2), with_test)
    validation = pd.read_csv(folder.path("original_classes.csv"))
    pd.testing.assert_frame_equal(validation, pd.read_csv(run[0] / "original_classes.csv"))
    table = pd.read_csv(folder.path("original_classes_test.csv")).set_index("original")
    predictions = pd.read_csv(folder.path("predictions.csv")).query("split == 'test'")
    originals = prepared.table.rows["original"].to_numpy(str)[rows]
    assert predictions["filename"].tolist() == prepared.table.rows["filename"].iloc[rows].tolist()
    is_wrong = predictions[["logit_vehicle", "logit_animal"]].to_numpy().argmax(1) != predictions["label"]
    for name in ("cat", "dog", "ship", "truck"):
        assert table.loc[name, "num_images"] == np.sum(originals == name)
        assert table.loc[name, "num_wrong"] == np.sum(is_wrong.to_numpy() & (originals == name))
    assert len(pd.read_csv(folder.path("original_pairs_test.csv"))) == 4
    assert folder.path("figures/original_classes_test.png").is_file()
    assert metrics["test"]["num_images"] == len(rows)
    assert [line for line in metrics["findings"] if line.startswith("test images, by original class")]
    assert metrics["findings"][0].startswith("by original class")
    shown = {image.tobytes() for images in galleries for image in images}
    assert shown
    assert not shown & {image.tobytes() for image in prepared.images[rows]}


def test_galleries_read_the_images_that_they_show_and_no_others(run, monkeypatch):
    """They may be on disk, and more than fit into memory; each still goes with its own title."""
    folder = Run.open(run[0])
    prepared = prepare(folder.config)
    rows, read, shown = prepared.splits.rows(VALIDATION), [], {}

    class Reader:
        def __getitem__(self, which):
            read.append(len(which))
            return prepared.images[which]

    def spy(images, chosen, titles, is_right, title, *_, **__):
        shown[title] = (images, chosen, titles, is_right)
        return figure.Figure()

    monkeypatch.setattr(error_report, "NUM_SHOWN", 2)
    monkeypatch.setattr(error_report, "NUM_PER_CLASS", 1)
    monkeypatch.setattr(error_report.Run, "path", lambda self, name: pathlib.Path("/dev/null"))
    monkeypatch.setattr(error_report.Run, "write_csv", lambda *_: None)
    monkeypatch.setattr("fpclass.report.style.save_figure", lambda *_: None)
    monkeypatch.setattr("fpclass.report.grids.error_gallery", spy)
    frame = pd.read_csv(run[0] / "predictions.csv", keep_default_na=False)
    predictions = Predictions(frame, prepared.table.classes).select(VALIDATION)
    error_report.show_errors(folder, dataclasses.replace(prepared, images=Reader()), predictions)
    assert len(rows) > 4 >= max(read)
    (pair,) = (value for title, value in shown.items() if "against" in title)
    images, chosen, titles, is_right = pair
    originals = prepared.table.rows["original"].to_numpy(str)[rows]
    for name, (position,) in chosen.items():
        of_name = np.flatnonzero(originals == name)
        worst = of_name[np.argmax(predictions.losses[of_name])]
        np.testing.assert_array_equal(images[position], prepared.images[rows[worst]])
        assert is_right[position] == ("is " not in titles[position])


@pytest.mark.figures
def test_a_study_counts_errors_by_original_class_out_of_fold(photographs, tmp_path):
    """Of one config with one seed the ensemble is that config: every image counts once, as its fold's member says."""
    folder = tmp_path / "study"
    study = ["study", "--configs", CONFIG.removeprefix("--config="), "--folds=2", "--seeds=1", f"--workdir={folder}"]
    assert cli.main([*study, f"--config.data.root={photographs}", *SMALL]) == 0
    said = pd.read_csv(folder / "out_of_fold.csv")
    assert len(said) == 64
    is_wrong = said[["logit_vehicle", "logit_animal"]].to_numpy().argmax(1) != said["label"]
    table = pd.read_csv(folder / "original_classes.csv").set_index("original")
    for name in ("cat", "dog", "ship", "truck"):
        of_name = said["filename"].str.startswith(f"{name}/")
        assert table.loc[name, "num_images"] == of_name.sum() == 16
        assert table.loc[name, "num_wrong"] == (of_name & is_wrong).sum()
    pairs = pd.read_csv(folder / "original_pairs.csv")
    assert len(pairs) == 4
    text = (folder / "study.md").read_text().partition("## Errors by original class")[2]
    assert "Of the ensemble" in text
    worst = table.iloc[0]
    told = f"most often wrong of {len(table)}: {table.index[0]} ({worst['num_wrong']} of 16"
    assert (told if worst["num_wrong"] else "no image of any of them is wrong") in text
    assert ("hardest to tell apart" in text) == (pairs["auc"].min() < 1)
    assert (folder / "figures/original_classes.png").stat().st_size > 5000


def test_scores_without_intervals_are_those_with(run):
    scores = json.loads((run[0] / "scores.json").read_text())
    metrics = json.loads((run[0] / "metrics.json").read_text())["validation"]
    assert scores["loss"] == metrics["log_loss"]["value"]
    assert scores["accuracy"] == metrics["accuracy"]["value"]


def test_an_unknown_stage_is_refused(photographs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(args(photographs, tmp_path, "--until=lunch"))
    assert "ingest" in capsys.readouterr().err
