"""What a member's log says about its time, and that members have TensorBoard events."""

import pathlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fpclass.run.log import Log


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
