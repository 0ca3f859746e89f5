"""`fpclass compare`: what two runs differ in, and the images that flipped."""

from __future__ import annotations

import pathlib
import re
import shutil
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

import fpclass
from fpclass import cli
from fpclass.api.compare import Compared
from fpclass.api.flips import describe
from fpclass.experiment import load_config
from fpclass.stats.cohort import Cohort

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def right(folder: pathlib.Path) -> pd.Series:
    """Whether each validation image is right, by its name."""
    run = fpclass.load(folder)
    assert isinstance(run, fpclass.TrainedRun)
    rows = run.predictions[run.predictions["split"] == "validation"]
    return pd.Series(
        rows["label"].to_numpy() == rows[["logit_0", "logit_1"]].to_numpy().argmax(axis=1), rows["filename"]
    )


def test_it_says_what_flipped_and_for_whom(
    study: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (folder / "fold-0-seed-0" for folder in sorted((study / "members").iterdir()))
    assert cli.main(["compare", str(one), str(other), f"--output={tmp_path / 'flips.csv'}"]) == 0
    said = capsys.readouterr().out
    before, after = right(one), right(other)
    after = after[before.index]
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    assert f"{lost} right there and wrong here, {gained} the other way" in said
    flips = pd.read_csv(tmp_path / "flips.csv", dtype=str)
    assert sorted(flips["filename"]) == sorted(before.index[before != after])
    assert (flips["flip"] == "lost").sum() == lost
    change = (gained - lost) / len(before)
    (shown,) = re.findall(r"here: ([+-]\d\.\d{3})", said)
    assert float(shown) == pytest.approx(change, abs=5e-4), "the difference is that of the flips"
    assert re.search(r"config +\d+ keys? differ", said)
    if len(flips):
        person = flips["person"].value_counts().index[0]
        assert f"{person} (" in said


def test_the_commands_of_the_page_run(
    study: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [folder / "fold-0-seed-0" for folder in sorted((study / "members").iterdir())]
    for name, folder in zip(("photos", "other", "study"), (*members, study), strict=True):
        hidden = ("members", "figures", "tensorboard", "checkpoints")
        shutil.copytree(folder, tmp_path / "runs" / name, ignore=shutil.ignore_patterns(*hidden))
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^fpclass (\w+ [^ \n]+(?: runs/other)?(?: --\S+)?)", PAGE, flags=re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        assert cli.main(command.split()) == 0, command
    assert (tmp_path / "flips.csv").is_file()
    assert (tmp_path / "runs/photos/report.html").is_file()
    assert "the baseline" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_in_a_line(study: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = study / "members"
    first = sorted(members.iterdir())[0]
    assert cli.main(["compare", str(first / "fold-0-seed-0"), str(first / "fold-1-seed-0")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"judged on other images, or by other classes \(\d+ and \d+, 0 of them in both\)", said)
    assert cli.main(["compare", str(first / "fold-0-seed-0")]) == 2
    assert "two runs or more" in capsys.readouterr().err
    assert cli.main(["compare", str(study)]) == 0
    assert "the baseline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("units", "said"),
    [(["p0", "p0", "p1", "p1"], " clustered by person: p 0.300"),
     (["image a", "image a", "image b", "image c"], " clustered by copies of an image: p 0.300"),
     (["image a", "image b", "image c", "image d"], "by McNemar's test: p 0.300")],
)  # fmt: skip
def test_a_test_is_clustered_by_what_there_is(units: list[str], said: str) -> None:
    labels = np.array([0, 1, 0, 1])
    scores = {"mean": 0.5, "low": 0.4, "high": 0.6, "difference": 0.0, "difference_low": -0.1, "difference_high": 0.1}
    rows = [{"config": name, "metric": "accuracy", "verdict": "no", "p_mcnemar_clustered": 0.3} for name in "ab"]
    config = load_config("configs/base.py", [])
    compared = Compared(
        {name: cast(Any, [SimpleNamespace(config=config)]) for name in "ab"},
        "a",
        np.array(list("wxyz"), object),
        Cohort(labels, units, class_names=("cat", "dog")),
        np.array([""] * 4),
        dict.fromkeys("ab", np.log(np.full((4, 2), 0.5))),
        pd.DataFrame([row | scores for row in rows]),
    )
    assert said in "\n".join(describe(compared, "b"))
