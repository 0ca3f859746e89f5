"""Configs that differ in numbers alone share their programs, and each trains as its own numbers say."""

import numpy as np
import pytest
from small_training import SIZE, assert_equal_trees, member, noise_dataset, run, small_config

from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine
from fpclass.train.hyperparameters import KEYS, program_key, structure_of

ON = {
    "model__dense_l2": 1e-3,
    "optim__name": "sgd",
    "optim__learning_rate": 0.05,
    "optim__weight_decay": 0.1,
    "optim__gradient_clip_norm": 0.5,
    "optim__schedule": "cosine",
    "optim__warmup_epochs": 1.0,
    "train__num_epochs": 3,
    "train__label_smoothing": 0.1,
    "train__ema_decay": 0.5,
}
OTHERS = {
    "model__dense_l2": 0.1,
    "optim__learning_rate": 0.02,
    "optim__momentum": 0.5,
    "optim__weight_decay": 0.3,
    "optim__gradient_clip_norm": 0.1,
    "optim__warmup_epochs": 0.5,
    "train__num_epochs": 4,
    "train__label_smoothing": 0.3,
    "train__ema_decay": 0.1,
}


def engine_of(config):
    return make_engine(build_model(config.model, 2, SIZE), config)


@pytest.fixture(scope="module")
def shared():
    """An engine, compiled for one config."""
    config, dataset = small_config(**ON), noise_dataset()
    engine = engine_of(structure_of(config)).of_config(config)
    first, _ = run(config, dataset, engine=engine)
    return engine, first


def test_another_config_of_the_structure_compiles_nothing_and_is_what_it_is_alone(shared):
    engine, first = shared
    other, dataset = small_config(**ON | OTHERS), noise_dataset()
    programs = [function._cache_size() for function in (engine.init, *engine.train_parts, engine.evaluate_epoch)]
    state, records = run(other, dataset, engine=engine.of_config(other))
    assert [f._cache_size() for f in (engine.init, *engine.train_parts, engine.evaluate_epoch)] == programs
    alone, expected = run(other, dataset, engine=engine_of(other))
    assert_equal_trees(state, alone)
    assert_equal_trees(records, expected)
    assert not np.allclose(state.params["logits"]["kernel"], first.params["logits"]["kernel"])


@pytest.mark.parametrize("key", KEYS)
def test_a_number_is_data_and_whether_it_is_zero_is_not(key):
    section, name = key.split(".")
    config, other, off = (small_config(**ON) for _ in range(3))
    other[section][name] = OTHERS[f"{section}__{name}"]
    assert program_key(config) == program_key(other)
    off[section][name] = type(config[section][name])(0)
    assert program_key(off) != program_key(config)


def test_what_programs_are_made_of_tells_configs_apart():
    config = small_config()
    for changes in ({"model__dropout_rate": 0.3}, {"data__mean": (0.1,)}, {"optim__schedule": "plateau"}):
        assert program_key(small_config(**changes)) != program_key(config)
    renamed = small_config()
    renamed.name, renamed.seed, renamed.split.fold = "other", 7, 3
    assert program_key(renamed) == program_key(config)


def test_each_number_changes_what_the_shared_programs_train(shared):
    """Or one that a step forgets to read would be the structure's."""
    engine, first = shared
    for key, value in OTHERS.items():
        config = small_config(**ON | {key: value})
        hyper = engine.of_config(config).hyper
        state, dataset, who = engine.init(member(), noise_dataset()), noise_dataset(), member()
        for _ in range(3):
            state, _ = engine.train_parts[0](state, who, dataset, hyper, 0, 3)
        kernels = [tree["logits"]["kernel"] for tree in (state.average[0], first.average[0])]
        assert not np.array_equal(*kernels), key
