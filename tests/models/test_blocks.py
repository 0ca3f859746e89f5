"""Networks of our own beside the footprint CNN: blocks, airbench, the horses' CNN, and one output for two classes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from fpclass.errors import ConfigError
from fpclass.experiment import load_config
from fpclass.explain.cam import grad_cam
from fpclass.models.architecture import Published
from fpclass.models.architectures.airbench import identity_first, whitening_kernel
from fpclass.models.build import build_model
from fpclass.models.layers import Logits
from fpclass.train import device_engine as train
from fpclass.train.state import PADDING, Dataset, Member

VEHICLES, HORSES = "configs/vehicles_animals/vehicles_model1.py", "configs/horses_humans/horses_cnn150.py"
# By hand. Blocks: 3x3 convolutions 3-32-32, 32-64-64, 64-128-128, batch norms, dense 128-128, one output.
BLOCKS = (896 + 9_248 + 64) + (18_496 + 36_928 + 128) + (73_856 + 147_584 + 256) + 128 * 129 + 129
CONVOLUTIONS = 448 + 4_640 + 18_496
NUM_PARAMETERS = {
    VEHICLES: BLOCKS,
    "configs/vehicles_animals/vehicles_softmax.py": BLOCKS + 129,
    HORSES: CONVOLUTIONS + (17 * 17 * 64 + 1) * 512 + 513,  # 9.5 million
    # The reference says 38 million; these layers on 300 x 300 pixels have 40.2 (38.3 times 2^20).
    "configs/horses_humans/horses_cnn300.py": CONVOLUTIONS + (35 * 35 * 64 + 1) * 512 + 513,
}


def init(config: ConfigDict, num_classes: int = 2):
    model = build_model(config.model, num_classes, config.data.image_size)
    images = jnp.zeros((1, *config.data.image_size, config.data.channels))
    return model, jax.jit(partial(model.init, train=False))(jax.random.key(0), images)


def changed(config, **model) -> ConfigDict:
    new = ConfigDict(config.to_dict())
    new.model.update(model)
    return new


def network(name: str, features: tuple[int, ...]) -> ConfigDict:
    """One of the two on 32 x 32 colour images; airbench reads little."""
    unread = {"batch_norm": False, "block_dropout_rate": 0.0, "dense_features": (), "dense_l2": 0.0}
    config = load_config(VEHICLES)
    return changed(config, name=name, conv_features=features, **(unread if name == "airbench" else {}))


@pytest.mark.parametrize(("path", "expected"), NUM_PARAMETERS.items(), ids=lambda value: str(value).split("/")[-1])
def test_parameter_counts(path, expected):
    config = load_config(path)
    model = build_model(config.model, 2, config.data.image_size)
    shapes = jax.eval_shape(
        partial(model.init, train=False),
        jax.random.key(0),
        jnp.zeros((1, *config.data.image_size, config.data.channels)),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == expected


def test_the_horses_network_has_the_sizes_of_the_reference():
    assert NUM_PARAMETERS[HORSES] == 9_494_561
    assert NUM_PARAMETERS["configs/horses_humans/horses_cnn300.py"] == 40_165_409


def test_one_output_is_two_way_softmax_of_its_halves():
    """Same probabilities, loss and gradients as a sigmoid with binary cross-entropy."""
    x = jax.random.normal(jax.random.key(0), (5, 7))
    labels = jnp.array([0, 1, 1, 0, 1])
    model = Logits(2, "sigmoid")
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(1), x)
    assert variables["params"]["kernel"].shape == (7, 1)
    z = lambda params: (x @ params["kernel"] + params["bias"])[:, 0]

    def ours(params):
        logits = model.apply({"params": params}, x, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def binary(params):
        return optax.sigmoid_binary_cross_entropy(z(params), labels).mean()

    params = variables["params"]
    logits = model.apply(variables, x, train=False)
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], jax.nn.sigmoid(z(params)), rtol=1e-5)
    for a, b in zip(*(jax.tree.leaves(jax.jit(jax.value_and_grad(f))(params)) for f in (ours, binary)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_one_output_is_for_two_classes():
    config = load_config(VEHICLES)
    with pytest.raises(ConfigError, match="two classes, and there are 3"):
        build_model(config.model, 3, config.data.image_size)


def test_the_whitening_kernel_is_made_of_the_training_images_and_does_not_learn(monkeypatch):
    """Neither does weight decay shrink it; nor does it depend on how many rows a member is padded to."""
    config = load_config(
        "configs/vehicles_animals/vehicles_airbench.py",
        ["--config.model.conv_features=(4,)", "--config.train.batch_size=12", "--config.model.subclasses=False"],
    )
    monkeypatch.setattr(train, "NUM_STEM_IMAGES", 40)
    model = build_model(config.model, 2, (8, 8))
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    rows = jnp.arange(21, dtype=jnp.int32)
    dataset = Dataset(jnp.asarray(images), jnp.arange(24) % 2)
    engine = train.make_engine(model, config)
    kernels = []
    for num_padded in (0, 3):
        padded = jnp.pad(rows, (0, num_padded), constant_values=PADDING)
        member = Member(jnp.array(0), padded, rows[:0], rows[:0], jnp.ones(2))
        state = engine.init(member, dataset)
        start = jax.tree.map(np.array, state.params)
        kernels.append(start["whiten"]["conv"]["kernel"])
        state, _ = engine.train_epoch(state, member, dataset)
        np.testing.assert_array_equal(state.params["whiten"]["conv"]["kernel"], kernels[-1])
        assert not np.allclose(state.params["whiten"]["conv"]["bias"], start["whiten"]["conv"]["bias"])
    np.testing.assert_array_equal(*kernels)


def test_both_classes_have_a_grad_cam_with_one_output():
    config = changed(load_config(VEHICLES), conv_features=(4, 8))
    model, variables = init(config)
    images = jax.random.normal(jax.random.key(2), (3, 32, 32, 3))
    state = {name: variables[name] for name in ("params", "batch_stats")}
    maps = [grad_cam(model, state, images, jnp.full(3, k), model.cam_stage) for k in (0, 1)]
    assert maps[0].shape == (3, 16, 16)  # before the pool of the second block
    assert all(np.any(np.asarray(m) > 0) for m in maps)
    assert not np.allclose(maps[0], maps[1])


@pytest.mark.parametrize("name", ["blocks", "airbench"])
def test_dropout_and_statistics_only_in_training(name):
    config = network(name, (4, 8))
    model, variables = init(config)
    images = jax.random.normal(jax.random.key(3), (4, 32, 32, 3))
    plain = jax.jit(partial(model.apply, train=False))(variables, images)
    apply = partial(model.apply, variables, images, train=True, mutable=["batch_stats"])
    draw = jax.jit(lambda seed: apply(rngs={"dropout": jax.random.key(seed)}))
    (trained, updated), (other, _) = draw(4), draw(5)
    assert not np.allclose(plain, trained)
    assert np.allclose(trained, other) == (name == "airbench")  # which has no dropout
    moved = jax.tree.map(lambda a, b: np.allclose(a, b), variables["batch_stats"], updated["batch_stats"])
    assert not any(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [("blocks", (7, 32), "too small for the 3 blocks"), ("airbench", (8, 32), "too small for the 3 groups")],
)
def test_images_that_are_too_small(name, size, words):
    config = network(name, (4, 8, 8))
    with pytest.raises(ConfigError, match=words):
        build_model(config.model, 2, size)


@pytest.mark.parametrize("key", Published.unread)
def test_backbones_refuse_what_they_do_not_read(key):
    config = load_config("configs/footprints/resnet18.py")
    values = {"conv_features": (8,), "conv_form": "direct", "batch_norm": True, "block_dropout_rate": 0.1}
    with pytest.raises(ConfigError, match=f"model.{key} is"):
        build_model(changed(config, **{key: values.get(key, 3)}).model, 2, (120, 80))


def test_whitened_patches_are_white():
    """Correlated noise through the kernels: no correlation left, unit variance, and each kernel's negative."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 16, 16, 3)) @ np.array([[1, 0.5, 0.2], [0, 0.5, 0.3], [0, 0, 0.4]])
    images = jnp.asarray((noise + np.roll(noise, 1, axis=1)) / 2, jnp.float32)
    kernel = whitening_kernel(images, epsilon=0.0)
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., :12], -kernel[..., 12:])
    out = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    flat = np.asarray(out[..., :12]).reshape(-1, 12)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(12), atol=2e-3)


def test_first_kernels_pass_a_channel_through():
    kernel = identity_first(jax.random.key(0), (3, 3, 4, 6))
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
    out = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_array_equal(out[..., :4], x)
    assert np.abs(kernel[..., 4:]).max() <= 1 / 6
    assert np.abs(kernel[..., 4:]).min() < np.abs(kernel[..., 4:]).max()
