"""Grad-CAM: equal to CAM where CAM exists, right way round, for any stage and class. Feature maps: which, and how."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.errors import ConfigError
from fpclass.explain.cam import grad_cam
from fpclass.explain.feature_maps import feature_maps, most_varied, scale_channels
from fpclass.explain.maps import scale_maps
from fpclass.explain.stages import stage_names
from fpclass.models.architectures.cnn import CNN
from fpclass.models.architectures.vit import vit
from fpclass.models.layers import SqueezeExcitation
from fpclass.models.network import DenseHead, GlobalPool, Network
from fpclass.models.positions import cubic_between_corners

SIZE = (60, 44)
IMAGES = jax.random.normal(jax.random.key(1), (3, *SIZE, 1))


@functools.cache
def make(**fields):
    model = CNN(num_classes=3, image_size=SIZE, conv_form="direct", **fields)
    return model, init_params(model, IMAGES)


def init_params(model, images):
    return {"params": jax.jit(lambda x: model.init(jax.random.key(0), x, train=False)["params"])(images)}


def applied(model, variables, images, **options):
    return jax.jit(lambda v, x: model.apply(v, x, train=False, **options))(variables, images)


def test_equals_cam_with_a_global_average_pooling_head():
    """CAM (Zhou et al. 2016) is the class's weights times the pooled maps; Grad-CAM has it divided by their area."""
    model, variables = make(head="gap", dense_features=())
    classes = np.array([2, 0, 1])
    _, recorded = applied(model, variables, IMAGES, mutable=["stages"])
    pooled = np.asarray(recorded["stages"]["conv2"]["pool"], np.float64)
    weights = np.asarray(variables["params"]["logits"]["kernel"], np.float64)[:, classes]
    cam = np.maximum(np.einsum("nhwc,cn->nhw", pooled, weights), 0) / (pooled.shape[1] * pooled.shape[2])
    maps = grad_cam(model, variables, IMAGES, classes, "conv2/pool")
    assert maps.shape == cam.shape == (3, 12, 8)
    np.testing.assert_allclose(maps, cam, rtol=1e-4, atol=1e-7)
    assert cam.max() > 0


def test_finds_the_place_that_decides():
    """One bright spot, off centre in a non-square image: the map's maximum is there, not mirrored or turned."""
    model, variables = make(head="gap", dense_features=(), conv_features=(4,))
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["conv1"]["kernel"] = params["conv1"]["kernel"].at[2, 2].set(1.0)
    params["logits"]["kernel"] = params["logits"]["kernel"].at[:, 1].set(1.0)
    image = jnp.zeros((1, *SIZE, 1)).at[0, 45, 9].set(1.0)
    maps = grad_cam(model, {"params": params}, image, np.array([1]), "conv1/conv")
    assert maps.shape == (1, 56, 40)
    # A valid 5x5 convolution moves places by two pixels.
    assert np.unravel_index(np.argmax(maps[0]), maps[0].shape) == (43, 7)
    assert not np.any(grad_cam(model, {"params": params}, image, np.array([0]), "conv1/conv"))


@pytest.mark.parametrize(
    ("name", "shape"), [("conv1/conv", (56, 40)), ("conv1/pool", (28, 20)), ("conv2/relu", (24, 16))]
)
def test_any_stage(name, shape):
    model, variables = make(batch_norm=False, dropout_rate=0.5)
    assert grad_cam(model, variables, IMAGES, np.zeros(3, int), name).shape == (3, *shape)


def test_default_stage_shows_something():
    """The rectified last convolution; its map is not empty for the class the network chose."""
    model, variables = make()
    chosen = applied(model, variables, IMAGES).argmax(-1)
    assert model.cam_stage == "conv2/relu"
    assert np.all(np.asarray(grad_cam(model, variables, IMAGES, chosen, model.cam_stage)).max(axis=(1, 2)) > 0)


def test_images_do_not_see_each_other():
    model, variables = make()
    together = grad_cam(model, variables, IMAGES, np.array([0, 1, 2]), model.cam_stage)
    alone = grad_cam(model, variables, IMAGES[1:2], np.array([1]), model.cam_stage)
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-7)


def test_unknown_stage_names_those_that_exist():
    model, variables = make()
    assert stage_names(model, IMAGES) == (
        "conv1/conv", "conv1/relu", "conv1/pool", "conv2/conv", "conv2/relu", "conv2/pool",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"'layer4'.*conv1/conv.*conv2/relu, conv2/pool"):
        grad_cam(model, variables, IMAGES, np.zeros(3, int), "layer4")


def test_scaled_maps_fill_the_unit_interval_and_zeros_stay():
    maps = scale_maps(np.stack([np.arange(6.0).reshape(2, 3), np.zeros((2, 3))]))
    assert float(maps[0].max()) == 1
    assert not np.any(maps[1])


class Scale(nn.Module):
    """A stage with a named stage inside: 3x3 convolution with stride 2, weighed by channel."""

    features: int

    @nn.compact
    def __call__(self, x, mode):
        x = nn.relu(nn.Conv(self.features, (3, 3), 2, name="conv")(x))
        return SqueezeExcitation(2, name="se")(x)


def make_network():
    # Named so that the alphabet has another order than the data flow.
    stages = (Scale(4, name="scale_10", parent=None), Scale(6, name="scale_2", parent=None))
    head = DenseHead(3, pool="none", name="head", parent=None)
    model = Network(stages=(*stages, GlobalPool(name="pool", parent=None)), head=head)
    return model, init_params(model, IMAGES)


def test_stages_of_networks_equal_cam():
    """Behind the last maps come global pooling and one dense layer: CAM is known."""
    model, variables = make_network()
    classes = np.array([2, 0, 1])
    maps = np.asarray(applied(model.prefix(2), variables, IMAGES), np.float64)
    weights = np.asarray(variables["params"]["head"]["logits"]["kernel"], np.float64)[:, classes]
    cam = np.maximum(np.einsum("nhwc,cn->nhw", maps, weights), 0) / (maps.shape[1] * maps.shape[2])
    assert cam.shape == (3, 15, 11)
    assert cam.max() > 0
    np.testing.assert_allclose(grad_cam(model, variables, IMAGES, classes, "scale_2"), cam, rtol=1e-4, atol=1e-7)


def test_stages_of_networks_have_plain_names_in_the_order_of_the_data_flow():
    model, variables = make_network()
    names = stage_names(model, IMAGES)
    assert names == ("scale_10/se/scaled", "scale_10", "scale_2/se/scaled", "scale_2", "pool")
    inner = grad_cam(model, variables, IMAGES, np.zeros(3, int), "scale_10/se/scaled")
    np.testing.assert_array_equal(inner, grad_cam(model, variables, IMAGES, np.zeros(3, int), "scale_10"))
    with pytest.raises(ConfigError, match=r"'scale_3'.*are scale_10/se/scaled, scale_10, "):
        grad_cam(model, variables, IMAGES, np.zeros(3, int), "scale_3")


def test_a_vector_has_no_places():
    model, variables = make_network()
    with pytest.raises(ConfigError, match=r"'pool'.*\(6,\).*no places.*scale_2$"):
        grad_cam(model, variables, IMAGES, np.zeros(3, int), "pool")


def tiny_vit(num_registers=0):
    architecture = vit(
        patch_size=4, num_blocks=2, num_heads=2, features=8, resampling=cubic_between_corners,
        num_registers=num_registers,
    )  # fmt: skip
    stages = (*architecture.features, *architecture.classifier)
    head = DenseHead(3, pool="none", name="head", parent=None)
    return architecture, Network(stages, head, patch_size=4, prefix_tokens=architecture.prefix_tokens)


@pytest.mark.parametrize("num_registers", [0, 2])
def test_patches_of_tokens_lie_as_in_the_image(num_registers):
    """Two rows and three columns: by a loop over patches, from the gradient through the rest of the network."""
    architecture, model = tiny_vit(num_registers)
    before = 1 + num_registers
    images = jax.random.normal(jax.random.key(2), (2, 8, 12, 1))
    variables = init_params(model, images)
    classes = np.array([1, 2])
    first, rest = model.prefix(2), model.suffix(2)
    tokens = applied(first, variables, images)
    score = lambda x: rest.apply(variables, x, train=False)[jnp.arange(2), classes].sum()
    gradient = np.asarray(jax.jit(jax.grad(score))(tokens))
    expected = np.zeros((2, 2, 3))
    for image, row, column in np.ndindex(2, 2, 3):
        weights = gradient[image, before:].mean(axis=0)
        expected[image, row, column] = max(0, weights @ np.asarray(tokens)[image, before + 3 * row + column])
    assert len(np.unique(expected)) > 4
    maps = grad_cam(model, variables, images, classes, "block_0")
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * expected.max())
    # Behind the last attention only the class token counts.
    assert not np.any(grad_cam(model, variables, images, classes, "block_1"))
    assert architecture.cam_stage == "block_0"
    with pytest.raises(ConfigError, match=r"'class_token'.*no places"):
        grad_cam(model, variables, images, classes, "class_token")


def test_the_channels_that_vary_most_come_first_and_dead_ones_never():
    maps = np.stack(
        [
            np.full((2, 2), 1e6),  # large, but the same everywhere
            [[0, 1], [0, 1]],
            [[0, 4], [0, 4]],
            np.zeros((2, 2)),
            [[9, 5], [9, 5]],  # varies as much as channel 2
            [[0, 0], [0, 3]],
        ],
        axis=-1,
    ).astype(np.float32)
    assert most_varied(maps, 16).tolist() == [2, 4, 5, 1]
    assert most_varied(maps, 2).tolist() == [2, 4]
    assert most_varied(maps[..., [0, 3]], 16).tolist() == []


def test_every_channel_has_a_scale_of_its_own():
    """Mean 1/2, two standard deviations 0 and 1; worked by hand: means 2 and 20, standard deviations 1 and 10."""
    maps = np.array([[[1, 10], [3, 30]], [[1, 10], [3, 30]]], np.float32)
    np.testing.assert_allclose(scale_channels(maps), np.array([[[0.25, 0.75]] * 2] * 2))
    # One bright place among many: cut off, and the others stay near the middle.
    spot = np.zeros((10, 10, 1), np.float32)
    spot[0, 0] = 1000
    (scaled,) = scale_channels(spot)
    assert scaled[0, 0] == 1
    assert 0.45 < scaled[5, 5] < 0.5


def test_feature_maps_of_the_cnn_are_what_its_stages_give():
    model, variables = make(conv_features=(4, 20))
    stages, num_stages = feature_maps(model, variables, IMAGES[1])
    assert num_stages == 6
    assert [(s.stage, s.shape) for s in stages] == [
        ("conv1/conv", (56, 40, 4)),
        ("conv1/relu", (56, 40, 4)),
        ("conv1/pool", (28, 20, 4)),
        ("conv2/conv", (24, 16, 20)),
        ("conv2/relu", (24, 16, 20)),
        ("conv2/pool", (12, 8, 20)),
    ]
    _, recorded = applied(model, variables, IMAGES, mutable=["stages"])
    for stage in stages:
        layer, name = stage.stage.split("/")
        whole = np.asarray(recorded["stages"][layer][name])[1]
        np.testing.assert_array_equal(stage.channels, np.argsort(-whole.std(axis=(0, 1)), kind="stable")[:16])
        shown = whole[..., stage.channels[0]]
        expected = np.clip(0.5 + (shown - shown.mean()) / (4 * shown.std()), 0, 1)
        np.testing.assert_allclose(stage.maps[0], expected, atol=1e-5)


class Keep(nn.Module):
    """A stage that hands on what it gets."""

    @nn.compact
    def __call__(self, x, mode):
        return x


def test_feature_maps_of_networks_leave_out_vectors_single_places_and_repetitions():
    """The weighed maps are the output of their stage; 15 x 11, 8 x 6, …, 1 x 1 places; behind the pool a vector."""
    scales = tuple(Scale(6, name=f"scale_{i}", parent=None) for i in (30, 29, 28, 27, 26, 25))
    names = [
        "scale_30/se/scaled",
        "scale_29/se/scaled",
        "scale_28/se/scaled",
        "scale_27/se/scaled",
        "scale_26/se/scaled",
    ]
    head = DenseHead(3, pool="none", name="head", parent=None)
    stages = (scales[0], Keep(name="keep", parent=None), *scales[1:], GlobalPool(name="pool", parent=None))
    model = Network(stages=stages, head=head)
    found, num_stages = feature_maps(model, init_params(model, IMAGES), IMAGES[0])
    assert [stage.stage for stage in found] == names
    assert num_stages == len(names)
    assert [stage.shape[:2] for stage in found] == [(30, 22), (15, 11), (8, 6), (4, 3), (2, 2)]


def test_of_many_stages_some_at_equal_distances_with_both_ends():
    stages = tuple(Scale3(name=f"stage_{i}", parent=None) for i in range(15))
    model = Network(stages=stages, head=DenseHead(3, name="head", parent=None))
    found, num_stages = feature_maps(model, init_params(model, IMAGES[:1, :9, :7]), IMAGES[0, :9, :7])
    assert num_stages == 15
    assert [int(stage.stage.removeprefix("stage_")) for stage in found] == [0, 2, 4, 6, 8, 10, 12, 14]


class Scale3(nn.Module):
    """A convolution that keeps the size."""

    @nn.compact
    def __call__(self, x, mode):
        return nn.Conv(3, (3, 3), name="conv")(x)


def test_feature_maps_of_tokens_lie_as_their_patches_do():
    _, model = tiny_vit()
    images = jax.random.normal(jax.random.key(2), (1, 8, 12, 1))
    variables = init_params(model, images)
    found, _ = feature_maps(model, variables, images[0])
    block = next(stage for stage in found if stage.stage == "block_0")
    assert block.shape == (2, 3, 8)
    tokens = np.asarray(applied(model.prefix(2), variables, images))[0, 1:, block.channels[0]]
    np.testing.assert_allclose(block.maps[0].ravel(), 0.5 + (tokens - tokens.mean()) / (4 * tokens.std()), atol=1e-5)
