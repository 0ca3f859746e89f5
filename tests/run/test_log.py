"""What a member's log says about its time, and that members have TensorBoard events."""

import pathlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fpclass.run import log as logs_module
from fpclass.run.log import EpochBar, Log


@pytest.mark.parametrize(("is_batched", "seconds"), [(False, 6.0), (True, 3.0)])
def test_members_share_the_time_with_those_that_it_was_spent_on(
    tmp_path: pathlib.Path, is_batched: bool, seconds: float
) -> None:
    """Of four members two have stopped early: they cost nothing, except in a step of all of them together."""
    logs: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    runs = [SimpleNamespace(append_history=log.append, path=(tmp_path / f"{i}").joinpath) for i, log in enumerate(logs)]
    lines = {0: {"epoch": 7, "train_accuracy": 0.5}, 2: {"epoch": 7, "train_accuracy": 1.0}}
    with Log(cast(Any, runs)) as log:
        log(lines, 12.0, is_batched=is_batched)
    assert logs == [[lines[0] | {"seconds": seconds}], [], [lines[2] | {"seconds": seconds}], []]
    assert all(list((tmp_path / f"{i}" / "tensorboard").glob("events.*")) for i in range(4))


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
