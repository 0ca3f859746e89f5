"""ConvNeXt-Tiny, and ConvNeXt V2-Tiny with global response normalisation in place of layer scale.

Source: Liu et al., A ConvNet for the 2020s, CVPR 2022; torchvision.models.convnext; Woo et al., ConvNeXt V2:
Co-designing and Scaling ConvNets with Masked Autoencoders, CVPR 2023; timm.models.convnext.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps, StochasticDepth
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, GlobalPool, Mode
from fpclass.models.products import scaled
from fpclass.models.transformer import MLP, Norm, gelu, layer_norm, numbered_scales, small_normal

NUM_BLOCKS, FEATURES = (3, 3, 9, 3), (96, 192, 384, 768)
"""Of both Tiny networks, at the scales 1/4, 1/8, 1/16 and 1/32."""


class Stem(nn.Module):
    """4x4 convolution with stride 4, layer norm; a rest of the image at its bottom and right is not seen."""

    features: int

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        conv = Conv(self.features, (4, 4), 4, use_bias=True, kernel_init=small_normal, name="conv")
        return layer_norm(conv(x), "norm")


class Downsample(nn.Module):
    """Layer norm, 2x2 convolution with stride 2; a last odd row or column is dropped."""

    features: int

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        x = layer_norm(x, "norm")
        return Conv(self.features, (2, 2), 2, use_bias=True, kernel_init=small_normal, name="conv")(x)


class GlobalResponseNorm(nn.Module):
    """Weighs channels by their norms over the whole image, relative to the average channel; added to what came in.

    Statistics are in float32 or better, the result has the type of the input.
    """

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        scale, bias = (self.param(name, nn.initializers.zeros, x.shape[-1:]) for name in ("scale", "bias"))
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        squares = jnp.square(wide).sum(axis=(1, 2), keepdims=True)
        # Not of nothing: the root has no derivative at 0, where an image is that only fills up a batch.
        norms = jnp.sqrt(jnp.maximum(squares, jnp.finfo(wide.dtype).tiny))
        response = norms / (norms.mean(axis=-1, keepdims=True) + 1e-6)
        return (wide + scale * (wide * response) + bias).astype(x.dtype)


def gelu_and_response(x: Maps) -> Maps:
    """What the MLP of a V2 block has between its dense layers."""
    return GlobalResponseNorm(name="grn")(gelu(x))


class Block(nn.Module):
    """Depthwise 7x7 convolution, layer norm and MLP, added to what came in; scaled by channel before that in V1.

    Attributes:
      is_v2: global response normalisation inside the MLP, and no scale behind it.
    """

    is_v2: bool = False
    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        features = x.shape[-1]
        conv = Conv(features, (7, 7), padding=3, groups=features, use_bias=True, kernel_init=small_normal, name="conv")
        y = MLP(activation=gelu_and_response if self.is_v2 else gelu, name="mlp")(layer_norm(conv(x), "norm"))
        if not self.is_v2:
            y = scaled(y, self.param("layer_scale", nn.initializers.constant(1e-6), (features,)))
        return x + StochasticDepth(self.stochastic_depth_rate)(y, train=mode.train)


def convnext(
    num_blocks: tuple[int, ...] = NUM_BLOCKS, features: tuple[int, ...] = FEATURES, *, is_v2: bool = False
) -> Backbone:
    """A ConvNeXt: so many blocks with so many channels, at each of the scales 1/4, 1/8 …."""
    # Of the last block; from 0 at the first one it grows with the depth. V2: of its authors' TRAINING.md, for Tiny.
    top_rate = 0.2 if is_v2 else 0.1
    stages: list[nn.Module] = [Stem(features[0], name="stem")]
    depth, last = 0, sum(num_blocks) - 1
    for scale, (number, channels) in enumerate(zip(num_blocks, features, strict=True), start=1):
        if scale > 1:
            stages.append(Downsample(channels, name=f"downsample{scale}"))
        for block in range(number):
            stages.append(Block(is_v2, top_rate * depth / last, name=f"stage{scale}_{block}"))
            depth += 1
    smallest = 4 * 2 ** (len(num_blocks) - 1)  # one pixel less, and nothing is left after the last downsampling
    return Backbone(
        features=tuple(stages),
        classifier=(GlobalPool(name="pool"), Norm(name="norm")),
        stem_kernel=("stem", "conv", "kernel"),
        min_size=(smallest, smallest),
    )


def _flat(array: np.ndarray) -> np.ndarray:
    """One number per channel [c, 1, 1] -> [c]."""
    return array.reshape(-1)


def _scales(names: Callable[[int], tuple[str, str]], layers: tuple[str, str, str, str]) -> Iterator[Rule]:
    """The rules of the blocks at all four scales, and of the downsampling before them.

    Args:
      names: from a scale to the names of the downsampling before it and of its blocks.
      layers: what a block calls its convolution, its norm, and the dense layers of its MLP.
    """
    for scale in (1, 2, 3, 4):
        before, blocks = names(scale)
        conv, norm, expand, project = (rf"{blocks}\.{layer}" for layer in layers)
        target = rf"stage{scale}_\1"
        yield from torch_layer_norm(rf"{before}\.0", f"downsample{scale}/norm")
        yield from torch_layer(rf"{before}\.1", f"downsample{scale}/conv", torch_conv)
        yield from torch_layer(conv, f"{target}/conv", torch_conv)
        yield from torch_layer_norm(norm, f"{target}/norm")
        yield from torch_layer(expand, f"{target}/mlp/expand", torch_dense)
        yield from torch_layer_norm(rf"{blocks}\.mlp\.grn", f"{target}/mlp/grn")  # of V2
        yield from torch_layer(project, f"{target}/mlp/project", torch_dense)
        yield Rule(rf"{blocks}\.layer_scale", f"params/{target}/layer_scale", _flat)  # of V1


TORCHVISION = (
    # Before the first scale comes the stem, with convolution and norm the other way round.
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_layer_norm(r"features\.0\.1", "stem/norm"),
    *_scales(
        lambda scale: (rf"features\.{2 * scale - 2}", rf"features\.{2 * scale - 1}\.(\d+)"),
        (r"block\.0", r"block\.2", r"block\.3", r"block\.5"),
    ),
    *torch_layer_norm(r"classifier\.0", "norm/norm"),
    *torch_layer(r"classifier\.2", "head/logits", torch_dense),
)
TIMM = (
    *torch_layer(r"stem\.0", "stem/conv", torch_conv),
    *torch_layer_norm(r"stem\.1", "stem/norm"),
    *_scales(
        lambda scale: (rf"stages\.{scale - 1}\.downsample", rf"stages\.{scale - 1}\.blocks\.(\d+)"),
        ("conv_dw", "norm", r"mlp\.fc1", r"mlp\.fc2"),
    ),
    *torch_layer_norm(r"head\.norm", "norm/norm"),
    *torch_layer(r"head\.fc", "head/logits", torch_dense),
)
STAGES = numbered_scales(NUM_BLOCKS, "downsample") | {"norm": "classifier.1"}
TIMM_STAGES = {
    "stem": "stem",
    **{f"downsample{scale}": f"stages.{scale - 1}.downsample" for scale in (2, 3, 4)},
    **{
        f"stage{scale}_{block}": f"stages.{scale - 1}.blocks.{block}"
        for scale, number in enumerate(NUM_BLOCKS, start=1)
        for block in range(number)
    },
    "norm": "head.flatten",
}
SIZES = ((32, 64), (67, 45))

ARCHITECTURES = (
    Published(
        "convnext_tiny",
        lambda variant: convnext(),
        (Variant("torchvision", TORCHVISION, Parity("torchvision:convnext_tiny", 28_589_128, SIZES, STAGES, 3.5e-6)),),
    ),
    Published(
        "convnextv2_tiny",
        lambda variant: convnext(is_v2=True),
        (Variant("timm", TIMM, Parity("timm:convnextv2_tiny", 28_635_496, SIZES, TIMM_STAGES, 5e-6)),),
    ),
)
