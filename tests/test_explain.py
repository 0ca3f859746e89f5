"""Grad-CAM: equal to CAM where CAM exists, right way round, for any stage and class."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.errors import ConfigError
from fpclass.explain import grad_cam, scale_maps, stage_names
from fpclass.models.cnn import CNN
from fpclass.models.layers import SqueezeExcitation
from fpclass.models.network import DenseHead, GlobalPool, Network
from fpclass.models.vit import vit

SIZE = (60, 44)
IMAGES = jax.random.normal(jax.random.key(1), (3, *SIZE, 1))


def make(**fields):
    model = CNN(num_classes=3, image_size=SIZE, conv_form="direct", **fields)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    return model, {"params": variables["params"]}


def test_equals_cam_with_a_global_average_pooling_head():
    """CAM (Zhou et al. 2016) is the class's weights times the pooled maps; Grad-CAM has it divided by their area."""
    model, variables = make(head="gap", dense_features=())
    classes = np.array([2, 0, 1])
    _, recorded = model.apply(variables, IMAGES, train=False, mutable=["stages"])
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
    chosen = model.apply(variables, IMAGES, train=False).argmax(-1)
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
        "conv1/conv", "conv1/pool", "conv1/relu", "conv2/conv", "conv2/pool", "conv2/relu",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"'layer4'.*conv1/conv.*conv2/relu"):
        grad_cam(model, variables, IMAGES, np.zeros(3, int), "layer4")


def test_scaled_maps_fill_the_unit_interval_and_zeros_stay():
    maps = scale_maps(jnp.stack([jnp.arange(6.0).reshape(2, 3), jnp.zeros((2, 3))]))
    assert float(maps[0].max()) == 1
    assert not np.any(maps[1])


class Scale(nn.Module):
    """A stage with a named stage inside: 3x3 convolution with stride 2, weighed by channel."""

    features: int

    @nn.compact
    def __call__(self, x, mode):
        x = nn.relu(nn.Conv(self.features, (3, 3), 2, name="conv")(x))
        return SqueezeExcitation(2, name="se")(x)


def init_params(model, images):
    return {"params": jax.jit(lambda x: model.init(jax.random.key(0), x, train=False)["params"])(images)}


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
    maps = np.asarray(model.prefix(2).apply(variables, IMAGES, train=False), np.float64)
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
    with pytest.raises(ConfigError, match=r"'pool'.*\(3, 6\).*no places.*scale_2$"):
        grad_cam(model, variables, IMAGES, np.zeros(3, int), "pool")


def test_patches_of_tokens_lie_as_in_the_image():
    """Two rows and three columns: by a loop over patches, from the gradient through the rest of the network."""
    architecture = vit(patch_size=4, num_blocks=2, num_heads=2, features=8)
    head = DenseHead(3, pool="none", name="head", parent=None)
    model = Network(stages=(*architecture.features, *architecture.classifier), head=head, patch_size=4)
    images = jax.random.normal(jax.random.key(2), (2, 8, 12, 1))
    variables = init_params(model, images)
    classes = np.array([1, 2])
    first, rest = model.prefix(2), model.suffix(2)
    tokens = jax.jit(lambda x: first.apply(variables, x, train=False))(images)
    score = lambda x: rest.apply(variables, x, train=False)[jnp.arange(2), classes].sum()
    gradient = np.asarray(jax.jit(jax.grad(score))(tokens))
    expected = np.zeros((2, 2, 3))
    for image, row, column in np.ndindex(2, 2, 3):
        weights = gradient[image, 1:].mean(axis=0)
        expected[image, row, column] = max(0, weights @ np.asarray(tokens)[image, 1 + 3 * row + column])
    assert len(np.unique(expected)) > 4
    maps = grad_cam(model, variables, images, classes, "block_0")
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * expected.max())
    # Behind the last attention only the class token counts.
    assert not np.any(grad_cam(model, variables, images, classes, "block_1"))
    assert architecture.cam_stage == "block_0"
    with pytest.raises(ConfigError, match=r"'class_token'.*no places"):
        grad_cam(model, variables, images, classes, "class_token")
