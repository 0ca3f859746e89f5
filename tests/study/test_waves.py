"""What a member's log says about its time."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fpclass.study import waves as study_training


@pytest.mark.parametrize(("is_batched", "seconds"), [(False, 6.0), (True, 3.0)])
def test_members_share_the_time_with_those_that_it_was_spent_on(is_batched, seconds):
    """Of four members two have stopped early: they cost nothing, except in a step of all of them together."""
    logs: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    members = [
        SimpleNamespace(name=f"{i}", run=SimpleNamespace(append_history=log.append)) for i, log in enumerate(logs)
    ]
    wave = SimpleNamespace(members=members, prepared=[None] * 4, rows=[None] * 4)
    company = SimpleNamespace(is_batched=is_batched, engine=SimpleNamespace(batch_size=8))
    record = {"epoch": 7, "train_accuracy": np.array([0.5, np.nan, 1.0, np.nan]), "step_loss": np.zeros((4, 3))}
    study_training._log(cast(Any, wave), record, cast(Any, company), 12.0)
    line = {"epoch": 7, "train_accuracy": 0.5, "seconds": seconds}
    assert logs == [[line], [], [line | {"train_accuracy": 1.0}], []]
