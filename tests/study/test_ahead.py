"""Programs that are compiled ahead: they are those that the config needs, and nobody waits for them in vain."""

from __future__ import annotations

import threading
import types

import jax
import numpy as np
import pytest
from small_training import SIZE, small_config

from fpclass.common.console import Interruption
from fpclass.config import base_config
from fpclass.data.table import Table, make_rows
from fpclass.study.ahead import Ahead
from fpclass.train import placement
from fpclass.train.engine import fit
from fpclass.train.members import of_one_size
from fpclass.train.state import Member


def members_of_two_sizes():
    rows = np.arange(12, dtype=np.int64)
    made = [
        Member(np.uint32(seed), rows[: 6 + seed], rows[8:10], rows[10:], np.ones(2, np.float32)) for seed in range(3)
    ]
    return of_one_size(made)


def test_a_config_finds_what_was_compiled_ahead_for_it_or_for_another_of_its_structure(caplog):
    names = [f"{i}" for i in range(12)]
    rows = make_rows(names, names, ["a", "b"] * 6, ("a", "b"))
    table = Table(rows, ("a", "b"), ("a", "b"), read=lambda i: b"", source="test")
    images, members = np.zeros((12, *SIZE, 1), np.uint8), members_of_two_sizes()
    changes = {"optim__name": "rmsprop", "train__num_epochs": 2}  # of no other test in this process
    placement.compile_ahead(small_config(**changes), table, images, members)
    for rate in (1e-3, 1e-2):
        config, records = small_config(**changes, optim__learning_rate=rate), []
        with jax.log_compiles():
            placed = placement.place_members(config, table, images, len(members))
            engine, dataset = placed.engine, placed.dataset
            for positions in placement.rounds_of(placed, members, config):
                stacked = engine.put_members([members[i] for i in positions])
                state = engine.init(stacked, dataset)
                state = fit(engine, state, stacked, dataset, config.train, records.append)
                every_row = placement.put(np.arange(12, dtype=np.int32), engine.mesh)
                engine.predict(state.best.params, state.best.batch_stats, dataset.images, every_row)
        assert len(records) == 2 * len(placement.rounds_of(placed, members, config))
    assert "mapped_over" not in caplog.text


@pytest.fixture
def compiling(monkeypatch):
    """Compiling that lasts until the event is set, and then fails."""
    done = threading.Event()

    def compile_ahead(*_):
        done.wait(60)
        raise ValueError("cannot be compiled")

    monkeypatch.setattr("fpclass.study.ahead.compile_ahead", compile_ahead)
    monkeypatch.setattr("fpclass.study.ahead.missing_trainees", lambda *_: [types.SimpleNamespace(member=None)])
    yield done
    done.set()


def test_an_interruption_does_not_wait_for_the_compiler_and_an_error_waits_for_its_turn(compiling):
    study = types.SimpleNamespace(members=lambda _: [], configs={"next": base_config()})
    ahead, epochs, interruption = Ahead(study), [], Interruption()
    on_epoch = ahead.beginning_with(
        "next", types.SimpleNamespace(table=None, images=None), lambda n, _: epochs.append(n)
    )
    on_epoch(2, ())
    on_epoch(2, ())
    assert epochs == [2, 2]
    assert sum(thread.name == "unstoppable" for thread in threading.enumerate()) == 1
    assert ahead.wait_for("another", interruption)
    interruption.signal_number = 15
    assert not ahead.wait_for("next", interruption)
    interruption.signal_number = 0
    compiling.set()
    assert ahead.wait_for("next", interruption), "its training says what is wrong"
