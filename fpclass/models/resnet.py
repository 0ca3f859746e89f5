"""ResNet 18, 34 and 50 (v1.5: the 3x3 convolution of a bottleneck has the stride).

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision.models.resnet.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.layers import Conv
from fpclass.models.network import Architecture, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import max_pool

Maps = Float[Array, "n h w c"]
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Stem(nn.Module):
    """7x7 convolution with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """A quarter of the size, 64 channels."""
        x = Conv(64, (7, 7), 2, 3, kernel_init=fan_out_normal, name="conv1")(x)
        x = nn.relu(batch_norm(x, mode, "bn1"))
        return max_pool(x, 3, 2, 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic), or 1x1, 3x3 and 1x1 (bottleneck), added to what came in.

    Attributes:
      features: channels of the 3x3 convolutions.
      strides: of the first 3x3 convolution.
      is_bottleneck: the last convolution then has 4 times the channels.
    """

    features: int
    strides: int = 1
    is_bottleneck: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Adds the branch to the shortcut."""
        features, strides = self.features, self.strides
        if self.is_bottleneck:
            convs = [(features, 1, 1), (features, 3, strides), (4 * features, 1, 1)]
        else:
            convs = [(features, 3, strides), (features, 3, 1)]
        y = x
        for i, (channels, size, steps) in enumerate(convs, start=1):
            y = Conv(channels, (size, size), steps, size // 2, kernel_init=fan_out_normal, name=f"conv{i}")(y)
            y = batch_norm(y, mode, f"bn{i}")
            y = nn.relu(y) if i < len(convs) else y
        if x.shape != y.shape:
            x = Conv(y.shape[-1], (1, 1), strides, kernel_init=fan_out_normal, name="downsample_conv")(x)
            x = batch_norm(x, mode, "downsample_bn")
        return nn.relu(x + y)


def resnet(num_blocks: tuple[int, ...], *, is_bottleneck: bool) -> Architecture:
    """A ResNet of four layers with so many blocks each."""
    blocks = [
        ResidualBlock(
            64 * 2**layer, 2 if layer and not block else 1, is_bottleneck, name=f"layer{layer + 1}_{block}", parent=None
        )
        for layer, number in enumerate(num_blocks)
        for block in range(number)
    ]
    return Architecture(
        features=(Stem(name="stem", parent=None), *blocks),
        classifier=(GlobalPool(name="pool", parent=None),),
        stem_kernel=("stem", "conv1", "kernel"),
    )


def resnet18(variant: str) -> Architecture:
    """11.7 million parameters with 1000 classes."""
    return resnet((2, 2, 2, 2), is_bottleneck=False)


def resnet34(variant: str) -> Architecture:
    """21.8 million parameters with 1000 classes."""
    return resnet((3, 4, 6, 3), is_bottleneck=False)


def resnet50(variant: str) -> Architecture:
    """25.6 million parameters with 1000 classes."""
    return resnet((3, 4, 6, 3), is_bottleneck=True)
