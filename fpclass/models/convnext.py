"""ConvNeXt-Tiny.

Source: Liu et al., A ConvNet for the 2020s, CVPR 2022; torchvision.models.convnext.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.layers import Conv, StochasticDepth
from fpclass.models.network import Architecture, GlobalPool, Mode
from fpclass.models.transformer import MLP, Norm, layer_norm, small_normal

Maps = Float[Array, "n h w c"]
STOCHASTIC_DEPTH_RATE = 0.1
"""Of the last block; from 0 at the first one it grows with the depth."""


class Stem(nn.Module):
    """4x4 convolution with stride 4, layer norm.

    Attributes:
      features: channels of the output.
    """

    features: int

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """A quarter of the size; a rest of the image at its bottom and right is not seen."""
        return layer_norm(
            Conv(self.features, (4, 4), 4, use_bias=True, kernel_init=small_normal, name="conv")(x), "norm"
        )


class Downsample(nn.Module):
    """Layer norm, 2x2 convolution with stride 2.

    Attributes:
      features: channels of the output.
    """

    features: int

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Half the size; a last odd row or column is dropped."""
        x = layer_norm(x, "norm")
        return Conv(self.features, (2, 2), 2, use_bias=True, kernel_init=small_normal, name="conv")(x)


class Block(nn.Module):
    """Depthwise 7x7 convolution, layer norm and MLP, scaled by channel and added to what came in.

    Attributes:
      stochastic_depth_rate: probability in training that an image goes without the branch.
    """

    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Adds the branch."""
        features = x.shape[-1]
        conv = Conv(features, (7, 7), padding=3, groups=features, use_bias=True, kernel_init=small_normal, name="conv")
        y = MLP(name="mlp")(layer_norm(conv(x), "norm"))
        layer_scale = self.param("layer_scale", nn.initializers.constant(1e-6), (features,))
        return x + StochasticDepth(self.stochastic_depth_rate)(layer_scale.astype(x.dtype) * y, train=mode.train)


def convnext(num_blocks: tuple[int, ...], features: tuple[int, ...]) -> Architecture:
    """A ConvNeXt: so many blocks with so many channels, at each of the scales 1/4, 1/8 …."""
    stages: list[nn.Module] = [Stem(features[0], name="stem", parent=None)]
    depth, last = 0, sum(num_blocks) - 1
    for scale, (number, channels) in enumerate(zip(num_blocks, features, strict=True), start=1):
        if scale > 1:
            stages.append(Downsample(channels, name=f"downsample{scale}", parent=None))
        for block in range(number):
            rate = STOCHASTIC_DEPTH_RATE * depth / last
            stages.append(Block(rate, name=f"stage{scale}_{block}", parent=None))
            depth += 1
    smallest = 4 * 2 ** (len(num_blocks) - 1)  # one pixel less, and nothing is left after the last downsampling
    return Architecture(
        features=tuple(stages),
        classifier=(GlobalPool(name="pool", parent=None), Norm(name="norm", parent=None)),
        stem_kernel=("stem", "conv", "kernel"),
        min_size=(smallest, smallest),
    )


def convnext_tiny(variant: str) -> Architecture:
    """28.6 million parameters with 1000 classes."""
    return convnext((3, 3, 9, 3), (96, 192, 384, 768))
