"""DINOv2, SigLIP 2 and CLIP: vision transformers that learnt from images alone, or from images with captions.

None has a classifier for ImageNet. Where a config asks for the original's head, one dense layer follows what the
original takes an image to be: the class token, or with SigLIP its attention pooling.

Source: Oquab et al., DINOv2, TMLR 2024; Darcet et al., Vision Transformers Need Registers, ICLR 2024; Tschannen et al.,
SigLIP 2, 2025, and google-research/big_vision; Radford et al., CLIP, ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.architectures.vit import glorot_uniform, vit
from fpclass.models.mapping import Rule, same, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, Mode
from fpclass.models.positions import antialiased_cubic, cubic_of_dinov2, linear_between_corners
from fpclass.models.transformer import MLP, Tokens, attention, layer_norm, linear


def quick_gelu(x: Array) -> Array:
    """OpenAI's approximation of GELU by a sigmoid."""
    return x * nn.sigmoid(1.702 * x)


def tanh_gelu(x: Array) -> Array:
    """GELU approximated by a hyperbolic tangent, which is what `flax.linen.gelu` means and big_vision uses."""
    return nn.gelu(x, approximate=True)


class AttentionPool(nn.Module):
    """What a learnt query finds among all tokens, and an MLP added to it: [n, t, c] -> [n, c].

    Source: Lee et al., Set Transformer, ICML 2019; MAPHead of big_vision.
    """

    num_heads: int
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Tokens, mode: Mode) -> Float[Array, "n c"]:
        n, t, channels = x.shape
        heads = (self.num_heads, channels // self.num_heads)
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, channels)).astype(x.dtype)
        query = linear(probe, channels, "query", glorot_uniform).reshape(1, 1, *heads)
        key_value = linear(x, 2 * channels, "key_value", glorot_uniform).reshape(n, t, 2, *heads)
        query = query.repeat(n, axis=0)
        y = linear(attention(query, key_value[:, :, 0], key_value[:, :, 1]), channels, "project", glorot_uniform)
        mlp = MLP(kernel_init=glorot_uniform, activation=self.activation, name="mlp")
        return (y + mlp(layer_norm(y, "norm")))[:, 0]


def dinov2(*, patch_size: int, num_blocks: int, num_heads: int, features: int, num_registers: int) -> Backbone:
    """A ViT of DINOv2: channels of each branch are scaled, and there may be registers."""
    return vit(
        patch_size=patch_size,
        num_blocks=num_blocks,
        num_heads=num_heads,
        features=features,
        num_registers=num_registers,
        # So says Meta's dinov2/hub/backbones.py: with the registers it came without the kludge.
        resampling=antialiased_cubic if num_registers else cubic_of_dinov2,
        layer_scale=1e-5,
    )


def siglip(*, patch_size: int, num_blocks: int, num_heads: int, features: int) -> Backbone:
    """An image tower of SigLIP or SigLIP 2: no class token, but a pooling that attends to all tokens."""
    return vit(
        patch_size=patch_size,
        num_blocks=num_blocks,
        num_heads=num_heads,
        features=features,
        resampling=linear_between_corners,
        pool=AttentionPool(num_heads, tanh_gelu, name="pool"),
        activation=tanh_gelu,
    )


def clip(*, patch_size: int, num_blocks: int, num_heads: int, features: int) -> Backbone:
    """An image tower of CLIP, up to the class token: the projection into the space of captions is not part of it.

    OpenAI's takes one size only; for others positions are resampled as open_clip does.
    """
    return vit(
        patch_size=patch_size,
        num_blocks=num_blocks,
        num_heads=num_heads,
        features=features,
        resampling=antialiased_cubic,
        has_norm_before=True,
        epsilon=1e-5,
        activation=quick_gelu,
    )


_TIMM_BLOCK, _CLIP_BLOCK = r"blocks\.(\d+)", r"visual\.transformer\.resblocks\.(\d+)"
TIMM = (
    Rule("cls_token", "params/stem/class_token"),
    Rule("register_tokens", "params/stem/registers"),
    Rule("pos_embed", "params/stem/position_embedding"),
    *torch_layer(r"patch_embed\.proj", "stem/patches", torch_conv),
    *torch_layer_norm("norm_pre", "stem/norm"),
    *torch_layer_norm(rf"{_TIMM_BLOCK}\.norm(\d)", r"block_\1/norm\2"),
    *torch_layer(rf"{_TIMM_BLOCK}\.attn\.qkv", r"block_\1/attention/qkv", torch_dense),
    *torch_layer(rf"{_TIMM_BLOCK}\.attn\.proj", r"block_\1/attention/project", torch_dense),
    Rule(rf"{_TIMM_BLOCK}\.ls(\d)\.gamma", r"params/block_\1/scale\2"),
    *torch_layer(rf"{_TIMM_BLOCK}\.mlp\.fc1", r"block_\1/mlp/expand", torch_dense),
    *torch_layer(rf"{_TIMM_BLOCK}\.mlp\.fc2", r"block_\1/mlp/project", torch_dense),
    *torch_layer_norm("norm", "norm/norm"),
    Rule(r"attn_pool\.latent", "params/pool/probe"),
    *torch_layer(r"attn_pool\.q", "pool/query", torch_dense),
    *torch_layer(r"attn_pool\.kv", "pool/key_value", torch_dense),
    *torch_layer(r"attn_pool\.proj", "pool/project", torch_dense),
    *torch_layer_norm(r"attn_pool\.norm", "pool/norm"),
    *torch_layer(r"attn_pool\.mlp\.fc1", "pool/mlp/expand", torch_dense),
    *torch_layer(r"attn_pool\.mlp\.fc2", "pool/mlp/project", torch_dense),
    *torch_layer("head", "head/logits", torch_dense),
    Rule("mask_token", ""),  # what patches were hidden by while DINOv2 learnt
)
"""Names of timm, and of Meta's files of DINOv2."""
OPENAI = (
    Rule(r"visual\.class_embedding", "params/stem/class_token", lambda array: array[None, None]),
    Rule(r"visual\.positional_embedding", "params/stem/position_embedding", lambda array: array[None]),
    Rule(r"visual\.conv1\.weight", "params/stem/patches/kernel", torch_conv),
    *torch_layer_norm(r"visual\.ln_pre", "stem/norm"),
    *torch_layer_norm(rf"{_CLIP_BLOCK}\.ln_(\d)", r"block_\1/norm\2"),
    Rule(rf"{_CLIP_BLOCK}\.attn\.in_proj_weight", r"params/block_\1/attention/qkv/kernel", torch_dense),
    Rule(rf"{_CLIP_BLOCK}\.attn\.in_proj_bias", r"params/block_\1/attention/qkv/bias", same),
    *torch_layer(rf"{_CLIP_BLOCK}\.attn\.out_proj", r"block_\1/attention/project", torch_dense),
    *torch_layer(rf"{_CLIP_BLOCK}\.mlp\.c_fc", r"block_\1/mlp/expand", torch_dense),
    *torch_layer(rf"{_CLIP_BLOCK}\.mlp\.c_proj", r"block_\1/mlp/project", torch_dense),
    *torch_layer_norm(r"visual\.ln_post", "norm/norm"),
    # The projections into the space that images and captions share, and the tower for captions.
    Rule(r"visual\.proj|text_projection|logit_scale|positional_embedding|token_embedding\.weight", ""),
    Rule(r"ln_final\.(?:weight|bias)|transformer\.resblocks\..*", ""),
)
"""Names of OpenAI's CLIP and of open_clip, of both towers."""


SMALL = {"num_blocks": 12, "num_heads": 6, "features": 384}
BASE = {"num_blocks": 12, "num_heads": 12, "features": 768}


def _parity(original: str, num_parameters: int, backbone: Backbone, tolerance: float, built_for: int) -> Parity:
    """Comparison with timm: sizes are of 2 x 3 and of 3 x 3 patches, and stages its modules whose outputs they are."""
    pool, patch = str(backbone.classifier[0].name), backbone.patch_size
    blocks = {f"block_{i}": f"blocks.{i}" for i in range(len(backbone.features) - 2)}
    pooled = {pool: "attn_pool" if pool == "pool" else "fc_norm"}
    sizes = ((2 * patch, 3 * patch), (3 * patch, 3 * patch))
    stages = {"stem": "norm_pre", **blocks, "norm": "norm", **pooled}
    return Parity(f"timm:{original}", num_parameters, sizes, stages, tolerance, built_for=built_for)


def _dinov2(name: str, sizes: dict[str, int], num_registers: int, original: str, num_parameters: int) -> Published:
    """A network of DINOv2, with patches of 14 x 14 pixels, for images of 518 x 518."""
    backbone = dinov2(patch_size=14, num_registers=num_registers, **sizes)
    parity = _parity(original, num_parameters, backbone, 3.6e-6, 518)
    return Published(name, lambda variant: backbone, (Variant("meta", TIMM, parity),))


SIGLIP2 = siglip(patch_size=16, **BASE)
CLIP = clip(patch_size=16, **BASE)
SIGLIP2_PARITY = _parity("vit_base_patch16_siglip_224", 93_653_224, SIGLIP2, 2.7e-6, 224)
CLIP_PARITY = _parity("vit_base_patch16_clip_quickgelu_224", 86_568_424, CLIP, 3.6e-6, 224)

ARCHITECTURES = (
    _dinov2("dinov2_vits14", SMALL, 0, "vit_small_patch14_dinov2", 22_441_192),
    _dinov2("dinov2_vits14_reg", SMALL, 4, "vit_small_patch14_reg4_dinov2", 22_442_728),
    _dinov2("dinov2_vitb14", BASE, 0, "vit_base_patch14_dinov2", 87_348_712),
    _dinov2("dinov2_vitb14_reg", BASE, 4, "vit_base_patch14_reg4_dinov2", 87_351_784),
    Published("siglip2_vitb16", lambda variant: SIGLIP2, (Variant("google", TIMM, SIGLIP2_PARITY),)),
    Published("clip_vitb16", lambda variant: CLIP, (Variant("openai", TIMM, CLIP_PARITY, (OPENAI,)),)),
)
