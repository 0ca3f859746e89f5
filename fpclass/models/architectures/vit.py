"""Vision transformers, and ViT-B/16.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; torchvision.models.vision_transformer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, Mode
from fpclass.models.positions import Resampling, cubic_between_corners, resize_positions
from fpclass.models.products import scaled
from fpclass.models.transformer import MLP, Norm, SelfAttention, Tokens, gelu, layer_norm, small_normal

glorot_uniform = nn.initializers.glorot_uniform()


class Stem(nn.Module):
    """Patches as tokens row by row (a rest at bottom and right is not seen), with learnt positions.

    Attributes:
      has_class_token: before the patches comes a token that has a position too.
      num_registers: between the two are so many tokens without a position, for what the network wants to remember.
      norm_epsilon: of a layer norm on all tokens, which takes the place of the patches' bias; 0: no norm.
    """

    features: int
    patch_size: int
    has_class_token: bool = True
    num_registers: int = 0
    norm_epsilon: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Tokens:
        size, has_norm = self.patch_size, self.norm_epsilon > 0
        # As torchvision: the fan-in without the factor 2 for a ReLU, and the truncation at ±2 does nothing.
        patch_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        x = Conv(
            self.features, (size, size), size, use_bias=not has_norm, kernel_init=patch_init, name="patches"
        )(x)  # fmt: skip
        x = x.reshape(x.shape[0], -1, self.features)
        if self.has_class_token:
            x = jnp.concatenate([self._tokens("class_token", nn.initializers.zeros, 1, x), x], axis=1)
        x = x + self.param("position_embedding", small_normal, (1, *x.shape[1:])).astype(x.dtype)
        if self.num_registers:
            registers = self._tokens("registers", small_normal, self.num_registers, x)
            x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        return layer_norm(x, "norm", self.norm_epsilon) if has_norm else x

    def _tokens(self, name: str, init: nn.initializers.Initializer, number: int, like: Tokens) -> Tokens:
        """Learnt tokens, the same for every image."""
        tokens = self.param(name, init, (1, number, self.features))
        return jnp.broadcast_to(tokens, (like.shape[0], number, self.features)).astype(like.dtype)


class EncoderBlock(nn.Module):
    """Attention among all tokens, then an MLP on each, both behind a layer norm and added to what came in.

    Attributes:
      layer_scale: what the factors begin at by which each channel is multiplied before it is added; 0: there are none.
    """

    num_heads: int
    epsilon: float = 1e-6
    activation: Callable[[Array], Array] = gelu
    layer_scale: float = 0.0

    @nn.compact
    def __call__(self, x: Tokens, mode: Mode) -> Tokens:
        y = SelfAttention(self.num_heads, glorot_uniform, name="attention")(layer_norm(x, "norm1", self.epsilon))
        x = x + self._scaled(y, "scale1")
        mlp = MLP(kernel_init=glorot_uniform, activation=self.activation, name="mlp")
        return x + self._scaled(mlp(layer_norm(x, "norm2", self.epsilon)), "scale2")

    def _scaled(self, y: Tokens, name: str) -> Tokens:
        if not self.layer_scale:
            return y
        return scaled(y, self.param(name, nn.initializers.constant(self.layer_scale), y.shape[-1:]))


class ClassToken(nn.Module):
    """What the class token has gathered: [n, t, c] -> [n, c]."""

    @nn.compact
    def __call__(self, x: Tokens, mode: Mode) -> Float[Array, "n c"]:
        return x[:, 0]


def vit(
    *,
    patch_size: int,
    num_blocks: int,
    num_heads: int,
    features: int,
    resampling: Resampling,
    num_registers: int = 0,
    pool: nn.Module | None = None,
    has_norm_before: bool = False,
    epsilon: float = 1e-6,
    activation: Callable[[Array], Array] = gelu,
    layer_scale: float = 0.0,
) -> Backbone:
    """A vision transformer of so many blocks.

    Args:
      resampling: how positions are made to fit images of another size.
      num_registers, layer_scale: as of `Stem` and `EncoderBlock`.
      pool: makes one vector of all tokens, named; None: there is a class token, which is that vector.
      has_norm_before: there is a layer norm before the first block, in place of the patches' bias.
      epsilon: of all layer norms.
    """
    has_class_token = pool is None
    stem = Stem(
        features, patch_size, has_class_token, num_registers, epsilon if has_norm_before else 0.0, name="stem"
    )  # fmt: skip
    blocks = [EncoderBlock(num_heads, epsilon, activation, layer_scale, name=f"block_{i}") for i in range(num_blocks)]
    resize = partial(
        resize_positions, patch_size=patch_size, resampling=resampling, has_class_token=has_class_token
    )  # fmt: skip
    return Backbone(
        features=(stem, *blocks, Norm(epsilon, name="norm")),
        classifier=(pool or ClassToken(name="class_token"),),
        stem_kernel=("stem", "patches", "kernel"),
        min_size=(patch_size, patch_size),
        patch_size=patch_size,
        prefix_tokens=int(has_class_token) + num_registers,
        # Logits that see the class token alone: after the last attention the others do not change it any more.
        cam_stage=f"block_{num_blocks - 2}" if has_class_token else "",
        resize={"stem/position_embedding": resize},
    )


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
# Sizes that are not square: test_vit.py.
PARITY = Parity("torchvision:vit_b_16", 86_567_656, ((32, 32), (48, 48)), STAGES, 3.4e-6, built_for=224)

ARCHITECTURES = (
    Published(
        "vit_b_16",
        lambda variant: vit(patch_size=16, num_blocks=12, num_heads=12, features=768, resampling=cubic_between_corners),
        (Variant("torchvision", TORCHVISION, PARITY),),
    ),
)
