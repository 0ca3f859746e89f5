"""Squeeze-and-excitation: its numbers against NumPy, its parameters, and that without it nothing is different."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.footprints import baseline
from fpclass.models.build import build_model
from fpclass.models.layers import SqueezeExcitation


def make(squeeze_excitation, conv_form="direct"):
    config = ConfigDict(baseline.get_config().model.to_dict())
    config.update({"squeeze_excitation": squeeze_excitation, "conv_form": conv_form})
    model = build_model(config, 2, (120, 80))
    return model, partial(model.init, jax.random.key(0), jnp.zeros((1, 120, 80, 1)), train=False)


def num_parameters(squeeze_excitation):
    shapes = jax.eval_shape(make(squeeze_excitation)[1])
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize("reduction", [1, 2, 4, 100])
def test_it_is_mean_dense_relu_dense_sigmoid_times_the_input(reduction):
    x = np.random.default_rng(0).normal(size=(3, 7, 5, 6)).astype(np.float32) + 0.3
    block = SqueezeExcitation(reduction)
    shapes = jax.eval_shape(block.init, jax.random.key(1), x)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    squeeze, excite = params["squeeze"], params["excite"]
    assert squeeze["kernel"].shape == (6, max(1, 6 // reduction))
    hidden = np.maximum(x.mean(axis=(1, 2)) @ squeeze["kernel"] + squeeze["bias"], 0)
    weights = 1 / (1 + np.exp(-(hidden @ excite["kernel"] + excite["bias"])))
    scaled, stages = block.apply({"params": params}, x, mutable=["stages"])
    np.testing.assert_allclose(scaled, x * weights[:, None, None, :], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(stages["stages"]["scaled"], scaled)
    assert weights.std() > 0.05


@pytest.mark.parametrize(("reduction", "hidden"), [(2, (3, 8)), (4, (1, 4)), (16, (1, 1))])
def test_parameter_count(reduction, hidden):
    added = sum((channels + 1) * n + (n + 1) * channels for channels, n in zip((6, 16), hidden, strict=True))
    assert num_parameters(reduction) == 894_306 + added


def test_without_it_the_network_is_the_baseline():
    assert num_parameters(0) == 894_306
    plain, weighted = (jax.jit(make(ratio)[1])() for ratio in (0, 2))
    assert set(weighted["params"]) - set(plain["params"]) == {"squeeze_excitation1", "squeeze_excitation2"}
    for name, layer in plain["params"].items():  # an initial weight's address is its layer's name
        jax.tree.map(np.testing.assert_array_equal, layer, weighted["params"][name])


@pytest.mark.parametrize("conv_form", ["direct", "polyphase"])
def test_it_comes_after_each_pool(conv_form):
    model, init = make(2, conv_form)
    variables = jax.jit(init)()
    images = jax.random.normal(jax.random.key(2), (2, 120, 80, 1))
    logits, state = jax.jit(partial(model.apply, train=False, mutable=["stages"]))(variables, images)
    stages = state["stages"]
    for i in (1, 2):
        block = SqueezeExcitation(2)
        params = {"params": variables["params"][f"squeeze_excitation{i}"]}
        expected = block.apply(params, stages[f"conv{i}"]["pool"])
        np.testing.assert_allclose(stages[f"squeeze_excitation{i}"]["scaled"], expected, rtol=1e-5, atol=1e-6)
    without = jax.jit(partial(make(0, conv_form)[0].apply, train=False))({"params": variables["params"]}, images)
    assert np.abs(logits - without).max() > 0.01
