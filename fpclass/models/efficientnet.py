"""EfficientNet B0 and B2 as torchvision and Keras have them, and EfficientNet-Lite0.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019;
torchvision.models.efficientnet; keras.applications.efficientnet; the package efficientnet-lite-pytorch (Lite0).
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.layers import Conv, StochasticDepth
from fpclass.models.network import Architecture, Dropout, GlobalPool, Mode, batch_norm

Maps = Float[Array, "n h w c"]
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

BASE_BLOCKS = (
    # expansion, kernel size, stride of the first block, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""The seven groups of blocks of B0. Source: table 1 of the paper."""

MAX_STOCHASTIC_DEPTH = 0.2
"""Rate that the last block would have if there were one more: it grows by the same step from block to block."""


@dataclasses.dataclass(frozen=True)
class Style:
    """What the implementations do differently.

    Attributes:
      epsilon: of batch norm.
      momentum: share of the old running statistics that is kept.
      unbiased: whether the running variance is the unbiased one.
      is_same: padding as TensorFlow's "SAME", which at stride 2 and even sizes has a row more at the bottom and a
        column more at the right; otherwise the same number of zeros at every side.
      is_lite: ReLU6 and no squeeze-excitation; otherwise SiLU and squeeze-excitation.
    """

    epsilon: float
    momentum: float
    unbiased: bool
    is_same: bool
    is_lite: bool = False

    def padding(self, kernel_size: int) -> int | str:
        """What `layers.Conv` takes."""
        return "SAME" if self.is_same else kernel_size // 2

    def activation(self, x: Maps) -> Maps:
        """The non-linearity."""
        return nn.relu6(x) if self.is_lite else nn.silu(x)

    def normalise(self, x: Maps, mode: Mode, name: str) -> Maps:
        """Batch norm."""
        return batch_norm(x, mode, name, epsilon=self.epsilon, momentum=self.momentum, unbiased=self.unbiased)


STYLES = {
    # B0 to B4 of torchvision have PyTorch's usual batch norm; TensorFlow's epsilon is there from B5 on only.
    "torchvision": Style(epsilon=1e-5, momentum=0.9, unbiased=True, is_same=False),
    # Keras pads by a layer of its own, which is "SAME" for images of a known size. Where the size is left open it pads
    # as for an even one, and gives other numbers for odd maps: that is not followed.
    "keras": Style(epsilon=1e-3, momentum=0.99, unbiased=False, is_same=True),
    # The PyTorch package decides on the padding when the network is built, for 224 x 224 unless told otherwise, and
    # keeps it for all other images: odd maps then lose a row and a column of zeros. This is TensorFlow's meaning, which
    # the package has with image_size=None.
    "lite": Style(epsilon=1e-3, momentum=0.99, unbiased=True, is_same=True, is_lite=True),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation: the first stage and the last one.

    Attributes:
      features: channels of the output.
      kernel_size: side of the square kernel, pixels.
      strides: of the convolution.
      style: of the implementation.
    """

    features: int
    kernel_size: int
    strides: int
    style: Style

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Convolves, normalises, activates."""
        size, style = self.kernel_size, self.style
        x = Conv(
            self.features, (size, size), self.strides, style.padding(size), kernel_init=fan_out_normal, name="conv"
        )(x)
        return style.activation(style.normalise(x, mode, "bn"))


class SqueezeExcitation(nn.Module):
    """Weighs channels by their means over the image, through two dense layers with SiLU and sigmoid.

    Attributes:
      hidden_features: width of the hidden layer.
    """

    hidden_features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Multiplies every channel of every image by its weight, in (0, 1)."""
        # The dense layers are 1x1 convolutions on one place, as in both references: kernels keep their shape.
        y = x.mean(axis=(1, 2), keepdims=True)
        y = nn.silu(Conv(self.hidden_features, (1, 1), use_bias=True, kernel_init=fan_out_normal, name="reduce")(y))
        y = Conv(x.shape[-1], (1, 1), use_bias=True, kernel_init=fan_out_normal, name="expand")(y)
        return x * nn.sigmoid(y)


class MBConv(nn.Module):
    """Inverted residual block: widen (1x1), convolve each channel, weigh the channels, narrow (1x1), add.

    Attributes:
      features: channels of the output.
      kernel_size: side of the depthwise kernel, pixels.
      strides: of the depthwise convolution.
      expansion: channels inside, as a multiple of those that come in; 1: there is no widening.
      style: of the implementation.
      stochastic_depth_rate: how often an image goes without the branch in training, where there is a shortcut.
    """

    features: int
    kernel_size: int
    strides: int
    expansion: int
    style: Style
    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Applies the branch; adds the input where shapes allow it."""
        channels, size, style = x.shape[-1], self.kernel_size, self.style
        inside, y = channels * self.expansion, x
        if self.expansion != 1:
            y = Conv(inside, (1, 1), kernel_init=fan_out_normal, name="expand_conv")(y)
            y = style.activation(style.normalise(y, mode, "expand_bn"))
        y = Conv(
            inside,
            (size, size),
            self.strides,
            style.padding(size),
            groups=inside,
            kernel_init=fan_out_normal,
            name="depthwise_conv",
        )(y)
        y = style.activation(style.normalise(y, mode, "depthwise_bn"))
        if not style.is_lite:
            # A quarter of the channels that come in, not of those inside.
            y = SqueezeExcitation(max(1, channels // 4), name="squeeze_excitation")(y)
        y = Conv(self.features, (1, 1), kernel_init=fan_out_normal, name="project_conv")(y)
        y = style.normalise(y, mode, "project_bn")
        if self.strides != 1 or channels != self.features:
            return y
        return x + StochasticDepth(self.stochastic_depth_rate)(y, train=mode.train)


def scale_channels(channels: int, width: float) -> int:
    """The nearest multiple of 8 to so many times the channels; the next one up where that would lose over 10 %."""
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * channels * width else scaled


def block_counts(depth: float) -> tuple[int, ...]:
    """Blocks in each of the seven groups of a network that is so many times as deep as B0."""
    return tuple(math.ceil(depth * number) for *_, number in BASE_BLOCKS)


def efficientnet(style: Style, *, width: float, depth: float, dropout_rate: float) -> Architecture:
    """An EfficientNet.

    Args:
      style: of the implementation.
      width: multiple of the channels of B0.
      depth: multiple of its blocks per group.
      dropout_rate: before the last dense layer.
    """
    counts = block_counts(depth)
    blocks = []
    for group, ((expansion, size, strides, channels, _), number) in enumerate(zip(BASE_BLOCKS, counts, strict=True), 1):
        for i in range(number):
            block = MBConv(
                scale_channels(channels, width),
                size,
                strides if i == 0 else 1,
                expansion,
                style,
                MAX_STOCHASTIC_DEPTH * len(blocks) / sum(counts),
                name=f"block{group}_{i}",
                parent=None,
            )
            blocks.append(block)
    return Architecture(
        features=(
            ConvNorm(scale_channels(32, width), 3, 2, style, name="stem", parent=None),
            *blocks,
            ConvNorm(scale_channels(1280, width), 1, 1, style, name="top", parent=None),
        ),
        classifier=(GlobalPool(name="pool", parent=None), Dropout(dropout_rate, name="dropout", parent=None)),
        stem_kernel=("stem", "conv", "kernel"),
        # Every convolution pads, so that one pixel stays one pixel. (Keras refuses sides under 32, without need.)
        min_size=(1, 1),
    )


def efficientnet_b0(variant: str) -> Architecture:
    """5.3 million parameters with 1000 classes."""
    return efficientnet(STYLES[variant], width=1.0, depth=1.0, dropout_rate=0.2)


def efficientnet_b2(variant: str) -> Architecture:
    """9.1 million parameters with 1000 classes."""
    return efficientnet(STYLES[variant], width=1.1, depth=1.2, dropout_rate=0.3)


def efficientnet_lite0(variant: str) -> Architecture:
    """4.7 million parameters with 1000 classes."""
    return efficientnet(STYLES[variant], width=1.0, depth=1.0, dropout_rate=0.2)
