"""Transformers: position embeddings for other sizes, images that are not square, published files, types, refusals.

What the originals can do by themselves is compared in test_parity.py.
"""

import importlib.util
from collections import OrderedDict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_cases import draw_array
from ml_collections import ConfigDict

from configs import base
from fpclass.errors import ConfigError, WeightsError
from fpclass.models import positions as resampled
from fpclass.models.architectures import convnext, foundation, swin, vit
from fpclass.models.build import build_model
from fpclass.models.mapping import matching
from fpclass.models.network import DenseHead, Mode, Network
from fpclass.models.pretrained.load import load_weights, resized_for

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs the extra `parity`")
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs torchvision and timm")
RNG = np.random.default_rng(0)


def embedding(side: int, features: int = 3) -> np.ndarray:
    return RNG.standard_normal((1, 1 + side**2, features)).astype(np.float32)


def tiny_vit(num_blocks: int = 2):
    resampling = resampled.cubic_between_corners
    return vit.vit(patch_size=16, num_blocks=num_blocks, num_heads=2, features=8, resampling=resampling)


resize_positions = partial(resampled.resize_positions, patch_size=16, resampling=resampled.cubic_between_corners)


def network_of(architecture, num_classes: int = 5) -> Network:
    stages = (*architecture.features, *architecture.classifier)
    return Network(stages=stages, head=DenseHead(num_classes, pool="none", name="head", parent=None))


def init_params(model, images):
    return {"params": jax.jit(lambda x: model.init(jax.random.key(0), x, train=False)["params"])(images)}


def load(arrays, model, image_size, rules=vit.TORCHVISION, **options):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_size, 3)), train=False))
    return load_weights(arrays, rules, shapes, where="tiny", **options)


def tiny_reference(image_size: int):
    """A small VisionTransformer of torchvision with drawn weights, and its arrays by name."""
    import torch
    from reference_networks import import_torchvision

    reference = import_torchvision().models.VisionTransformer(
        image_size=image_size, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=32, num_classes=5
    )
    arrays = {key: draw_array(key, tuple(value.shape)) for key, value in reference.state_dict().items()}
    reference.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    return reference.eval(), arrays


@needs_torch
@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 3), (14, 24), (1, 3), (5, 1), (6, 6)])
def test_resized_positions_equal_torchvisions(old, new):
    import torch
    from reference_networks import import_torchvision

    positions = embedding(old).astype(np.float64)
    interpolate = import_torchvision().models.vision_transformer.interpolate_embeddings
    state = interpolate(16 * new, 16, OrderedDict({"encoder.pos_embedding": torch.tensor(positions)}))
    ours = resize_positions(positions, (16 * new, 16 * new))
    np.testing.assert_allclose(ours, state["encoder.pos_embedding"].numpy(), atol=1e-12)


def by_torch(maps, **options):
    import torch

    return torch.nn.functional.interpolate(torch.tensor(maps), mode="bicubic", **options).numpy()


def by_scipy(maps, grid):
    from scipy import ndimage

    zoom = [number / side for number, side in zip(grid, maps.shape[2:], strict=True)]
    return ndimage.zoom(maps, (1, 1, *zoom), order=1)


ORIGINALS = {
    # dinov2/models/vision_transformer.py has an offset and no antialiasing; or, with registers, the other way.
    "cubic_of_dinov2": lambda maps, grid: by_torch(maps, scale_factor=[(n + 0.1) / maps.shape[-1] for n in grid]),
    "antialiased_cubic": lambda maps, grid: by_torch(maps, size=grid, antialias=True),
    "linear_between_corners": by_scipy,
}
"""As the originals call it, from maps [1, c, side, side] to a grid; by the name of ours in `models.positions`."""


@needs_torch
@pytest.mark.parametrize("name", ORIGINALS)
@pytest.mark.parametrize("grid", [(16, 16), (7, 16), (50, 37), (8, 45), (1, 2)])
def test_resized_positions_equal_those_of_the_original(name, grid):
    maps = RNG.standard_normal((1, 3, 37, 37))
    positions = np.concatenate([np.ones((1, 1, 3)), maps.transpose(0, 2, 3, 1).reshape(1, -1, 3)], axis=1)
    ours = resize_positions(positions, (16 * grid[0], 16 * grid[1]), resampling=getattr(resampled, name))
    theirs = ORIGINALS[name](maps, grid)
    assert theirs.shape[2:] == grid
    np.testing.assert_allclose(ours[0, 1:], theirs[0].reshape(3, -1).T, atol=1e-6)
    np.testing.assert_array_equal(ours[0, 0], 1)


def test_resized_positions_of_other_shapes():
    """Corners stay, axes are not mixed up, the class token is untouched; also with as many patches as before."""
    positions = embedding(4)
    wide = resize_positions(positions, (32, 128))
    tall = resize_positions(positions, (128, 32))
    assert wide.shape == tall.shape == positions.shape
    assert wide.dtype == positions.dtype
    grid, old = wide[0, 1:].reshape(2, 8, -1), positions[0, 1:].reshape(4, 4, -1)
    np.testing.assert_array_equal(wide[:, 0], positions[:, 0])
    np.testing.assert_allclose(grid[:, ::7], old[::3, ::3], atol=1e-6)
    turned = np.concatenate([positions[:, :1], old.swapaxes(0, 1).reshape(1, 16, -1)], axis=1)
    tall_of_turned = resize_positions(turned, (128, 32))
    np.testing.assert_allclose(tall_of_turned[0, 1:].reshape(8, 2, -1), grid.swapaxes(0, 1), atol=1e-6)
    assert not np.allclose(tall, wide)
    assert resize_positions(positions, (64, 64)) is positions


@needs_torch
@pytest.mark.parametrize("image_size", [(32, 48), (64, 16), (48, 48)])
def test_images_that_are_not_square_equal_the_references_encoder(image_size):
    """The reference refuses them itself: its encoder runs on the tokens of its projection, positions interpolated."""
    import torch

    reference, arrays = tiny_reference(32)
    images = np.random.default_rng(1).standard_normal((2, *image_size, 3)).astype(np.float32)
    grid = (image_size[0] // 16, image_size[1] // 16)
    with torch.no_grad():
        positions = reference.encoder.pos_embedding
        maps = positions[:, 1:].reshape(1, 2, 2, -1).permute(0, 3, 1, 2)
        maps = torch.nn.functional.interpolate(maps, size=grid, mode="bicubic", align_corners=True)
        resized = torch.cat([positions[:, :1], maps.flatten(2).permute(0, 2, 1)], dim=1)
        reference.encoder.pos_embedding = torch.nn.Parameter(resized)
        tokens = reference.conv_proj(torch.tensor(images.transpose(0, 3, 1, 2).copy())).flatten(2).permute(0, 2, 1)
        tokens = torch.cat([reference.class_token.expand(2, -1, -1), tokens], dim=1)
        theirs = reference.heads(reference.encoder(tokens)[:, 0]).numpy()
    architecture = tiny_vit()
    model = network_of(architecture)
    variables = load(arrays, model, image_size, resize=resized_for(architecture, image_size))
    ours = jax.jit(lambda x: model.apply(variables, x, train=False))(images)
    np.testing.assert_allclose(ours, theirs, atol=4e-6 * np.abs(theirs).max())


SIDE = 3
"""Patches along a side of the square images that the files of the tiny networks below are made for."""
SIZES = {"num_blocks": 2, "num_heads": 2, "features": 8}
TOWERS = {
    "dinov2": (
        foundation.dinov2(patch_size=14, num_registers=0, **SIZES),
        {"init_values": 1.0},
        "cubic_of_dinov2",
    ),
    "dinov2_reg": (
        foundation.dinov2(patch_size=14, num_registers=4, **SIZES),
        {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
        "antialiased_cubic",
    ),
    "siglip": (
        foundation.siglip(patch_size=16, **SIZES),
        {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
        "linear_between_corners",
    ),
    "clip": (
        foundation.clip(patch_size=16, **SIZES),
        {"pre_norm": True, "act_layer": "quick_gelu", "num_classes": 5},
        "antialiased_cubic",
    ),
}
"""A tiny network of ours, what timm must be told to build it too, and how its original resamples positions."""
IN_OPENAI = (
    ("patch_embed.proj", "conv1"), ("pos_embed", "positional_embedding"), ("cls_token", "class_embedding"),
    ("norm_pre", "ln_pre"), ("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"), (".norm", ".ln_"), ("norm.", "ln_post."), ("blocks.", "transformer.resblocks."),
)  # fmt: skip
"""Parts of timm's names, and what OpenAI calls them."""
OF_CAPTIONS = {
    "positional_embedding": (7, 6), "text_projection": (6, 5), "logit_scale": (), "token_embedding.weight": (9, 6),
    "ln_final.bias": (6,), "transformer.resblocks.0.attn.in_proj_weight": (18, 6),
}  # fmt: skip


def timm_network(name: str, image_size: tuple[int, int]):
    import torch
    from reference_networks import import_timm

    architecture, options, _ = TOWERS[name]
    sizes = {"patch_size": architecture.patch_size, "embed_dim": 8, "depth": 2, "num_heads": 2}
    options = {
        "num_classes": 0,
        "norm_layer": partial(torch.nn.LayerNorm, eps=architecture.features[-1].epsilon),
    } | options
    return import_timm().models.VisionTransformer(img_size=image_size, **sizes, **options).eval()


def published_arrays(name: str, network) -> dict[str, np.ndarray]:
    """Drawn arrays, called and shaped as in the published file of such a network; `network` is timm's."""
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.startswith("head.")}
    if name.startswith("dinov2"):
        shapes["mask_token"] = (1, 8)
    if name == "dinov2_reg":
        shapes |= {"register_tokens": shapes.pop("reg_token"), "pos_embed": (1, 1 + SIDE**2, 8)}
    if name == "clip":
        shapes |= {"cls_token": (8,), "pos_embed": (1 + SIDE**2, 8), "proj": (8, 5)}
        for part, other in IN_OPENAI:
            shapes = {key.replace(part, other): shape for key, shape in shapes.items()}
        shapes = {f"visual.{key}": shape for key, shape in shapes.items()} | OF_CAPTIONS
    return {key: draw_array(key, shape) for key, shape in shapes.items()}


@needs_timm
@pytest.mark.parametrize("grid", [(SIDE, SIDE), (2, 5)], ids=str)
@pytest.mark.parametrize("name", TOWERS)
def test_published_files_give_what_timm_makes_of_them_at_any_size(name, grid):
    """timm reads the published names by a table of its own; positions for other sizes are put into it as computed by
    the originals, which differ from timm's.
    """
    import torch

    architecture, _, resampling = TOWERS[name]
    side, image_size = architecture.patch_size * SIDE, tuple(architecture.patch_size * number for number in grid)
    published = timm_network(name, (side, side))
    arrays = published_arrays(name, published)
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = checkpoint_filter_fn({key: torch.tensor(array) for key, array in arrays.items()}, published)
    first = state["pos_embed"].shape[1] - SIDE**2
    maps = state["pos_embed"][:, first:].reshape(1, SIDE, SIDE, 8).permute(0, 3, 1, 2).numpy()
    if grid != (SIDE, SIDE):
        maps = ORIGINALS[resampling](maps, grid)
    resized = torch.tensor(maps).flatten(2).permute(0, 2, 1)
    theirs = timm_network(name, image_size)
    theirs.load_state_dict(state | {"pos_embed": torch.cat([state["pos_embed"][:, :first], resized], dim=1)})
    images = np.random.default_rng(1).standard_normal((2, *image_size, 3)).astype(np.float32)
    with torch.no_grad():
        features = theirs.forward_features(torch.tensor(images.transpose(0, 3, 1, 2).copy()))
        expected = theirs.forward_head(features, pre_logits=True).numpy()

    model = Network(stages=(*architecture.features, *architecture.classifier))
    rules = matching((foundation.TIMM, foundation.OPENAI), arrays)
    variables = load(arrays, model, image_size, rules, resize=resized_for(architecture, image_size))
    ours = jax.jit(lambda x: model.apply(variables, x, train=False))(images)
    np.testing.assert_allclose(ours, expected, atol=4e-6 * np.abs(expected).max())


@needs_torch
def test_names_of_the_published_files():
    """They were saved when the dense layers of an MLP still had names of their own."""
    _, arrays = tiny_reference(32)
    old = {key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for key, v in arrays.items()}
    assert old.keys() != arrays.keys()
    model = network_of(tiny_vit())
    jax.tree.map(np.testing.assert_array_equal, load(old, model, (32, 32)), load(arrays, model, (32, 32)))


@needs_torch
def test_positions_that_do_not_fit_are_refused():
    """Another grid without resizing, and an array that is no embedding of a square image."""
    _, arrays = tiny_reference(32)
    architecture = tiny_vit()
    model = network_of(architecture)
    with pytest.raises(WeightsError, match=r"pos_embedding.*\(1, 5, 8\).*\(1, 7, 8\)"):
        load(arrays, model, (32, 48))
    arrays["encoder.pos_embedding"] = np.zeros((1, 6, 8), np.float32)
    with pytest.raises(WeightsError, match=r"pos_embedding.*\(1, 6, 8\).*\(1, 7, 8\)"):
        load(arrays, model, (32, 48), resize=resized_for(architecture, (32, 48)))


def backbone(name: str, image_size: tuple[int, int], **options):
    config = ConfigDict(base.get_config().model.to_dict())
    config.update(name=name, head="own")
    config.update(options)
    return build_model(config, 2, image_size)


def test_images_that_are_no_multiple_of_a_patch():
    with pytest.raises(ConfigError, match=r"\(120, 80\).*multiples of 16.*\(128, 80\)"):
        backbone("vit_b_16", (120, 80))
    with pytest.raises(ConfigError, match=r"\(120, 80\).*multiples of 14.*\(126, 84\)"):
        backbone("dinov2_vits14", (120, 80))
    with pytest.raises(ConfigError, match=r"at least \(16, 16\)"):
        backbone("vit_b_16", (8, 16))
    assert backbone("vit_b_16", (112, 80)).patch_size == 16
    assert backbone("swin_t", (121, 83)).patch_size == 0


def test_grad_cam_looks_before_the_last_attention_where_the_class_token_decides():
    assert backbone("vit_b_16", (32, 32)).cam_stage == "block_10"
    assert backbone("vit_b_16", (32, 32), head="gap").cam_stage == "norm"
    assert backbone("swin_t", (32, 32)).cam_stage == "norm"
    assert backbone("dinov2_vits14_reg", (28, 28)).cam_stage == "block_10"
    assert backbone("siglip2_vitb16", (32, 32)).cam_stage == "norm"  # its pooling attends to all tokens


def test_registers_are_not_pooled():
    network = backbone("dinov2_vits14_reg", (28, 28), head="moments", dense_features=())
    assert network.prefix_tokens == 5
    tokens = RNG.standard_normal((1, 9, 3)).astype(np.float32)
    other = tokens.copy()
    other[:, 1:5] += 100
    params = network.head.init(jax.random.key(0), tokens, Mode())
    logits = [network.head.apply(params, x, Mode()) for x in (tokens, other, tokens + np.arange(9)[:, None])]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.allclose(logits[0], logits[2])


TINY = {
    "vit": (tiny_vit(1), (16, 32)),
    "siglip": (TOWERS["siglip"][0], (32, 48)),
    "dinov2": (TOWERS["dinov2_reg"][0], (28, 42)),
    "swin": (swin.swin((2, 1), (2, 2), 8), (33, 47)),
    "convnext": (convnext.convnext((1, 1), (8, 16)), (8, 13)),
    "convnextv2": (convnext.convnext((1, 1), (8, 16), is_v2=True), (8, 13)),
}


@pytest.mark.parametrize(
    "name",
    ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in TINY if name != "vit")],
)
def test_types(name):
    """What comes out has the type of the images; half the digits give about the same numbers."""
    architecture, size = TINY[name]
    model = Network(stages=(*architecture.features, *architecture.classifier))
    images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    variables = init_params(model, images)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    single, half = apply(variables, images), apply(variables, images.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), single, atol=0.05 * np.abs(single).max())
    with jax.enable_x64(True):
        double = np.asarray(apply(jax.tree.map(np.float64, variables), images.astype(np.float64)))
    assert double.dtype == np.float64
    assert 0 < np.abs(double - single).max() < 1e-5 * np.abs(single).max()


@pytest.mark.parametrize("name", ["swin", "convnext", "convnextv2"])
def test_stochastic_depth_grows_with_the_depth_and_drops_in_training(name):
    architecture, size = TINY[name]
    rates = [m.stochastic_depth_rate for m in architecture.features if hasattr(m, "stochastic_depth_rate")]
    top = {"swin": 0.2, "convnext": 0.1, "convnextv2": 0.2}[name]
    np.testing.assert_allclose(rates, np.linspace(0, top, len(rates)))
    stages = [
        m.clone(stochastic_depth_rate=0.5) if hasattr(m, "stochastic_depth_rate") else m for m in architecture.features
    ]
    model = Network(stages=tuple(stages))
    images = np.random.default_rng(0).standard_normal((4, *size, 3)).astype(np.float32)
    variables = jax.tree.map(lambda x: x + 0.1, init_params(model, images))  # layer scale starts at about nothing
    train = jax.jit(lambda key: model.apply(variables, images, train=True, rngs={"dropout": key}))
    trained = [train(jax.random.key(i)) for i in (1, 1, 2)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert not np.allclose(trained[0], trained[2])


def test_relative_positions_and_seams():
    """By hand, for windows of two by two places: one row of biases per pair of differences."""
    index = swin.relative_positions(2)
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for query, key in np.ndindex(4, 4):
        down, right = (places[query][axis] - places[key][axis] for axis in range(2))
        assert index[query, key] == (down + 1) * 3 + right + 1
    mask = swin.seam_mask((1, 2), (0, 3))
    assert mask.shape == (2, 49, 49)
    assert not mask[0].any()
    # The last three columns of the last window came from the map's left edge.
    seam = np.arange(49) % 7 >= 4
    np.testing.assert_array_equal(mask[1] == -100, seam[:, None] != seam[None, :])


def test_windows_there_and_back():
    x = jnp.asarray(RNG.standard_normal((2, 10, 15, 3)))
    windows = swin.to_windows(x, (2, 3), (3, 3))
    assert windows.shape == (2, 6, 49, 3)
    np.testing.assert_array_equal(swin.from_windows(windows, (2, 3), (3, 3))[:, :10, :15], x)
