"""The training engine: what a step computes, what an epoch visits, what is kept; other members change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score
from small_training import (
    EVERYTHING,
    NUM_TRAIN,
    SIZE,
    assert_equal_trees,
    engine_of,
    member,
    noise_dataset,
    run,
    small_config,
)

from fpclass.augment.intensity import normalise
from fpclass.models.build import build_model
from fpclass.run.train import balanced_class_weights
from fpclass.train.device_engine import epoch_batches
from fpclass.train.engine import Pace, fit
from fpclass.train.predict import scores_of
from fpclass.train.state import PADDING


@pytest.fixture(scope="module")
def dataset():
    return noise_dataset()


@given(st.integers(0, 50), st.sampled_from([1, 7, 8, 40]), st.sampled_from([1, 8, 16]))
@settings(deadline=None, max_examples=15)
def test_an_epoch_visits_every_row_once_and_pads_at_the_end(epoch, num_rows, batch_size):
    who = member(rows=range(100, 100 + num_rows))
    batches = np.asarray(epoch_batches(who, jnp.asarray(epoch), batch_size))
    flat = batches.ravel()
    assert batches.shape == (-(-num_rows // batch_size), batch_size)
    assert sorted(flat[:num_rows]) == list(range(100, 100 + num_rows))
    assert np.all(flat[num_rows:] == PADDING)


def test_order_depends_on_seed_and_epoch_but_not_on_other_rows():
    order = lambda seed, epoch, rows: [
        r for r in np.asarray(epoch_batches(member(seed, rows), jnp.asarray(epoch), 8)).ravel() if r != PADDING
    ]
    everybody = order(0, 3, range(30))
    assert order(0, 3, reversed(range(30))) == everybody
    assert order(0, 3, range(0, 30, 2)) == [r for r in everybody if r % 2 == 0]
    assert order(0, 4, range(30)) != everybody != order(1, 3, range(30))


def test_an_epoch_equals_a_plain_loop_over_its_batches(dataset):
    """The scan against a loop written out with Optax, the short last batch counting as what it is."""
    config = small_config()
    model, who = build_model(config.model, 2, SIZE), member()
    start = engine_of(config).init(who, dataset)
    params, optimizer = jax.tree.map(jnp.copy, start.params), optax.adam(1e-3)
    opt_state = optimizer.init(params)
    losses, truth, said = [], [], []

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradients(params, images, labels):
        logits = model.apply({"params": params}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    for rows in np.asarray(epoch_batches(who, jnp.asarray(0), 8)):
        rows = rows[rows != PADDING]
        images, labels = normalise(dataset.images[rows], 0.5, 0.5), dataset.labels[rows]

        (loss, logits), grads = gradients(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(params, updates)
        losses += [float(loss)] * len(rows)
        said += logits.argmax(-1).tolist()
        truth += labels.tolist()
    state, record = engine_of(config).train_epoch(start, who, dataset)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, params)
    assert float(record["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(record["accuracy"]) == pytest.approx(accuracy_score(truth, said))
    expected = precision_score(truth, said, average="macro", zero_division=0)
    assert float(record["precision"]) == pytest.approx(expected)
    assert int(state.step) == 3
    assert int(state.epoch) == 1


def test_it_learns(dataset):
    state, records = run(
        small_config(train__num_epochs=25, train__eval_every_epochs=25, optim__learning_rate=0.01), dataset
    )
    assert records[-1]["train_accuracy"] > 0.95
    assert records[-1]["validation_accuracy"] > 0.8
    assert int(state.best.epoch) == 25


def test_resumed_equals_uninterrupted_bit_for_bit(dataset):
    config = small_config(**EVERYTHING)
    straight, records = run(config, dataset)
    half, first = run(config, dataset, until=2)
    assert int(half.epoch) == 2
    copied = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half)
    resumed, second = run(config, dataset, state=copied)
    assert_equal_trees(straight, resumed)
    assert [r["epoch"] for r in first + second] == [1, 2, 3, 4]
    assert_equal_trees(records, first + second)


def test_an_epoch_in_parts_equals_the_whole_bit_for_bit(dataset):
    config, who = small_config(**EVERYTHING), member()
    engine = engine_of(config)
    whole, record = engine.train_parts[0](engine.init(who, dataset), who, dataset, engine.hyper, 0, 3)
    state, first = engine.train_parts[0](engine.init(who, dataset), who, dataset, engine.hyper, 0, 1)
    assert (int(state.batch), int(state.epoch)) == (1, 0)
    assert float(first["loss"]) != float(record["loss"])
    state, rest = engine.train_parts[0](state, who, dataset, engine.hyper, 1, 3)
    assert (int(state.batch), int(state.epoch)) == (0, 1)
    assert_equal_trees(state, whole)
    assert_equal_trees(rest, record)


def test_stopped_in_the_midst_of_an_epoch_and_resumed_is_the_same_bit_for_bit(dataset, monkeypatch):
    monkeypatch.setattr("fpclass.train.engine.PART_SECONDS", 0)
    config = small_config(**EVERYTHING)
    straight, records = run(config, dataset)
    seen = []

    def after_part(settled):
        state = settled()
        seen.append((int(state.epoch), int(state.batch)))
        return len(seen) < 8

    half, first = run(config, dataset, after_part=after_part)
    assert seen == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    copied = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half)
    resumed, second = run(config, dataset, state=copied)
    assert_equal_trees(straight, resumed)
    assert [r["epoch"] for r in first + second] == [1, 2, 3, 4]
    assert_equal_trees(records, first + second)


def test_an_epoch_is_given_to_the_device_before_the_record_of_the_last_one_is_looked_at(dataset, monkeypatch):
    """But where the state is asked for, all records have come before it."""
    config, seen = small_config(), []
    engine = engine_of(config)

    def spy(*args):
        seen.append("train")
        return engine.train_parts[0](*args)

    spied = dataclasses.replace(engine, train_parts=(spy,))
    monkeypatch.setattr("fpclass.train.engine.PART_SECONDS", 1e9)

    def train(after_part):
        seen.clear()
        state, who = engine.init(member(), dataset), member()
        fit(spied, state, who, dataset, config.train, lambda record: seen.append(int(record["epoch"])), after_part)
        return seen

    assert train(lambda _: True) == [*["train"] * 4, 1, "train", 2, "train", 3, 4], "the first is in three parts"
    assert train(lambda settled: seen.append(int(settled().epoch)) or True)[-5:] == ["train", 3, 3, "train", 4]


def test_the_pace_follows_the_time_that_batches_took():
    pace = Pace()
    assert pace.num_batches == 1
    pace.took(1, 60.0)
    assert pace.num_batches == 1, "the first call compiled, which says nothing"
    pace.took(1, 0.01)
    assert pace.num_batches == 200
    pace.took(200, 10.0)
    assert pace.num_batches == 40
    pace.took(40, 400.0)
    assert pace.num_batches == 1


def test_seed_decides_everything(dataset):
    config = small_config(**EVERYTHING)
    one, again, other = (run(config, dataset, member(seed), until=1)[0] for seed in (1, 1, 2))
    assert_equal_trees(one, again)
    assert not np.allclose(one.params["logits"]["kernel"], other.params["logits"]["kernel"])


def test_members_can_train_together(dataset):
    """The functions vmap over members: what each learns is what it learns alone, up to rounding.

    Under SGD, since Adam's first steps have the size of the learning rate however small the gradient is.
    """
    engine = engine_of(small_config(**EVERYTHING, optim__name="sgd"))
    people = [member(seed=0), member(seed=5, rows=range(3, 3 + NUM_TRAIN))]
    together = jax.tree.map(lambda *x: jnp.stack(x), *people)
    states = jax.vmap(engine.init, (0, None))(together, dataset)
    states, records = jax.vmap(engine.train_parts[0], (0, 0, None, None, None, None))(
        states, together, dataset, engine.hyper, 0, 3
    )
    for m, who in enumerate(people):
        state, record = engine.train_epoch(engine.init(who, dataset), who, dataset)
        assert float(record["loss"]) == pytest.approx(float(records["loss"][m]), rel=1e-4)
        jax.tree.map(
            lambda a, b, m=m: np.testing.assert_allclose(a, b[m], rtol=1e-3, atol=1e-5), state.params, states.params
        )


def scripted(config, dataset, scores):
    """Runs `fit` with an evaluation whose selection scores are given, through the engine's own bookkeeping."""
    engine, who = engine_of(config), member()
    state = engine.init(who, dataset)
    epochs = []
    # A member whose selection rows are chosen so that the accuracy is what the script says is not to be had:
    # the labels of the selection rows are set to the current prediction where it should be right.
    for score in scores:
        state, _ = engine.train_epoch(state, who, dataset)
        logits = engine.predict(state.params, state.batch_stats, dataset.images, who.selection_rows)
        right = np.asarray(logits.argmax(-1))
        wrong = np.arange(len(right)) >= round(score * len(right))
        labels = np.asarray(dataset.labels).copy()
        labels[np.asarray(who.selection_rows)] = np.where(wrong, 1 - right, right)
        state, _ = engine.evaluate_epoch(state, who, dataset.replace(labels=jnp.asarray(labels)))
        epochs.append(jax.tree.map(np.asarray, state))
        if bool(state.is_stopped):
            break
    return epochs


def test_restore_best_keeps_the_best_epoch(dataset):
    config = small_config(train__early_stopping="restore_best")
    states = scripted(config, dataset, [3 / 9, 7 / 9, 5 / 9, 6 / 9, 4 / 9])
    assert len(states) == 5
    assert int(states[-1].best.epoch) == 2
    assert float(states[-1].best.score) == pytest.approx(7 / 9)
    assert_equal_trees(states[-1].best.params, states[1].params)
    assert not np.allclose(states[-1].params["logits"]["kernel"], states[1].params["logits"]["kernel"])


def test_fit_stops_when_the_state_says_so(dataset):
    config = small_config(
        train__early_stopping="patience", train__patience=1, train__num_epochs=40, optim__learning_rate=1e-9
    )
    state, records = run(config, dataset)
    assert len(records) == 2
    assert bool(state.is_stopped)
    again, more = run(config, dataset, state=state)
    assert not more
    assert_equal_trees(again, state)


def test_without_early_stopping_the_last_epoch_is_kept(dataset):
    state, _ = run(small_config(), dataset)
    assert int(state.best.epoch) == 4
    assert_equal_trees(state.best.params, state.params)


def test_evaluation_epochs(dataset):
    _, records = run(small_config(train__num_epochs=12, train__eval_every_epochs=5), dataset)
    assert [r["epoch"] for r in records if "validation_accuracy" in r] == [1, 5, 10, 12]


def test_class_weights_weigh_the_loss(dataset):
    """With all the weight on class 1 the network says nothing else."""
    config = small_config(train__num_epochs=8, optim__learning_rate=0.01)
    state, _ = run(config, dataset, member(weights=(0.0, 1.0)))
    logits = engine_of(config).predict(state.params, state.batch_stats, dataset.images, jnp.arange(40))
    assert np.all(logits.argmax(-1) == 1)
    np.testing.assert_allclose(balanced_class_weights(np.array([0, 0, 0, 1]), 2), [4 / 6, 2])


def test_a_loss_that_is_no_number_is_recorded_at_its_step(dataset):
    _, records = run(small_config(optim__learning_rate=1e30, optim__name="sgd", train__num_epochs=1), dataset)
    assert 0 < records[0]["bad_step"] < 3, "the first step is taken from weights that are still finite"


def test_predictions_do_not_depend_on_the_batch(dataset):
    config = small_config()
    engine = engine_of(config)
    state = engine.init(member(), dataset)
    images = jnp.tile(dataset.images, (8, 1, 1, 1))
    logits = engine.predict(state.params, state.batch_stats, images, jnp.arange(320))
    assert logits.shape == (320, 2)
    np.testing.assert_allclose(logits[40:80], logits[:40], rtol=1e-4, atol=1e-6)
    assert engine.predict(state.params, state.batch_stats, images, jnp.arange(0)).shape == (0, 2)


def test_scores_against_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels, mask = rng.normal(size=(50, 3)), rng.integers(0, 3, 50), np.arange(50) < 41
    scores = scores_of(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask))
    predicted, true = logits[mask].argmax(1), labels[mask]
    assert float(scores["accuracy"]) == pytest.approx(accuracy_score(true, predicted))
    assert float(scores["macro_f1"]) == pytest.approx(f1_score(true, predicted, average="macro"))
    assert float(scores["loss"]) == pytest.approx(log_loss(true, np.asarray(jax.nn.softmax(logits[mask]))), rel=1e-5)
