"""ConvNeXt-Tiny.

Source: Liu et al., A ConvNet for the 2020s, CVPR 2022; torchvision.models.convnext.
"""

from __future__ import annotations

import flax.linen as nn
import numpy as np

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps, StochasticDepth
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, GlobalPool, Mode
from fpclass.models.transformer import MLP, Norm, layer_norm, numbered_scales, small_normal

STOCHASTIC_DEPTH_RATE = 0.1
"""Of the last block; from 0 at the first one it grows with the depth."""
NUM_BLOCKS = (3, 3, 9, 3)


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


class Block(nn.Module):
    """Depthwise 7x7 convolution, layer norm and MLP, scaled by channel and added to what came in."""

    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        features = x.shape[-1]
        conv = Conv(features, (7, 7), padding=3, groups=features, use_bias=True, kernel_init=small_normal, name="conv")
        y = MLP(name="mlp")(layer_norm(conv(x), "norm"))
        layer_scale = self.param("layer_scale", nn.initializers.constant(1e-6), (features,))
        return x + StochasticDepth(self.stochastic_depth_rate)(layer_scale.astype(x.dtype) * y, train=mode.train)


def convnext(num_blocks: tuple[int, ...], features: tuple[int, ...]) -> Backbone:
    """A ConvNeXt: so many blocks with so many channels, at each of the scales 1/4, 1/8 …."""
    stages: list[nn.Module] = [Stem(features[0], name="stem")]
    depth, last = 0, sum(num_blocks) - 1
    for scale, (number, channels) in enumerate(zip(num_blocks, features, strict=True), start=1):
        if scale > 1:
            stages.append(Downsample(channels, name=f"downsample{scale}"))
        for block in range(number):
            stages.append(Block(STOCHASTIC_DEPTH_RATE * depth / last, name=f"stage{scale}_{block}"))
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


def _scale(scale: int) -> tuple[Rule, ...]:
    """The rules of the blocks at one of the four scales, and of the downsampling before it."""
    before, blocks, target = rf"features\.{2 * scale - 2}", rf"features\.{2 * scale - 1}\.(\d+)", rf"stage{scale}_\1"
    return (
        *torch_layer_norm(rf"{before}\.0", f"downsample{scale}/norm"),
        *torch_layer(rf"{before}\.1", f"downsample{scale}/conv", torch_conv),
        Rule(rf"{blocks}\.layer_scale", f"params/{target}/layer_scale", _flat),
        *torch_layer(rf"{blocks}\.block\.0", f"{target}/conv", torch_conv),
        *torch_layer_norm(rf"{blocks}\.block\.2", f"{target}/norm"),
        *torch_layer(rf"{blocks}\.block\.3", f"{target}/mlp/expand", torch_dense),
        *torch_layer(rf"{blocks}\.block\.5", f"{target}/mlp/project", torch_dense),
    )


TORCHVISION = (
    # Before the first scale comes the stem, with convolution and norm the other way round.
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_layer_norm(r"features\.0\.1", "stem/norm"),
    *(rule for scale in (1, 2, 3, 4) for rule in _scale(scale)),
    *torch_layer_norm(r"classifier\.0", "norm/norm"),
    *torch_layer(r"classifier\.2", "head/logits", torch_dense),
)
STAGES = numbered_scales(NUM_BLOCKS, "downsample") | {"norm": "classifier.1"}
PARITY = Parity("torchvision:convnext_tiny", 28_589_128, ((32, 64), (67, 45)), STAGES, 3.5e-6)

ARCHITECTURES = (
    Published(
        "convnext_tiny",
        lambda variant: convnext(NUM_BLOCKS, (96, 192, 384, 768)),
        (Variant("torchvision", TORCHVISION, PARITY),),
    ),
)
