"""Freezing, unfreezing, rates by stage, cached features, accumulation: on a small network of named stages."""

from __future__ import annotations

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from small_training import assert_equal_trees, member, small_config

from fpclass.errors import ConfigError
from fpclass.models.layers import Conv
from fpclass.models.network import DenseHead, Mode, Network, batch_norm, split_variables
from fpclass.train.device_engine import make_engine
from fpclass.train.finetune import Plan, make_plan
from fpclass.train.inputs import feature_inputs, image_inputs
from fpclass.train.inputs.feature_cache import compute_features
from fpclass.train.state import Dataset
from fpclass.train.step import parts_in_cache

SIZE = (16, 12)
NUM_IMAGES = 40


class Block(nn.Module):
    features: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x, mode: Mode):
        x = nn.relu(batch_norm(Conv(self.features, padding=1, name="conv")(x), mode, "bn"))
        return nn.Dropout(self.dropout_rate, deterministic=not mode.train)(x)


def network(**changes) -> Network:
    names = ("stem", "layer1_0", "layer1_1", "layer2_0")
    stages = tuple(Block(4, name=name, parent=None) for name in names)
    return Network(stages, DenseHead(2, name="head", parent=None), stem_kernel=("stem", "conv", "kernel"), **changes)


def config_of(**changes):
    """As `small_config`, without augmentation; the network takes the place of the config's."""
    return small_config(**changes)


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_IMAGES) % 2
    images = rng.integers(0, 256, (NUM_IMAGES, *SIZE, 1), dtype=np.uint8)
    images[labels == 1, :8] //= 2
    return Dataset(jnp.asarray(images), jnp.asarray(labels.astype(np.int32)))


def trained(config, model=None, data=None, num_epochs: int = 2, num_cached: int = 0):
    """States at the start and after every epoch."""
    engine = make_engine(model or network(), config, num_cached=num_cached)
    data = data or dataset()
    who = member(rows=range(16))
    states = [engine.init(who, data)]
    for epoch in range(num_epochs):
        before = jax.tree.map(jnp.copy, states[-1])  # its buffers are given away
        state, record = engine.train_epoch(states[-1], who, data, phase=engine.plan.phase_at(epoch))
        states[-1] = before
        states.append(state)
        assert np.isfinite(record["loss"])
    return states


def changed(before, after) -> set[str]:
    """Stages of which any leaf is not bit-identical."""
    one, two = flatten_dict(before), flatten_dict(after)
    return {path[0] for path in one if np.asarray(one[path]).tobytes() != np.asarray(two[path]).tobytes()}


STAGES = {"stem", "layer1_0", "layer1_1", "layer2_0"}


@pytest.mark.parametrize(
    ("changes", "learns"),
    [
        ({}, STAGES | {"head"}),
        ({"finetune__freeze_before": "layer1_1"}, {"layer1_1", "layer2_0", "head"}),
        ({"finetune__freeze_before": "head", "finetune__new_stem": True}, {"stem", "head"}),
    ],
)
def test_what_is_frozen_stays_bit_identical(changes, learns):
    config = config_of(**changes, optim__name="adamw", optim__weight_decay=0.1, train__ema_decay=0.9,
                       finetune__batch_norm="frozen_stats")  # fmt: skip
    states = trained(config)
    assert changed(states[0].params, states[-1].params) == learns
    assert changed(states[0].params, states[-1].average[0]) == learns
    assert changed(states[0].batch_stats, states[-1].batch_stats) == set()


@pytest.mark.parametrize(
    ("changes", "num_frozen"),
    [
        ({}, 0),
        ({"finetune__freeze_before": "layer1"}, 1),
        ({"finetune__freeze_before": "layer1_1"}, 2),
        ({"finetune__freeze_before": "layer2"}, 3),
        ({"finetune__num_frozen": 3}, 3),
        ({"finetune__freeze_before": "head"}, 4),
        ({"finetune__num_frozen": 4}, 4),
    ],
)
def test_stages_are_frozen_up_to_the_one_that_is_named(changes, num_frozen):
    assert make_plan(network(), config_of(**changes)).num_frozen == (num_frozen,)


def test_the_new_stem_learns_its_kernel_only():
    states = trained(config_of(finetune__freeze_before="head", finetune__new_stem=True))
    before, after = flatten_dict(states[0].params["stem"]), flatten_dict(states[-1].params["stem"])
    assert {path for path in before if not np.array_equal(before[path], after[path])} == {("conv", "kernel")}


def test_batch_norm_modes():
    def moved(mode: str, until: str = "") -> tuple[set[str], set[str]]:
        states = trained(config_of(finetune__batch_norm=mode, finetune__freeze_before=until))
        before, after = flatten_dict(states[0].params), flatten_dict(states[-1].params)
        norms = {path[0] for path in before if "bn" in path and not np.array_equal(before[path], after[path])}
        return changed(states[0].batch_stats, states[-1].batch_stats), norms

    assert moved("train") == (STAGES, STAGES)
    assert moved("frozen_stats") == (set(), STAGES)
    assert moved("frozen") == (set(), set())
    # The fault of the reference: frozen stages whose statistics drift.
    assert moved("train_all", "head") == (STAGES, set())
    assert moved("train", "layer2") == ({"layer2_0"}, {"layer2_0"})
    assert moved("auto") == (STAGES, STAGES)


def test_stages_unfreeze_one_after_the_other_with_fresh_optimisers():
    config = config_of(
        finetune__freeze_before="head", finetune__unfreeze=(("layer2", 1), ("layer1", 3)), finetune__batch_norm="frozen"
    )
    states = trained(config, num_epochs=4)
    steps = [changed(a.params, b.params) for a, b in itertools.pairwise(states)]
    later = {"head", "layer2_0"}
    assert steps == [{"head"}, later, later, later | {"layer1_0", "layer1_1"}]
    # Adam corrects its averages by the number of its own steps: layer1 begins with the size of a first step.
    counts = [int(group[0].count) for group in states[-1].opt_state]
    assert counts == [8, 6, 2]


def test_rates_by_stage():
    """The first step of Adam moves everything by the learning rate, whatever the gradient."""
    config = config_of(finetune__backbone_rate=0.5, finetune__rate_decay=0.1, optim__learning_rate=1e-3,
                       train__batch_size=16)  # fmt: skip
    states = trained(config, num_epochs=1)
    for stage, rate in {"head": 1e-3, "layer2_0": 5e-4, "layer1_1": 5e-5, "layer1_0": 5e-6, "stem": 5e-7}.items():
        name = "logits" if stage == "head" else "conv"
        move = np.abs(states[1].params[stage][name]["kernel"] - states[0].params[stage][name]["kernel"])
        np.testing.assert_allclose(np.median(move), rate, rtol=0.1)


def train_plain_and_cached(until: str, dropout_rate: float):
    """States of the same training, with the frozen stages computed at every step, and once."""
    model = network()
    model = model.clone(head=model.head.clone(dropout_rate=dropout_rate))
    config = config_of(finetune__freeze_before=until, finetune__batch_norm="frozen_stats")
    data = dataset()
    config.data.image_size = data.images.shape[1:3]
    plain = trained(config, model, data)
    num_cached = make_plan(model, config).num_frozen[-1]
    names = model.stage_names[:num_cached]
    frozen, _ = split_variables({"params": plain[0].params, "batch_stats": plain[0].batch_stats}, names)
    features = compute_features(
        model.prefix(num_cached), frozen, np.asarray(data.images), np.asarray(data.labels), config, None
    )
    assert features.shape[:2] == (NUM_IMAGES, 1)
    data = dataclasses.replace(data, images=jnp.asarray(features))
    cached = trained(config, model.suffix(num_cached), data, num_cached=num_cached)
    parts = [{path: x for path, x in flatten_dict(state.params).items() if path[0] not in names} for state in plain]
    return parts, [flatten_dict(state.params) for state in cached]


@pytest.mark.parametrize("until", [pytest.param("layer1", marks=pytest.mark.slow), "layer2"])
def test_cached_features_train_the_same_network(until):
    """But for rounding; with dropout, whose draws are the same too."""
    plain, cached = train_plain_and_cached(until, dropout_rate=0.5)
    for path, value in plain[-1].items():
        np.testing.assert_allclose(cached[-1][path], value, rtol=1e-4, atol=1e-6, err_msg=str(path))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    model = network().clone(head=DenseHead(2, dense_features=(5,), name="head", parent=None))
    common = {"finetune__batch_norm": "frozen_stats", "train__class_weights": "balanced", "model__dense_l2": 0.5}
    whole = trained(config_of(**common, optim__name="sgd", train__batch_size=16), model)
    divided = trained(config_of(**common, optim__name="sgd", train__batch_size=16, train__accumulate=parts), model)
    assert_equal_trees(whole[0].params, divided[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                 whole[-1].params, divided[-1].params)  # fmt: skip


def test_remat_changes_nothing_but_memory():
    plain, again = trained(config_of()), trained(config_of(train__remat=True))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain[-1].params, again[-1].params
    )


@pytest.mark.parametrize(
    ("batch_size", "changes", "has_batch_norm", "expected"),
    [
        (32, {}, False, 4),
        (21, {}, False, 3),
        (31, {}, False, 1),
        (32, {}, True, 1),
        (32, {"finetune__batch_norm": "frozen_stats"}, True, 4),
        (32, {"model__name": "cnn"}, False, 1),
    ],
)
def test_a_batch_goes_in_small_parts_on_a_cpu(batch_size, changes, has_batch_norm, expected):
    config = config_of(**{"model__name": "blocks"} | changes)
    inputs, asked = image_inputs(config), (batch_size, has_batch_norm)
    model, head = network(), network().suffix(4)
    assert parts_in_cache(model, config, inputs, *asked) == expected
    assert parts_in_cache(model, config, feature_inputs(), *asked) == expected
    assert parts_in_cache(head, config, feature_inputs(), *asked) == 1
    assert parts_in_cache(model, config, dataclasses.replace(inputs, num_devices=2), *asked) == 1


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    config = config_of(model__compute_dtype="bfloat16", finetune__batch_norm="frozen_stats")
    states = trained(config)
    assert {leaf.dtype for leaf in jax.tree.leaves((states[-1].params, states[-1].batch_stats))} == {
        jnp.dtype("float32")
    }
    engine = make_engine(network(), config)
    who, data = member(rows=range(16)), dataset()
    text = engine.train_parts[0].lower(states[-1], who, data, engine.hyper, 0, 2).as_text()
    products = [line for line in text.splitlines() if "stablehlo.convolution" in line or "dot_general" in line]
    assert products
    # But the gradient of the first layer's kernel, a product of patches, where that is quicker than its convolution.
    assert sum("bf16" not in line for line in products) <= 1
    full = make_engine(network(), config_of(finetune__batch_norm="frozen_stats"))
    rows = jnp.arange(NUM_IMAGES)
    logits = [e.predict(states[-1].params, states[-1].batch_stats, data.images, rows) for e in (engine, full)]
    assert logits[0].dtype == jnp.float32
    np.testing.assert_allclose(logits[0], logits[1], atol=0.1)
    assert not np.array_equal(logits[0], logits[1])


def test_the_penalty_is_on_hidden_dense_kernels():
    model = network().clone(head=DenseHead(2, dense_features=(5,), name="head", parent=None))
    common = {"optim__name": "sgd", "optim__momentum": 0.0, "optim__learning_rate": 0.1, "train__batch_size": 16}
    plain = trained(config_of(**common), model, num_epochs=1)
    penalised = trained(config_of(**common, model__dense_l2=0.5), model, num_epochs=1)
    before = plain[0].params["head"]["dense1"]["kernel"]
    # Its gradient is 2 x 0.5 x kernel.
    pull = plain[1].params["head"]["dense1"]["kernel"] - penalised[1].params["head"]["dense1"]["kernel"]
    np.testing.assert_allclose(pull, 0.1 * before, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        plain[1].params["head"]["logits"]["kernel"], penalised[1].params["head"]["logits"]["kernel"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetune__freeze_before": "layer9"}, "stem, layer1_0, layer1_1, layer2_0, head"),
        ({"finetune__num_frozen": 5}, "stem, layer1_0"),
        ({"finetune__freeze_before": "stem", "finetune__num_frozen": 1}, "one of them"),
        ({"finetune__freeze_before": "head", "finetune__unfreeze": (("layer1", 1), ("layer2", 2))}, "rising"),
        ({"finetune__freeze_before": "head", "finetune__unfreeze": (("layer2", 2), ("layer1", 1))}, "rising"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        make_plan(network(), config_of(**changes))


def test_a_network_without_stages_has_nothing_to_freeze():
    with pytest.raises(ConfigError, match=r"finetune\.freeze_before.*no stages"):
        make_plan(nn.Dense(2), config_of(finetune__freeze_before="layer1"))
    assert make_plan(nn.Dense(2), config_of()) == Plan()
