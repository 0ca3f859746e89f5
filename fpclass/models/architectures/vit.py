"""ViT-B/16.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; torchvision.models.vision_transformer.
"""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, Mode
from fpclass.models.transformer import MLP, Norm, SelfAttention, Tokens, layer_norm, small_normal

glorot_uniform = nn.initializers.glorot_uniform()


class Stem(nn.Module):
    """Patches as tokens row by row (a rest at bottom and right is not seen), a class token first, learnt positions."""

    features: int
    patch_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Tokens:
        size = self.patch_size
        # As torchvision: the fan-in without the factor 2 for a ReLU, and the truncation at ±2 does nothing.
        patch_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        x = Conv(self.features, (size, size), size, use_bias=True, kernel_init=patch_init, name="patches")(x)
        x = x.reshape(x.shape[0], -1, self.features)
        class_token = self.param("class_token", nn.initializers.zeros, (1, 1, self.features))
        positions = self.param("position_embedding", small_normal, (1, 1 + x.shape[1], self.features))
        class_tokens = jnp.broadcast_to(class_token, (x.shape[0], 1, self.features)).astype(x.dtype)
        return jnp.concatenate([class_tokens, x], axis=1) + positions.astype(x.dtype)


class EncoderBlock(nn.Module):
    """Attention among all tokens, then an MLP on each, both behind a layer norm and added to what came in."""

    num_heads: int

    @nn.compact
    def __call__(self, x: Tokens, mode: Mode) -> Tokens:
        x = x + SelfAttention(self.num_heads, glorot_uniform, name="attention")(layer_norm(x, "norm1"))
        return x + MLP(kernel_init=glorot_uniform, name="mlp")(layer_norm(x, "norm2"))


class ClassToken(nn.Module):
    """What the class token has gathered: [n, t, c] -> [n, c]."""

    @nn.compact
    def __call__(self, x: Tokens, mode: Mode) -> Float[Array, "n c"]:
        return x[:, 0]


def vit(*, patch_size: int, num_blocks: int, num_heads: int, features: int) -> Backbone:
    """A vision transformer of so many blocks."""
    blocks = [EncoderBlock(num_heads, name=f"block_{i}") for i in range(num_blocks)]
    return Backbone(
        features=(Stem(features, patch_size, name="stem"), *blocks, Norm(name="norm")),
        classifier=(ClassToken(name="class_token"),),
        stem_kernel=("stem", "patches", "kernel"),
        min_size=(patch_size, patch_size),
        patch_size=patch_size,
        # The logits see the class token alone, and after the last attention the others do not change it any more.
        cam_stage=f"block_{num_blocks - 2}",
        resize={"stem/position_embedding": partial(resize_positions, patch_size=patch_size)},
    )


def resize_positions(
    positions: Float[np.ndarray, "1 t c"], image_size: tuple[int, int], *, patch_size: int
) -> Float[np.ndarray, "1 t2 c"]:
    """Makes the position embedding of square images fit others, bicubically.

    Corner patches keep their positions (align_corners=True), as in torchvision; it resizes to squares only, this along
    each axis by itself. The class token keeps its own; where the grid is the same, the array itself is returned.

    Args:
      positions: of the class token, then of square-many patches, row by row; any float type. Another array is left as
        it is, for the loader to refuse.

    Source: torchvision.models.vision_transformer.interpolate_embeddings.
    """
    grid = (image_size[0] // patch_size, image_size[1] // patch_size)
    side = math.isqrt(positions.shape[1] - 1) if positions.ndim == 3 else 0
    if side == 0 or positions.shape[:2] != (1, 1 + side**2) or grid == (side, side):
        return positions
    rows, columns = (_cubic_weights(side, number) for number in grid)
    old = positions[0, 1:].reshape(side, side, -1).astype(np.float64)
    new = np.einsum("ri,cj,ijf->rcf", rows, columns, old, optimize=True).astype(positions.dtype)
    return np.concatenate([positions[:, :1], new.reshape(1, grid[0] * grid[1], -1)], axis=1)


def _cubic_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The matrix that resamples a row of numbers; its ends stay where they are.

    Source: Keys, Cubic convolution interpolation, 1981, equation 15 with PyTorch's a = -0.75; beyond an end the number
    there is repeated.
    """
    a = -0.75
    centres = np.arange(new) * (old - 1) / (new - 1) if new > 1 else np.zeros(1)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        taps = np.floor(centres).astype(int) + offset
        d = np.abs(centres - taps)
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(new), np.clip(taps, 0, old - 1)), np.where(d <= 1, near, far))
    return weights


_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)"
TORCHVISION = (
    Rule("class_token", "params/stem/class_token"),
    Rule(r"encoder\.pos_embedding", "params/stem/position_embedding"),
    *torch_layer("conv_proj", "stem/patches", torch_conv),
    *torch_layer_norm(rf"{_BLOCK}\.ln_(\d)", r"block_\1/norm\2"),
    Rule(rf"{_BLOCK}\.self_attention\.in_proj_weight", r"params/block_\1/attention/qkv/kernel", torch_dense),
    Rule(rf"{_BLOCK}\.self_attention\.in_proj_bias", r"params/block_\1/attention/qkv/bias"),
    *torch_layer(rf"{_BLOCK}\.self_attention\.out_proj", r"block_\1/attention/project", torch_dense),
    # The published files have the names of an older torchvision, linear_1 and linear_2; networks saved today have 0, 3.
    *torch_layer(rf"{_BLOCK}\.mlp\.(?:0|linear_1)", r"block_\1/mlp/expand", torch_dense),
    *torch_layer(rf"{_BLOCK}\.mlp\.(?:3|linear_2)", r"block_\1/mlp/project", torch_dense),
    *torch_layer_norm(r"encoder\.ln", "norm/norm"),
    *torch_layer(r"heads\.head", "head/logits", torch_dense),
)
STAGES = {
    "stem": "encoder.dropout",
    **{f"block_{i}": f"encoder.layers.encoder_layer_{i}" for i in range(12)},
    "norm": "encoder.ln",
}
# Parameters at the published 224 x 224, whose position embedding counts. Sizes that are not square: test_vit.py.
PARITY = Parity("torchvision:vit_b_16", 86_567_656, ((32, 32), (48, 48)), STAGES, 3.4e-6, is_sized=True)

ARCHITECTURES = (
    Published(
        "vit_b_16",
        lambda variant: vit(patch_size=16, num_blocks=12, num_heads=12, features=768),
        (Variant("torchvision", TORCHVISION, PARITY),),
    ),
)
