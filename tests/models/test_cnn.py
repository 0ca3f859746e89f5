"""The footprint CNN: sizes, shapes, initial weights, and the two forms of its convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.footprints import baseline
from fpclass.errors import ConfigError
from fpclass.models.build import build_model

IMAGES = (2, 120, 80, 1)
# Counted by hand: 5x5 convolutions, dense layers and batch norm (scale and bias) on 16 x 27 x 17 features.
NUM_PARAMETERS = {
    "baseline": ({}, 894_306),
    "dropout": ({"dropout_rate": 0.5}, 894_306),
    "batch norm": ({"batch_norm": True}, 894_306 + 2 * 120),
    "small head": ({"dense_features": (64, 32)}, 156 + 2_416 + 7_345 * 64 + 65 * 32 + 33 * 2),
    "gap": ({"head": "gap", "dense_features": ()}, 156 + 2_416 + 17 * 2),
    "wide": ({"conv_features": (8, 16, 32), "dense_features": ()}, 208 + 3_216 + 12_832 + (32 * 11 * 6 + 1) * 2),
}


def model_config(**changes: object) -> ConfigDict:
    config = ConfigDict(baseline.get_config().model.to_dict())
    config.update(changes)
    return config


def init(config: ConfigDict, image_size: tuple[int, int] = (120, 80), channels: int = 1):
    model = build_model(config, 2, image_size)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, *image_size, channels)))
    return model, {name: variables[name] for name in ("params", "batch_stats") if name in variables}


@pytest.mark.parametrize(("changes", "expected"), NUM_PARAMETERS.values(), ids=NUM_PARAMETERS.keys())
def test_parameter_count(changes, expected):
    _, variables = init(model_config(**changes))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


@pytest.mark.parametrize(("image_size", "channels"), [((120, 80), 1), ((61, 47), 3)])
def test_both_forms_are_one_network(image_size, channels):
    images = np.random.default_rng(1).standard_normal((3, *image_size, channels), np.float32)
    found = []
    for form in ("polyphase", "direct"):
        model, variables = init(model_config(conv_form=form), image_size, channels)

        def loss(params, model=model):
            logits = model.apply({"params": params}, images, train=False)
            return jnp.sum(jnp.sin(logits)), logits

        found.append(jax.jit(jax.grad(loss, has_aux=True))(variables["params"]))
    (ours, logits), (theirs, expected) = found
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), ours, theirs)


def test_turned_image_is_refused():
    """80 x 120 flattens to the same length as 120 x 80: only an explicit check can tell."""
    model, variables = init(model_config())
    with pytest.raises(ValueError, match=r"\(80, 120\).*\(120, 80\)"):
        model.apply(variables, jnp.zeros((1, 80, 120, 1)), train=False)


def test_kaiming_initialisation():
    _, variables = init(model_config())
    params = variables["params"]
    for name, fan_in in (("conv1", 25), ("conv2", 150), ("dense1", 7344), ("dense2", 120)):
        kernel = np.asarray(params[name]["kernel"])
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.15 if kernel.size < 1000 else 0.05), name
        assert not np.any(params[name]["bias"]), name
    # Normal, not truncated at two deviations.
    assert np.abs(params["dense1"]["kernel"]).max() > 3 * np.sqrt(2 / 7344)


def test_dropout_only_in_training():
    model, variables = init(model_config(dropout_rate=0.5))
    images = jax.random.normal(jax.random.key(1), IMAGES)
    drawn = jax.jit(lambda seed: model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)}))
    plain = jax.jit(lambda: model.apply(variables, images, train=False))
    assert not np.allclose(drawn(0), drawn(1))
    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert not np.allclose(drawn(0), plain()), "without keys for dropout, and without it"


def test_images_too_small_for_the_convolutions():
    with pytest.raises(ConfigError, match=r"data\.image_size is \(120, 12\).*2 convolutions"):
        build_model(model_config(), 2, (120, 12))
    init(model_config(), (120, 16))


def test_unknown_model_names_those_that_exist():
    with pytest.raises(ConfigError, match=r"'resnet'.*cnn"):
        build_model(model_config(name="resnet"), 2, (120, 80))
