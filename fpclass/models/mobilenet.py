"""MobileNetV2 and MobileNetV3-Large, as torchvision and as Keras have them.

Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; Howard et al., Searching for
MobileNetV3, ICCV 2019; torchvision.models.mobilenetv2 and mobilenetv3; keras.applications.mobilenet_v2 and
mobilenet_v3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.layers import Conv
from fpclass.models.network import Architecture, Dropout, GlobalPool, Mode, batch_norm

Maps = Float[Array, "n h w c"]
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

ACTIVATIONS = {"relu": nn.relu, "relu6": nn.relu6, "hard_swish": nn.hard_swish, "none": lambda x: x}
"""Keras' hard-swish and hard-sigmoid are PyTorch's here: x relu6(x + 3) / 6, not the 0.2 x + 0.5 of older versions."""

V2_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, number of blocks, stride of the first of them). Source: table 2 of MobileNetV2."""

V3_LARGE_BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
"""(side of the kernel, hidden channels, channels, whether it squeezes, activation, stride). Source: table 1 of V3."""


@dataclasses.dataclass(frozen=True)
class Details:
    """What the origins of the weights disagree about.

    Attributes:
      pads_as_tensorflow: at stride 2 and even sizes all padding of a 3x3 kernel is at the bottom and the right (Keras
        writes it as "same" in the stem and as zeros by `correct_pad` in the blocks: the same numbers).
      epsilon: of batch norm.
      momentum: of batch norm, share of the old statistics that is kept.
      unbiased: of the running variance.
    """

    pads_as_tensorflow: bool
    epsilon: float
    momentum: float
    unbiased: bool


KERAS = Details(pads_as_tensorflow=True, epsilon=1e-3, momentum=0.999, unbiased=False)
TORCHVISION_V2 = Details(pads_as_tensorflow=False, epsilon=1e-5, momentum=0.9, unbiased=True)
TORCHVISION_V3 = Details(pads_as_tensorflow=False, epsilon=1e-3, momentum=0.99, unbiased=True)


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation: the stem, the last 1x1 convolution, and the parts of blocks.

    Attributes:
      features: channels of the output.
      kernel_size: side of the square kernel, pixels.
      strides: step in both directions, pixels.
      groups: of the convolution.
      activation: a name of `ACTIVATIONS`.
      details: of the variant.
    """

    features: int
    kernel_size: int
    strides: int
    activation: str
    details: Details
    groups: int = 1

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Convolves, normalises, activates."""
        size, details = self.kernel_size, self.details
        padding = "SAME" if details.pads_as_tensorflow else size // 2
        conv = Conv(
            self.features, (size, size), self.strides, padding, self.groups, kernel_init=fan_out_normal, name="conv"
        )
        options = {"epsilon": details.epsilon, "momentum": details.momentum, "unbiased": details.unbiased}
        return ACTIVATIONS[self.activation](batch_norm(conv(x), mode, "bn", **options))


class Squeeze(nn.Module):
    """Weighs channels by a hard sigmoid of what the whole image says about them.

    Attributes:
      features: width of the hidden layer.
    """

    features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Multiplies every channel of every image by its weight, in [0, 1]."""
        y = x.mean(axis=(1, 2), keepdims=True)
        y = nn.relu(Conv(self.features, (1, 1), use_bias=True, name="squeeze")(y))
        return x * nn.hard_sigmoid(Conv(x.shape[-1], (1, 1), use_bias=True, name="excite")(y))


class InvertedResidual(nn.Module):
    """1x1 convolution to many channels, depthwise convolution, 1x1 convolution to few, added to what came in.

    Attributes:
      hidden: channels in between; as many as come in: there is no first convolution.
      features: channels of the output.
      strides: of the depthwise convolution.
      activation: of the first two convolutions; the last has none.
      details: of the variant.
      kernel_size: of the depthwise convolution.
      squeezes: whether channels are weighed after the depthwise convolution.
    """

    hidden: int
    features: int
    strides: int
    activation: str
    details: Details
    kernel_size: int = 3
    squeezes: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Adds the branch to the input where both have the same shape by design (stride 1)."""
        hidden, y = self.hidden, x
        if hidden != x.shape[-1]:
            y = ConvNorm(hidden, 1, 1, self.activation, self.details, name="expand")(y, mode)
        depthwise = ConvNorm(
            hidden, self.kernel_size, self.strides, self.activation, self.details, hidden, name="depthwise"
        )
        y = depthwise(y, mode)
        if self.squeezes:
            y = Squeeze(divisible_by_8(hidden // 4), name="se")(y)
        y = ConvNorm(self.features, 1, 1, "none", self.details, name="project")(y, mode)
        return x + y if self.strides == 1 and x.shape[-1] == self.features else y


class Hidden(nn.Module):
    """The dense layer with hard-swish between pooling and the classes of MobileNetV3 (in Keras a 1x1 convolution).

    Attributes:
      features: width.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n f"], mode: Mode) -> Float[Array, "n g"]:
        """Computes the last features."""
        return nn.hard_swish(nn.Dense(self.features, dtype=x.dtype, name="dense")(x))


def divisible_by_8(channels: int) -> int:
    """The nearest multiple of 8 that is not more than a tenth below. Source: `_make_divisible` of both originals."""
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def mobilenet_v2(variant: str) -> Architecture:
    """3.5 million parameters with 1000 classes."""
    details = KERAS if variant == "keras" else TORCHVISION_V2
    blocks, channels = [], 32
    for expansion, features, number, first_stride in V2_GROUPS:
        for i in range(number):
            strides, name = (1 if i else first_stride), f"block_{len(blocks)}"
            hidden = expansion * channels
            blocks.append(InvertedResidual(hidden, features, strides, "relu6", details, name=name, parent=None))
            channels = features
    # Keras has no dropout here.
    dropout = () if variant == "keras" else (Dropout(0.2, name="dropout", parent=None),)
    return _mobilenet(blocks, (32, 1280), "relu6", details, dropout)


def mobilenet_v3_large(variant: str) -> Architecture:
    """5.5 million parameters with 1000 classes."""
    details = KERAS if variant == "keras" else TORCHVISION_V3
    blocks = [
        InvertedResidual(hidden, features, strides, activation, details, size, squeezes, name=f"block_{i}", parent=None)
        for i, (size, hidden, features, squeezes, activation, strides) in enumerate(V3_LARGE_BLOCKS)
    ]
    classifier = (Hidden(1280, name="hidden", parent=None), Dropout(0.2, name="dropout", parent=None))
    return _mobilenet(blocks, (16, 960), "hard_swish", details, classifier)


def _mobilenet(
    blocks: Sequence[nn.Module], widths: tuple[int, int], activation: str, details: Details, classifier: tuple
) -> Architecture:
    """Blocks between a stem and a last 1x1 convolution of those widths, and what comes after the pooling."""
    stem = ConvNorm(widths[0], 3, 2, activation, details, name="stem", parent=None)
    last = ConvNorm(widths[1], 1, 1, activation, details, name="last", parent=None)
    return Architecture(
        features=(stem, *blocks, last),
        classifier=(GlobalPool(name="pool", parent=None), *classifier),
        stem_kernel=("stem", "conv", "kernel"),
        # One pixel stays one pixel under padding; Keras refuses less than 32 of its own accord.
        min_size=(32, 32) if details.pads_as_tensorflow else (1, 1),
    )
