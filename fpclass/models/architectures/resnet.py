"""ResNet 18, 34 and 50 (v1.5: the 3x3 convolution of a bottleneck has the stride).

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision.models.resnet.
"""

from __future__ import annotations

import flax.linen as nn

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps, fan_out_normal
from fpclass.models.mapping import torch_batch_norm, torch_conv, torch_dense, torch_layer
from fpclass.models.network import Backbone, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import max_pool


class Stem(nn.Module):
    """7x7 convolution with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        x = Conv(64, (7, 7), 2, 3, kernel_init=fan_out_normal, name="conv1")(x)
        return max_pool(nn.relu(batch_norm(x, mode, "bn1")), 3, 2, 1)


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


def resnet(num_blocks: tuple[int, ...], *, is_bottleneck: bool) -> Backbone:
    """A ResNet of four layers with so many blocks each."""
    blocks = [
        ResidualBlock(64 * 2**layer, 2 if layer and not block else 1, is_bottleneck, name=f"layer{layer + 1}_{block}")
        for layer, number in enumerate(num_blocks)
        for block in range(number)
    ]
    return Backbone(
        features=(Stem(name="stem"), *blocks),
        classifier=(GlobalPool(name="pool"),),
        stem_kernel=("stem", "conv1", "kernel"),
    )


TORCHVISION = (
    *torch_layer("conv1", "stem/conv1", torch_conv),
    *torch_batch_norm("bn1", "stem/bn1"),
    *torch_layer(r"layer(\d)\.(\d+)\.conv(\d)", r"layer\1_\2/conv\3", torch_conv),
    *torch_batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1_\2/bn\3"),
    *torch_layer(r"layer(\d)\.(\d+)\.downsample\.0", r"layer\1_\2/downsample_conv", torch_conv),
    *torch_batch_norm(r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_\2/downsample_bn"),
    *torch_layer("fc", "head/logits", torch_dense),
)


def _published(
    name: str, num_blocks: tuple[int, ...], num_parameters: int, *, is_bottleneck: bool = False
) -> Published:
    stages = {"stem": "maxpool"} | {
        f"layer{layer}_{block}": f"layer{layer}.{block}"
        for layer, number in enumerate(num_blocks, start=1)
        for block in range(number)
    }
    parity = Parity(f"torchvision:{name}", num_parameters, ((64, 96), (67, 45)), stages, 3e-6, 1.1e-7)
    return Published(
        name,
        lambda variant: resnet(num_blocks, is_bottleneck=is_bottleneck),
        (Variant("torchvision", TORCHVISION, parity),),
    )


ARCHITECTURES = (
    _published("resnet18", (2, 2, 2, 2), 11_689_512),
    _published("resnet34", (3, 4, 6, 3), 21_797_672),
    _published("resnet50", (3, 4, 6, 3), 25_557_032, is_bottleneck=True),
)
