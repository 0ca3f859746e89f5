"""Small trainings that several tests share: the baseline on images of 24 x 20, a member, an engine per config."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from configs.footprints import baseline
from fpclass.experiment import from_json
from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine
from fpclass.train.engine import fit
from fpclass.train.state import Dataset, Member

SIZE = (24, 20)
NUM_TRAIN = 21
EVERYTHING = {
    "model__dropout_rate": 0.3,
    "model__batch_norm": True,
    "augment__flip_probability": 0.5,
    "optim__schedule": "plateau",
    "train__early_stopping": "restore_best",
}


def small_config(**changes):
    """The baseline on images of 24 x 20, batches of 8, 4 epochs, without augmentation."""
    config = baseline.get_config()
    config.data.image_size = SIZE
    config.model.conv_features, config.model.dense_features = (4,), (8, 6)
    config.train.batch_size, config.train.num_epochs, config.train.eval_every_epochs = 8, 4, 1
    config.augment.flip_probability = config.augment.brightness = config.augment.contrast = 0.0
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def member(seed=0, rows=range(NUM_TRAIN), weights=(1.0, 1.0)):
    return Member(
        seed=jnp.asarray(seed, jnp.uint32),
        train_rows=jnp.asarray(list(rows), jnp.int32),
        selection_rows=jnp.arange(21, 30),
        validation_rows=jnp.arange(30, 40),
        class_weights=jnp.asarray(weights, jnp.float32),
    )


@functools.cache
def engine_of_json(text):
    config = from_json(json.loads(text), "test")
    return make_engine(build_model(config.model, 2, SIZE), config)


def engine_of(config):
    """Engines by config, so that tests of one config compile once."""
    return engine_of_json(config.to_json())


def noise_dataset(seed=0):
    """40 images of noise; those of class 1 have a darker upper half."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(40) % 2).astype(np.int32)
    images = rng.integers(80, 256, (40, *SIZE, 1))
    images[labels == 1, : SIZE[0] // 2] -= 60
    return Dataset(jnp.asarray(images.astype(np.uint8)), jnp.asarray(labels))


def run(config, dataset, who=None, state=None, until=None, engine=None, after_part=lambda _: True):
    """Trains, with the engine of the config unless another is given, and returns the state and the records."""
    engine, who, records = engine or engine_of(config), who or member(), []

    def go_on(settled):
        return after_part(settled) and (until is None or int(settled().epoch) < until)

    state = engine.init(who, dataset) if state is None else state
    return fit(engine, state, who, dataset, config.train, records.append, go_on), records


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
