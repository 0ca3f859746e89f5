"""Rounds of members: the next one trains while the one before is written, and shares nothing with it."""

from __future__ import annotations

import pathlib
import threading

import pytest
from test_study import BASELINE, study_args

from fpclass import cli
from fpclass.errors import RunError
from fpclass.run import train
from fpclass.study import training
from fpclass.study.study import Study, StudyMember


def in_rounds(*_: object) -> list[list[int]]:
    """In place of `rounds_of`: two rounds of three members."""
    return [[0, 1], [2]]


def members(folder: pathlib.Path) -> list[StudyMember]:
    return Study.open(folder).members("baseline")


@pytest.fixture(scope="module")
def straight(tmp_path_factory, blobs) -> pathlib.Path:
    """The folder of a study whose rounds are as they come; read only."""
    folder = tmp_path_factory.mktemp("rounds") / "straight"
    assert cli.main(study_args(blobs, folder, configs=(BASELINE,), seeds=1)) == 0
    return folder


def test_a_round_begins_while_the_one_before_is_written_and_does_not_go_on_from_its_checkpoint(
    straight: pathlib.Path, blobs: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is saved after every epoch, so that of the first round is there until the round is written."""
    begun, was_there = threading.Event(), list[bool]()
    fit, write, folder = train.fit, training._write, tmp_path / "study"
    checkpoint = folder / "members/baseline/unfinished"

    def begins(*args, **options):
        was_there.append(checkpoint.is_dir())
        if len(was_there) == 2:
            begun.set()
        return fit(*args, **options)

    def slowly(placement, trainees, *rest):
        assert begun.wait(60), "the next round waits for this one"
        write(placement, trainees, *rest)

    monkeypatch.setattr(training, "rounds_of", in_rounds)
    monkeypatch.setattr(train, "fit", begins)
    monkeypatch.setattr(training, "_write", slowly)
    assert cli.main(study_args(blobs, folder, configs=(BASELINE,), seeds=1)) == 0
    assert was_there == [False, True]
    assert not checkpoint.exists()
    assert not checkpoint.with_suffix(".json").exists()
    for own, other in zip(members(folder), members(straight), strict=True):
        assert [line["epoch"] for line in own.run.history()] == [1, 2, 3, 4]
        assert own.run.path("predictions.csv").read_bytes() == other.run.path("predictions.csv").read_bytes()
        assert own.run.path("splits.csv").read_bytes() == other.run.path("splits.csv").read_bytes()


def test_a_round_that_cannot_be_written_ends_the_study(blobs, tmp_path, monkeypatch, capsys) -> None:
    folder = tmp_path / "study"

    def full(*_) -> None:
        raise RunError(f"{folder}: cannot write")

    monkeypatch.setattr(training, "rounds_of", in_rounds)
    monkeypatch.setattr(training, "_write", full)
    assert cli.main(study_args(blobs, folder, configs=(BASELINE,), seeds=1)) == 2
    assert capsys.readouterr().err.strip().endswith("cannot write")
    assert not any(member.is_done for member in members(folder))
    assert (folder / "members/baseline/unfinished.json").is_file(), "what was not written is trained again"


def test_a_checkpoint_is_of_the_members_that_are_named_beside_it(tmp_path: pathlib.Path) -> None:
    unfinished = training.Unfinished(tmp_path)
    assert unfinished.first(["a", "b", "c"], [[0, 1], [2]]) == ([[0, 1], [2]], False)
    unfinished.begin(["b", "c"])
    unfinished.checkpoint.mkdir()
    assert unfinished.first(["a", "b", "c"], [[0, 1], [2]]) == ([[1, 2], [0]], True)
    unfinished.begin(["b", "c"])
    assert unfinished.checkpoint.exists(), "it is still theirs"
    assert unfinished.first(["a", "b"], [[0, 1]]) == ([[0, 1]], False), "one of them is trained"
    unfinished.begin(["a"])
    assert not unfinished.checkpoint.exists()
    unfinished.end()
    assert not list(tmp_path.iterdir())
