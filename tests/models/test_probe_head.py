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
from fpclass.models.network import Mode, moments
from fpclass.models.probe import Pooled, covariances, features_of, random_signs, widths

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
    features = {n: Pooled(("any",), prefix_tokens=n).apply({}, [tokens], Mode())[0].tolist() for n in (0, 1, 2)}
    class_token, places = [0, 1, 2, 3], {0: [4, 5, 6, 7], 1: [6, 7, 8, 9], 2: [8, 9, 10, 11]}
    assert features[0][:4] == places[0]
    np.testing.assert_allclose(features[1], [*class_token, *places[1], 2, 2, 2, 2], atol=1e-5)
    np.testing.assert_allclose(features[2], [*class_token, *places[2], 0, 0, 0, 0], atol=2e-3)


def covariance(x):
    places = np.asarray(x, np.float64).reshape(len(x), -1, x.shape[-1])
    places = places - places.mean(axis=1, keepdims=True)
    return np.einsum("npc,npd->ncd", places, places) / places.shape[1]


def test_covariances_are_matrix_roots_of_them():
    rng = np.random.default_rng(0)
    maps = (rng.normal(size=(3, 20, 20, 6)) @ (np.eye(6) + 0.3 * rng.normal(size=(6, 6)))).astype(np.float32)
    values, vectors = np.linalg.eigh(covariance(maps))
    expected = np.einsum("nik,nk,njk->nij", vectors, np.sqrt(values), vectors)
    rows, columns = np.triu_indices(6)
    # Five steps of Newton's iteration are nearly there.
    np.testing.assert_allclose(covariances(jnp.asarray(maps)), expected[:, rows, columns], atol=0.05)
    assert np.abs(expected[:, rows, columns] - np.eye(6)[rows, columns]).max() > 0.3, "and it tells maps apart"
    np.testing.assert_array_equal(covariances(jnp.ones((2, 4, 4, 3))), np.zeros((2, 6)))
    few = jax.random.normal(jax.random.key(0), (1, 2, 2, 64))  # fewer places than channels
    gradient = jax.grad(lambda x: covariances(x).sum())(few)
    assert np.isfinite(gradient).all()
    assert np.isfinite(jax.grad(lambda x: covariances(x).sum())(jnp.zeros_like(few))).all()


def test_covariances_of_any_number_of_images_are_one_program():
    shape = jax.export.symbolic_shape("n, 8, 6, 70")
    exported = jax.export.export(jax.jit(covariances))(jax.ShapeDtypeStruct(shape, jnp.float32))
    maps = jax.random.normal(jax.random.key(0), (3, 8, 6, 70))
    np.testing.assert_allclose(exported.call(maps), covariances(maps), atol=1e-5)


def test_many_channels_are_projected_by_signs_that_never_change():
    signs = random_signs(100, 64)
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 0.03
    np.testing.assert_allclose(signs.T @ signs / 100, np.eye(64), atol=0.5)
    assert "".join("+" if sign > 0 else "-" for sign in signs[0, :16]) == "+-+-++-+---+-+++"
    maps = np.random.default_rng(0).normal(size=(2, 9, 9, 100)).astype(np.float32)
    np.testing.assert_allclose(covariances(jnp.asarray(maps)), covariances(jnp.asarray(maps @ signs / 10)), atol=1e-4)
    rough = covariances(jnp.asarray(maps, jnp.bfloat16))
    assert rough.dtype == jnp.float32, "whatever the maps are of"
    np.testing.assert_allclose(rough, covariances(jnp.asarray(maps, jnp.bfloat16).astype(jnp.float32)), rtol=1e-6)


def test_a_probe_of_covariances_is_a_network_like_any_other():
    model = network(**BLOCKS, probe_pooling="covariances", probe_stages=("block3", "block1"))
    images = jax.random.normal(jax.random.key(0), (3, 16, 24, 1))
    variables = {"params": jax.jit(partial(model.init, train=False))(jax.random.key(1), images)["params"]}
    assert widths(model) == (2 * 3 // 2, 4 * 5 // 2)
    features = features_of(model).apply(variables, images, train=False)
    assert features.shape == (3, 13)
    logits = model.head.apply({"params": variables["params"]["head"]}, features, method="classify")
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-6)
    assert widths(network((32, 32), name="efficientnet_lite0", probe_pooling="covariances")) == (300, 820, 2080, 2080)
    both = network(**BLOCKS, probe_pooling="both", probe_stages=("block3", "block1"))
    assert widths(both) == (4, 8, *widths(model)), "parts that a fit weighs"
    of_moments = network(**BLOCKS, probe_stages=("block3", "block1"))
    apart = [features_of(each).apply(variables, images, train=False) for each in (of_moments, model)]
    np.testing.assert_array_equal(features_of(both).apply(variables, images, train=False), np.hstack(apart))
    tokens_of_vit = network((32, 32), name="vit_b_16", probe_pooling="covariances")
    assert widths(tokens_of_vit) == (768 + 2080,) * 4, "the class token beside what is covered of the places"
    # The class token as it is, once, the places two by two, registers not at all.
    tokens = jax.random.normal(jax.random.key(2), (1, 9, 3))
    read = Pooled(("any",), "covariances", prefix_tokens=2).apply({}, [tokens], Mode())
    np.testing.assert_array_equal(read[0, :3], tokens[0, 0])
    np.testing.assert_array_equal(read[:, 3:], covariances(tokens[:, 2:]))
    of_both = Pooled(("any",), "both", prefix_tokens=2).apply({}, [tokens], Mode())
    np.testing.assert_array_equal(
        of_both, np.hstack([tokens[:, 0], moments(tokens[:, 2:]), covariances(tokens[:, 2:])])
    )


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="that is for networks of stages, and cnn is none"):
        network(name="cnn")
    with pytest.raises(ConfigError, match="blocks does not read it with a probe"):
        network(**BLOCKS, dense_features=(4,))
