"""Classes that are learnt as several: what training sees, what predictions add up to, and which configs say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fpclass.augment.intensity import normalise
from fpclass.config import subclass_counts
from fpclass.errors import ConfigError
from fpclass.experiment import load_config
from fpclass.models.layers import merge_logits
from fpclass.run.prepare import prepare
from fpclass.train.placement import engine_for
from fpclass.train.state import Member
from fpclass.train.task import make_task

COLOURS = {"cat": (220, 40, 40), "dog": (40, 220, 40), "ship": (40, 40, 220), "truck": (220, 220, 40)}
MERGE = "--config.data.merge=(('vehicle',('truck','ship')),('animal',('cat','dog')))"
SMALL = [
    MERGE,
    "--config.model.output=softmax",
    "--config.model.subclasses=True",
    "--config.model.conv_features=(8,)",
    "--config.model.block_dropout_rate=0",
    "--config.train.batch_size=16",
    "--config.data.image_size=(8,8)",
]
CONFIG = "configs/vehicles_animals/vehicles_model1.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Twelve images of each of four colours, two of which are a class each; a network after 30 epochs of them."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(12):
            pixels = np.clip(rng.normal(colour, 25, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    config = load_config(CONFIG, [f"--config.data.root={folder}", "--config.optim.learning_rate=0.01", *SMALL])
    prepared = prepare(config)
    task = make_task(config, prepared.table, prepared.images)
    dataset = jax.tree.map(jnp.asarray, task.dataset)
    engine = engine_for(dataset.images, task.model, config)
    rows = jnp.arange(48, dtype=jnp.int32)
    member = Member(jnp.array(0), rows, rows[:0], rows, jnp.ones(2))
    state = engine.init(member, dataset)
    for _ in range(30):
        state, record = engine.train_epoch(state, member, dataset)
    return config, prepared.table, task.model, dataset, engine, state, record


def test_subclasses_are_numbered_as_the_config_lists_them(trained):
    _, table, _, dataset, *_ = trained
    order = np.array(["truck", "ship", "cat", "dog"])
    assert order[np.asarray(dataset.sublabels)].tolist() == table.rows["original"].tolist()
    np.testing.assert_array_equal(np.asarray(dataset.sublabels) // 2, dataset.labels)


def test_training_tells_subclasses_apart_and_predictions_are_of_classes(trained):
    config, _, model, dataset, engine, state, record = trained
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = normalise(dataset.images, config.data.mean, config.data.std)
    rng = {"dropout": jax.random.key(0)}
    fine, _ = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rng)
    assert fine.shape == (48, 4)
    assert np.mean(fine.argmax(1) == dataset.sublabels) > 0.95
    assert float(record["accuracy"]) > 0.95, "of classes, also while training"
    predicted = engine.predict(state.params, state.batch_stats, dataset.images, jnp.arange(48))
    assert predicted.shape == (48, 2)
    assert np.mean(predicted.argmax(1) == dataset.labels) > 0.95


def test_probabilities_of_subclasses_add_up():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(7, 6)) * 3, jnp.float32)
    merged = jax.nn.softmax(merge_logits(logits, (1, 3, 2)))
    parts = jax.nn.softmax(logits)
    expected = np.stack([parts[:, :1].sum(1), parts[:, 1:4].sum(1), parts[:, 4:].sum(1)], axis=1)
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    assert merge_logits(logits, ()) is logits


def test_subclasses_are_those_of_the_merged_classes():
    merge = "(('vehicle',('truck','ship','dog')),('animal',('cat',)))"
    assert subclass_counts(load_config(CONFIG, [f"--config.data.merge={merge}", *SMALL[1:]])) == (3, 1)
    with pytest.raises(ConfigError, match=r"with classes in data\.merge"):
        load_config(CONFIG, ["--config.data.merge=()", *SMALL[1:]])


def test_one_output_has_no_subclasses():
    with pytest.raises(ConfigError, match=r"model\.output=softmax"):
        load_config(CONFIG, [*SMALL, "--config.model.output=sigmoid"])
