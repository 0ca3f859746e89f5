"""The final model: trained once more on all labelled images, for the rows to predict."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import draw_blobs

from fpclass import cli
from fpclass.run import refit
from fpclass.run import train as trainer

SMALL = ("--config.data.image_size=(16,16)", "--config.evaluate.num_resamples=20", "--config.explain.num_images=1")
CHOOSING = ("--config.train.early_stopping=restore_best", "--config.train.eval_every_epochs=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Images in the competition's format, some of them to be predicted."""
    folder = tmp_path_factory.mktemp("data")
    draw_blobs(folder)
    table = next(folder.glob("*.csv"))
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    frame.loc[frame.index[-4:], "SEX"] = ""
    frame.to_csv(table, index=False)
    return folder


def train(data: pathlib.Path, workdir: pathlib.Path, *flags: str) -> int:
    config = "--config=configs/footprints/baseline.py"
    return cli.main(["train", config, f"--config.data.root={data}", f"--workdir={workdir}", *SMALL, *flags])


@pytest.mark.promise
def test_a_refit_learns_from_all_labels_as_long_as_the_best_epoch(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = []
    fit = trainer.train
    monkeypatch.setattr(trainer, "train", lambda *args: members.append(args[3:]) or fit(*args))
    flags = ("--config.train.num_epochs=3", *CHOOSING)
    assert train(data, tmp_path / "run", *flags) == 0
    assert "--config.submit.refit=True` trains once more, on all" in capsys.readouterr().out
    plain = pd.read_csv(tmp_path / "run" / "test_predictions.csv")
    metrics = (tmp_path / "run" / "metrics.json").read_bytes()
    assert not (tmp_path / "run" / refit.FOLDER).exists()

    assert cli.main(["submit", str(tmp_path / "run"), "--config.submit.refit=True"]) == 0
    splits = pd.read_csv(tmp_path / "run" / "splits.csv")
    learnt = np.flatnonzero(splits["role"].isin(("train", "selection", "validation")))
    (member,) = members[-1]
    assert np.asarray(member.train_rows).tolist() == learnt.tolist()
    assert f"all {len(learnt)} labelled images" in capsys.readouterr().out

    config = json.loads((tmp_path / "run" / refit.FOLDER / "config.json").read_text())["config"]
    best = json.loads(metrics)["epoch"]
    assert (config["train"]["num_epochs"], config["train"]["early_stopping"]) == (best, "none")
    again = pd.read_csv(tmp_path / "run" / "test_predictions.csv")
    assert again["filename"].tolist() == plain["filename"].tolist()
    logits = [name for name in plain if name.startswith("logit_")]
    assert not np.allclose(again[logits], plain[logits])
    assert (tmp_path / "run" / "metrics.json").read_bytes() == metrics  # nothing is judged by what it learnt from


@pytest.mark.promise
def test_a_refit_that_is_done_is_not_done_again(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = ("--config.train.num_epochs=2", "--config.submit.refit=True")
    assert train(data, tmp_path / "run", *flags) == 0
    log = tmp_path / "run" / refit.FOLDER / "log.jsonl"
    before = log.stat().st_mtime_ns
    assert cli.main(["submit", str(tmp_path / "run")]) == 0
    assert log.stat().st_mtime_ns == before


def test_a_schedule_that_needs_images_that_choose_is_refused(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "run", "--config.submit.refit=True", "--config.optim.schedule=plateau") == 2
    assert "submit.refit is True" in capsys.readouterr().err


def test_a_training_ends_with_its_minutes_and_is_done(data: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    """Not before its first epoch, of which there are weights to keep; the numbers are those of that epoch."""
    flags = ("--config.train.num_epochs=200", "--config.train.max_minutes=0.001")
    assert train(data, tmp_path / "run", *flags) == 0
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert 1 <= len(log) < 100
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epoch"] >= 1
    assert "its 0.001 minutes are over" in capsys.readouterr().out
    assert train(data, tmp_path / "run", *flags) == 0
    assert "train     was done" in capsys.readouterr().out
    assert (tmp_path / "run" / "log.jsonl").read_text().splitlines() == log
