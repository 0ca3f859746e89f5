"""The command `study` up to its plan: where it goes, and the command that says all of it."""

from __future__ import annotations

import pathlib
import shlex

import pytest
from pictures import draw_picture

import fpclass
from fpclass import cli
from fpclass.api import training
from fpclass.study import commands
from fpclass.study.plan import default_folder


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The plans of studies that are not run, of images in two folders with a space in their name."""
    for label in ("cat", "dog"):
        (tmp_path / "my photos" / label).mkdir(parents=True)
        for seed in range(4):
            draw_picture(seed, (40, 50)).save(tmp_path / "my photos" / label / f"{seed}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    plans = []
    monkeypatch.setattr(commands, "run_study", lambda plan, **_: plans.append(plan) or 0)
    return plans


def test_studies_of_two_folders_of_images_do_not_meet(planned):
    for flags, folder in (
        ([], "runs/study-my photos"),
        (["--quick"], "runs/study-my photos-quick"),
        (["--workdir=x"], "x"),
    ):
        assert cli.main(["study", "my photos", "--folds=2", *flags]) == 0
        assert planned.pop().folder == pathlib.Path(folder)
    assert default_folder("") == pathlib.Path("runs/study")


def test_the_command_in_full_does_the_same(planned, capsys):
    flags = ["--quick", "--folds=2", "--strict", "--config.data.image_size=(32,32)"]
    assert cli.main(["study", "my photos", *flags]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("in full: ")]
    command = shlex.split(line.removeprefix("in full: "))
    given = command[command.index("study") :]
    assert cli.main(given) == 0
    first, second = planned
    assert (first.folder, first.num_folds, first.is_quick) == (second.folder, second.num_folds, second.is_quick)
    assert {name: dict(each) for name, each in first.configs.items()} == {
        name: dict(each) for name, each in second.configs.items()
    }
    assert "--strict" in given


def test_python_takes_the_same_folder(planned, monkeypatch):
    folders = []

    def stop(plan, **_):
        folders.append(plan.folder)
        raise RuntimeError("planned")

    monkeypatch.setattr(training, "run_study", stop)
    with pytest.raises(RuntimeError, match="planned"):
        fpclass.study([], "my photos", folds=2)
    assert folders == [pathlib.Path("runs/study-my photos")]
