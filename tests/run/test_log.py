"""What a member's log says about its time, and that members have TensorBoard events."""

import math
import pathlib
import struct
from typing import Any

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from fpclass.cli import main
from fpclass.config import base_config
from fpclass.errors import RunError
from fpclass.run import log as logs_module
from fpclass.run.folder import Run
from fpclass.run.log import EpochBar, Log


@pytest.mark.parametrize(("is_batched", "seconds"), [(False, 6.0), (True, 3.0)])
def test_members_share_the_time_with_those_that_it_was_spent_on(
    tmp_path: pathlib.Path, is_batched: bool, seconds: float
) -> None:
    """Of four members two have stopped early: they cost nothing, except in a step of all of them together."""
    runs = [Run(tmp_path / f"{i}", base_config()) for i in range(4)]
    lines = {0: {"epoch": 7, "train_accuracy": 0.5}, 2: {"epoch": 7, "train_accuracy": 1.0}}
    with Log(runs) as log:
        log(lines, 12.0, is_batched=is_batched)
    expected = [[lines[0] | {"seconds": seconds}], [], [lines[2] | {"seconds": seconds}], []]
    assert [run.history() for run in runs] == expected


def events_of(run: Run) -> list[Any]:
    """The events of a run, by the format of TensorBoard's files: length, its checksum, the event, its checksum."""
    (path,) = run.path("tensorboard").glob("events.out.tfevents.*")
    data, events, event_type = path.read_bytes(), [], vars(event_pb2)["Event"]
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, check in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            assert struct.pack("<I", masked_crc32c(part)) == check
        events.append(event_type.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_events_of_an_epoch_are_in_the_file_before_the_next_one(tmp_path: pathlib.Path) -> None:
    runs = [Run(tmp_path / f"{i}", base_config()) for i in range(2)]
    with Log(runs) as log:
        log({1: {"epoch": 1, "train_loss": 0.5, "validation_roc_auc": None}}, 1.0, is_batched=False)
        first, second = events_of(runs[1])
        assert len(events_of(runs[0])) == 1
        log({1: {"epoch": 2, "train_loss": 0.25}}, 1.0, is_batched=False)
        assert len(events_of(runs[1])) == 3
    assert first.file_version == "brain.Event:2"
    assert second.step == 1
    scores = {value.tag: value.simple_value for value in second.summary.value}
    assert scores == pytest.approx({"train/loss": 0.5, "validation/roc_auc": math.nan}, nan_ok=True)


def test_events_on_a_full_disk_are_an_error_in_one_line(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setattr(logs_module, "_events_name", lambda: "tensorboard/events")
    run = Run(tmp_path, base_config())
    run.path("tensorboard").mkdir()
    run.path("tensorboard/events").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"tensorboard/events.*No space left.*--workdir"):
        Log([run])


def test_lines_have_the_name_of_what_they_say_the_seconds_and_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(logs_module.time, "perf_counter", lambda: now[0])
    with EpochBar(10, 0) as bar:
        for epoch, seconds, accuracy in ((1, 30.0, 0.7), (2, 4.0, None), (3, 4.0, 0.836), (4, 25.0, None)):
            now[0] += seconds
            scores = {} if accuracy is None else {"selection_accuracy": 0.8, "validation_accuracy": accuracy}
            bar({"epoch": epoch, "train_loss": 0.5, **scores})
    assert capsys.readouterr().out.splitlines() == [
        "epoch   1/10  train loss 0.500  selection accuracy 0.800  validation accuracy 0.700  30 s",
        "epoch   3/10  train loss 0.500  selection accuracy 0.800  validation accuracy 0.836  38 s, about 28 s left",
        "epoch   4/10  train loss 0.500  63 s, about 66 s left",  # after so long without a score
    ]


def test_a_long_epoch_says_how_far_it_is(blobs: pathlib.Path, tmp_path: pathlib.Path, monkeypatch, capsys):
    monkeypatch.setattr("fpclass.train.engine.PART_SECONDS", 0)  # a batch at a time
    flags = [f"data.root={blobs}", "data.image_size=(24,20)", "model.conv_features=(2,)", "model.dense_features=(2,)"]
    small = ["train.num_epochs=2", "train.batch_size=8", "evaluate.num_resamples=50", "explain.num_images=1"]
    command = ["train", "--config=configs/footprints/baseline.py"]
    command += [f"--config.{flag}" for flag in [*flags, *small]]
    assert main([*command, f"--workdir={tmp_path / 'silent'}"]) == 0
    assert "% of epoch" not in capsys.readouterr().err
    monkeypatch.setattr("fpclass.run.train.SILENT_SECONDS", -1)
    assert main([*command, f"--workdir={tmp_path / 'long'}"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if " % of epoch " in line]
    assert said == [f"{share} % of epoch {epoch}" for epoch in (1, 2) for share in (33, 67)]


def test_a_bar_keeps_the_scores_while_it_says_how_far_an_epoch_is(monkeypatch):
    monkeypatch.setattr(logs_module, "is_watched", lambda: True)
    with EpochBar(3, 0) as bar:
        bar.within(1, 0.5)
        assert bar._bar.postfix == "50 % of epoch 1"
        bar({"epoch": 1, "train_loss": 0.5, "validation_accuracy": 0.75})
        bar.within(2, 0.25)
        assert bar._bar.postfix == "train loss 0.500  validation accuracy 0.750  25 % of epoch 2"
