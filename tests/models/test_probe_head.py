"""What a probe reads of a network, and that features and head together are the network."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from fpclass.errors import ConfigError
from fpclass.models.build import build_model
from fpclass.models.network import Mode
from fpclass.models.probe import Moments, features_of, widths

BLOCKS = {"name": "blocks", "conv_features": (2, 3, 4), "convs_per_block": 1}


def network(size=(16, 24), num_classes=2, **model):
    config = base.get_config().model
    config.update({"head": "probe", **model})
    return build_model(config, num_classes, size)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("blocks", ("block1", "block2", "block3")),
        ("efficientnet_lite0", ("block2_1", "block3_1", "block5_2", "top")),
        ("resnet18", ("layer1_1", "layer2_1", "layer3_1", "layer4_1")),
        ("vit_b_16", ("block_6", "block_8", "block_10", "norm")),
    ],
)
def test_it_reads_the_ends_of_the_last_resolutions_or_the_second_half_of_the_tokens(name, stages):
    model = network((32, 32), **(BLOCKS if name == "blocks" else {"name": name}))
    assert model.head.stages == stages


def test_stages_are_named_in_full_or_by_their_beginning_in_any_order():
    model = network(name="efficientnet_lite0", probe_stages=("top", "block4"))
    assert model.head.stages == ("block4_2", "top")
    with pytest.raises(ConfigError, match=r"model\.probe_stages is 'layer9': the network's stages are stem"):
        network(name="efficientnet_lite0", probe_stages=("layer9",))


def test_its_features_are_the_moments_of_its_stages_and_its_logits_those_of_the_features():
    model = network(**BLOCKS, probe_stages=("block3", "block1"))
    images = jax.random.normal(jax.random.key(0), (3, 16, 24, 1))
    drawn = jax.jit(partial(model.init, train=False))(jax.random.key(1), images)
    variables = {"params": drawn["params"]}
    _, recorded = model.apply(variables, images, train=False, mutable=["stages"])
    taken = [np.asarray(recorded["stages"][f"{name}:out"]) for name in ("block1", "block3")]
    expected = np.concatenate([f(x, axis=(1, 2)) for x in taken for f in (np.mean, np.std)], axis=1)
    features = features_of(model).apply(variables, images, train=False)
    np.testing.assert_allclose(features, expected, atol=1e-3)  # 1e-6 below the root
    assert widths(model) == (4, 8)
    logits = model.head.apply({"params": variables["params"]["head"]}, features, method="classify")
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-6)


def test_a_class_token_is_no_place_of_the_image_and_registers_are_nothing():
    tokens = jnp.arange(12.0).reshape(1, 3, 4)
    features = {n: Moments(("any",), prefix_tokens=n).apply({}, [tokens], Mode())[0].tolist() for n in (0, 1, 2)}
    class_token, places = [0, 1, 2, 3], {0: [4, 5, 6, 7], 1: [6, 7, 8, 9], 2: [8, 9, 10, 11]}
    assert features[0][:4] == places[0]
    np.testing.assert_allclose(features[1], [*class_token, *places[1], 2, 2, 2, 2], atol=1e-5)
    np.testing.assert_allclose(features[2], [*class_token, *places[2], 0, 0, 0, 0], atol=2e-3)


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="that is for networks of stages, and cnn is none"):
        network(name="cnn")
    with pytest.raises(ConfigError, match="blocks does not read it with a probe"):
        network(**BLOCKS, dense_features=(4,))
