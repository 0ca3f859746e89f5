"""Members that train at the same time: one after the other as alone, bit for bit; batched, up to rounding."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import SIZE, assert_equal_trees, member, noise_dataset, small_config
from test_study import EXP04, EXP04_NAME, SMALL, study_args

from fpclass import cli
from fpclass.common.parallel import fetch, member_mesh
from fpclass.models.build import build_model
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.train.device_engine import make_engine
from fpclass.train.engine import fit
from fpclass.train.members import divide_over_devices, plan_rounds, stack_members, take_member
from fpclass.train.placement import are_batched, batched_form
from fpclass.train.state import PADDING

EVERYTHING = {
    "model__dropout_rate": 0.3,
    "model__batch_norm": True,
    "augment__flip_probability": 0.5,
    "augment__mixup_alpha": 0.4,
    "optim__learning_rate": 0.01,
    "train__num_epochs": 9,
    "train__ema_decay": 0.9,
    "train__early_stopping": "patience",
    "train__patience": 2,
}
BATCHED = {"optim__name": "sgd", "model__dropout_rate": 0.3, "train__ema_decay": 0.9}


@pytest.fixture(scope="module")
def dataset():
    return noise_dataset(1)


def small_member(seed):
    """With fewer rows than `member()` in two roles and more in the third, and fewer steps per epoch: 2 instead of 3."""
    who = member(seed, rows=range(seed, seed + 12), weights=(1.0, 2.0))
    return who.replace(selection_rows=jnp.arange(21, 27), validation_rows=jnp.arange(27, 40))


PEOPLE = (member(0), small_member(3), small_member(7))
FILLER = member(0).replace(
    train_rows=jnp.full(21, PADDING), selection_rows=jnp.full(9, PADDING), validation_rows=jnp.full(13, PADDING)
)
"""Of the size of a stacked member, so that an engine with fillers is the same program."""


@functools.cache
def engine_of(together, **changes):
    """Each compiles once; the config comes with it."""
    config, mesh = small_config(**changes, hardware__together=together), member_mesh()
    alone = make_engine(build_model(batched_form(config, mesh), 2, SIZE), config)
    return config, divide_over_devices(alone, mesh, is_batched=are_batched(config, mesh))


def train(engine, who, dataset, config):
    """Trains from the start; the state and the records."""
    records = []
    state = fit(engine, engine.init(who, dataset), who, dataset, config.train, records.append)
    return fetch(state), records


@pytest.fixture(scope="module")
def trained(dataset):
    """With everything that a config can turn on: the members after training in sequence, and the small ones alone."""
    config, engine = engine_of("sequential", **EVERYTHING)
    together, records = train(engine, stack_members(PEOPLE, engine.mesh), dataset, config)
    return together, records, {m: train(engine.alone, PEOPLE[m], dataset, config) for m in (1, 2)}


def test_one_after_the_other_equals_alone_bit_for_bit(trained):
    together, _, alone = trained
    for m, (state, _) in alone.items():
        for name in ("step", "epoch", "params", "batch_stats", "opt_state", "average", "best", "is_stopped"):
            assert_equal_trees(getattr(take_member(together, m), name), getattr(state, name))


def test_a_member_that_stops_early_waits_for_the_others(trained):
    together, records, alone = trained
    assert min(together.epoch[:3]) < max(together.epoch[:3]) == len(records), "choose members that stop one by one"
    for m, (state, own) in alone.items():
        assert bool(together.is_stopped[m]) == bool(state.is_stopped)
        assert together.epoch[m] == len(own)
        for record, mine in zip(records, own, strict=False):
            # Other numbers of rows make other batches and sums of another length, which may round otherwise.
            assert record["train_loss"][m] == pytest.approx(mine["train_loss"], rel=1e-6)
            assert record["selection_loss"][m] == pytest.approx(mine["selection_loss"], abs=1e-6)
            assert record["validation_accuracy"][m] == pytest.approx(mine["validation_accuracy"])
        for record in records[len(own) :]:
            assert np.isnan(record["train_loss"][m])


def test_a_member_whose_loss_is_no_number_stops_and_the_others_do_not(trained, dataset):
    """The others are the same bits as beside a good one."""
    together, _, _ = trained
    config, engine = engine_of("sequential", **EVERYTHING)
    broken = member(0, weights=(1e38, 1e38))
    state, records = train(engine, stack_members([broken, *PEOPLE[1:]], engine.mesh), dataset, config)
    assert bool(state.is_stopped[0])
    assert int(state.epoch[0]) == 1
    for record in records:
        assert record["bad_step"].tolist()[:3] == [0, -1, -1], "it stays, so that a resume knows of it"
    for m in (1, 2):
        for name in ("step", "epoch", "params", "opt_state", "best"):
            assert_equal_trees(getattr(take_member(state, m), name), getattr(take_member(together, m), name))


def test_predictions_at_the_same_time(trained, dataset):
    together, _, alone = trained
    engine, rows, best = engine_of("sequential", **EVERYTHING)[1], jnp.arange(40), together.best
    logits = np.asarray(engine.predict(best.params, best.batch_stats, dataset.images, rows))
    for m, (state, _) in alone.items():
        own = engine.alone.predict(state.best.params, state.best.batch_stats, dataset.images, rows)
        np.testing.assert_allclose(logits[m], own, atol=1e-6)
    assert np.abs(logits[1] - logits[2]).max() > 0.01, "seeds differ"


def test_rounds_change_nothing_and_fillers_never_train(trained, dataset):
    """The same members in two rounds that are filled up: who else is there makes no difference."""
    together, _, _ = trained
    config, engine = engine_of("sequential", **EVERYTHING)
    for members in ((0,), (1, 2)):
        stacked = stack_members([*(PEOPLE[m] for m in members), *[FILLER] * (3 - len(members))], engine.mesh)
        fresh = fetch(engine.init(stacked, dataset))
        state, _ = train(engine, stacked, dataset, config)
        for position, m in enumerate(members):
            assert_equal_trees(take_member(state, position), take_member(together, m))
        for position in range(len(members), 3):
            assert_equal_trees(take_member(state, position), take_member(fresh, position))
            assert bool(state.is_stopped[position])


def largest_difference(batched, alone):
    """Largest difference between weights, relative to the largest weight of the same array."""
    each = jax.tree.map(lambda a, b: float(np.abs(a - b).max() / np.abs(b).max()), batched, alone)
    return max(jax.tree.leaves(each))


@pytest.mark.promise
def test_batched_equals_alone_up_to_rounding(dataset):
    """Over the first three epochs, 9 and 6 steps, under SGD, to 2e-6 of the largest weight of an array.

    Measured on CPU, the larger of two members: 2e-7 after 1, 2, 4, 8, 16, 32 and 64 epochs of SGD; with Adam 2e-7 after
    1 to 8, 3e-7 after 16 and 6e-7 after 64. So small a network multiplies rounding hardly at all; a large one does.
    """
    _, engine = engine_of("vmap", **BATCHED)
    assert engine.is_batched
    stacked = stack_members([PEOPLE[0], PEOPLE[1], FILLER], engine.mesh)
    states = engine.init(stacked, dataset)
    fresh = fetch(states)
    for _ in range(3):
        states, records = engine.train_epoch(states, stacked, dataset)
    for m in range(2):
        who = take_member(stacked, m)
        state = engine.alone.init(who, dataset)
        for _ in range(3):
            state, record = engine.alone.train_epoch(state, who, dataset)
        own = take_member(states, m)
        assert int(own.step) == int(state.step) == 3 * (3 - m)
        assert largest_difference(fetch(own.params), fetch(state.params)) < 2e-6
        assert float(records["loss"][m]) == pytest.approx(float(record["loss"]), rel=1e-5)
    assert_equal_trees(take_member(fetch(states), 2), take_member(fresh, 2))
    assert bool(states.is_stopped[2])


@pytest.mark.promise
def test_a_member_of_a_study_is_what_train_makes_of_its_fold_and_seed(blobs, tmp_path):
    """Bit for bit in its weights: other members, folds of other sizes and more devices change nothing."""
    alone, study = tmp_path / "alone", tmp_path / "study"
    fold = ["--config.split.num_folds=3", "--config.split.fold=1", "--config.seed=1", "--config.explain.num_images=1"]
    train = ["train", f"--config={EXP04}", f"--config.data.root={blobs}", f"--workdir={alone}", *SMALL, *fold]
    assert cli.main(train) == 0
    assert cli.main(study_args(blobs, study, configs=(EXP04,))) == 0
    member, mine = Run.open(study / "members" / EXP04_NAME / "fold-1-seed-1"), Run.open(alone)
    assert_equal_trees(BestModel(member, 2).variables, BestModel(mine, 2).variables)
    said, wanted = (run.read_csv("predictions.csv")[["filename", "logit_0", "logit_1"]] for run in (member, mine))
    assert said["filename"].tolist() == wanted["filename"].tolist()
    np.testing.assert_allclose(said.iloc[:, 1:], wanted.iloc[:, 1:], atol=1e-5)
    histories = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in run.history()] for run in (member, mine)
    ]
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_stacking_pads_rows_and_fills_up_devices(monkeypatch):
    monkeypatch.setattr("fpclass.train.members.put", lambda tree, *_: tree)
    who = stack_members(PEOPLE, types.SimpleNamespace(size=4))
    assert who.seed.tolist()[:3] == [0, 3, 7]
    assert who.class_weights.tolist()[:3] == [[1, 1], [1, 2], [1, 2]]
    assert [rows.shape for rows in (who.train_rows, who.validation_rows)] == [(4, 21), (4, 13)]
    assert who.train_rows[1].tolist() == [*range(3, 15), *[PADDING] * 9]
    assert who.selection_rows[1].tolist() == [*range(21, 27), *[PADDING] * 3]
    assert who.validation_rows[0].tolist() == [*range(30, 40), *[PADDING] * 3]
    for rows in (who.train_rows, who.selection_rows, who.validation_rows):
        assert (rows[3] == PADDING).all()


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@given(st.integers(1, 30), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_who_trains_one_after_the_other_has_a_device_alone(dataset, num_members, num_devices):
    spread = dataclasses.replace(engine_of("sequential")[1], mesh=types.SimpleNamespace(size=num_devices))
    rounds = plan_rounds(spread, [PEOPLE[0]] * num_members, dataset)
    assert [m for members in rounds for m in members] == list(range(num_members)), "every member once"
    sizes = [len(members) for members in rounds]
    assert max(sizes) <= num_devices
    assert max(sizes) - min(sizes) <= 1
    assert len(rounds) == -(-num_members // num_devices), "no more than needed"


def test_as_many_are_batched_as_fit_into_the_memory(dataset):
    _, batched = engine_of("vmap", **BATCHED)
    who = [PEOPLE[0]] * (4 * batched.mesh.size)
    state = num_bytes(jax.eval_shape(batched.alone.init, PEOPLE[0], dataset))
    assert len(plan_rounds(batched, who, dataset, 1.0)) == 1
    # Room for the data set and four and a half states, each of them twice; but a step needs some too.
    budget = dataset.images.nbytes + dataset.labels.nbytes + 9 * state
    assert len(plan_rounds(batched, who, dataset, budget / 1e9)) > 1


def test_nobody_to_train_is_no_round(dataset):
    assert plan_rounds(engine_of("sequential")[1], [], dataset) == []


def test_the_choice_for_cores_is_one_after_the_other():
    assert not engine_of("auto")[1].is_batched
