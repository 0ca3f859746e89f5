"""The recipes on small drawn data: merged classes and their errors, one stage at a time, what a run folder then has."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from matplotlib import figure
from PIL import Image

from fpclass import cli, error_report
from fpclass.data.splits import VALIDATION
from fpclass.predictions import Predictions
from fpclass.prepare import prepare
from fpclass.run import Run

SMALL = [
    "--config.model.conv_features=(4,8)",
    "--config.train.num_epochs=2",
    "--config.train.batch_size=16",
    "--config.evaluate.num_bootstrap=50",
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


@pytest.mark.slow
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
    for name in ("original_classes", "errors_by_original_class", "hardest_pair"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5000
    said = json.loads((folder / "metrics.json").read_text())["findings"]
    assert said[0].startswith("by original class")
    assert any("hardest to tell apart" in line for line in said) == (pairs["auc"].min() < 1)


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
    monkeypatch.setattr("fpclass.figure_style.save_figure", lambda *_: None)
    monkeypatch.setattr("fpclass.figures_errors.error_gallery", spy)
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


def test_scores_without_intervals_are_those_with(run):
    scores = json.loads((run[0] / "scores.json").read_text())
    metrics = json.loads((run[0] / "metrics.json").read_text())["validation"]
    assert scores["loss"] == metrics["log_loss"]["value"]
    assert scores["accuracy"] == metrics["accuracy"]["value"]


def test_an_unknown_stage_is_refused(photographs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(args(photographs, tmp_path, "--until=lunch"))
    assert "ingest" in capsys.readouterr().err
