"""EfficientNet B0 and B2 as torchvision and Keras have them, and EfficientNet-Lite0.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019;
torchvision.models.efficientnet; keras.applications.efficientnet; the package efficientnet-lite-pytorch (Lite0).
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import flax.linen as nn

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.conv_norm import ConvNorm, Details, divisible_by_8
from fpclass.models.layers import Conv, Maps, StochasticDepth, fan_out_normal
from fpclass.models.mapping import (
    Rule,
    keras_batch_norm,
    keras_depthwise,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_layer,
)
from fpclass.models.network import Backbone, Dropout, GlobalPool, Mode

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
class Style(Details):
    """What the implementations do differently; `is_lite`: ReLU6 and no squeeze-excitation, otherwise SiLU with it."""

    is_lite: bool = False

    def activation(self, x: Maps) -> Maps:
        """The non-linearity."""
        return nn.relu6(x) if self.is_lite else nn.silu(x)


STYLES = {
    # B0 to B4 of torchvision have PyTorch's usual batch norm; TensorFlow's epsilon is there from B5 on only.
    "torchvision": Style(),
    # Keras pads by a layer of its own, which is "SAME" for images of a known size. Where the size is left open it pads
    # as for an even one, and gives other numbers for odd maps: that is not followed.
    "keras": Style(epsilon=1e-3, momentum=0.99, unbiased=False, is_same=True),
    # The PyTorch package decides on the padding when the network is built, for 224 x 224 unless told otherwise, and
    # keeps it for all other images: odd maps then lose a row and a column of zeros. This is TensorFlow's meaning, which
    # the package has with image_size=None.
    "lite": Style(epsilon=1e-3, momentum=0.99, is_same=True, is_lite=True),
}


class SqueezeExcitation(nn.Module):
    """Weighs channels by their means over the image, through two dense layers with SiLU and sigmoid."""

    hidden_features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        # The dense layers are 1x1 convolutions on one place, as in both references: kernels keep their shape.
        y = x.mean(axis=(1, 2), keepdims=True)
        y = nn.silu(Conv(self.hidden_features, (1, 1), use_bias=True, kernel_init=fan_out_normal, name="reduce")(y))
        y = Conv(x.shape[-1], (1, 1), use_bias=True, kernel_init=fan_out_normal, name="expand")(y)
        return x * nn.sigmoid(y)


class MBConv(nn.Module):
    """Inverted residual: widen (1x1), convolve each channel, weigh channels, narrow (1x1); residual where shapes allow.

    Attributes:
      expansion: channels inside, as a multiple of those that come in; 1: there is no widening.
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
        channels, size, style = x.shape[-1], self.kernel_size, self.style
        inside, y = channels * self.expansion, x
        if self.expansion != 1:
            y = Conv(inside, (1, 1), kernel_init=fan_out_normal, name="expand_conv")(y)
            y = style.activation(style.batch_norm(y, mode, "expand_bn"))
        options = {"groups": inside, "kernel_init": fan_out_normal, "name": "depthwise_conv"}
        y = Conv(inside, (size, size), self.strides, style.padding(size), **options)(y)
        y = style.activation(style.batch_norm(y, mode, "depthwise_bn"))
        if not style.is_lite:
            # A quarter of the channels that come in, not of those inside.
            y = SqueezeExcitation(max(1, channels // 4), name="squeeze_excitation")(y)
        y = Conv(self.features, (1, 1), kernel_init=fan_out_normal, name="project_conv")(y)
        y = style.batch_norm(y, mode, "project_bn")
        if self.strides != 1 or channels != self.features:
            return y
        return x + StochasticDepth(self.stochastic_depth_rate)(y, train=mode.train)


def block_counts(depth: float) -> tuple[int, ...]:
    """Blocks in each of the seven groups of a network that is so many times as deep as B0."""
    return tuple(math.ceil(depth * number) for *_, number in BASE_BLOCKS)


def efficientnet(style: Style, *, width: float, depth: float, dropout_rate: float) -> Backbone:
    """EfficientNet of `width` times the channels of B0 and `depth` times its blocks; dropout before the last layer."""
    counts = block_counts(depth)
    blocks = []
    for group, ((expansion, size, strides, channels, _), number) in enumerate(zip(BASE_BLOCKS, counts, strict=True), 1):
        for i in range(number):
            block = MBConv(
                divisible_by_8(channels * width),
                size,
                strides if i == 0 else 1,
                expansion,
                style,
                MAX_STOCHASTIC_DEPTH * len(blocks) / sum(counts),
                name=f"block{group}_{i}",
            )
            blocks.append(block)
    end = partial(ConvNorm, details=style, activation=style.activation, kernel_init=fan_out_normal)
    return Backbone(
        features=(
            end(divisible_by_8(32 * width), (3, 3), 2, name="stem"),
            *blocks,
            end(divisible_by_8(1280 * width), (1, 1), name="top"),
        ),
        classifier=(GlobalPool(name="pool"), Dropout(dropout_rate, name="dropout")),
        stem_kernel=("stem", "conv", "kernel"),
        # Every convolution pads, so that one pixel stays one pixel. (Keras refuses sides under 32, without need.)
        min_size=(1, 1),
    )


def _torchvision_block(group: str, first: int) -> tuple[Rule, ...]:
    """Rules of the blocks of a group: their layers are numbered, depthwise convolution at `first`."""
    source, target = rf"features\.({group})\.(\d+)\.block", r"block\1_\2"
    return (
        *torch_layer(rf"{source}\.{first}\.0", f"{target}/depthwise_conv", torch_conv),
        *torch_batch_norm(rf"{source}\.{first}\.1", f"{target}/depthwise_bn"),
        *torch_layer(rf"{source}\.{first + 1}\.fc1", f"{target}/squeeze_excitation/reduce", torch_conv),
        *torch_layer(rf"{source}\.{first + 1}\.fc2", f"{target}/squeeze_excitation/expand", torch_conv),
        *torch_layer(rf"{source}\.{first + 2}\.0", f"{target}/project_conv", torch_conv),
        *torch_batch_norm(rf"{source}\.{first + 2}\.1", f"{target}/project_bn"),
    )


TORCHVISION = (
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_batch_norm(r"features\.0\.1", "stem/bn"),
    *_torchvision_block("1", 0),  # the one block that is not widened has a layer less
    *torch_layer(r"features\.([2-7])\.(\d+)\.block\.0\.0", r"block\1_\2/expand_conv", torch_conv),
    *torch_batch_norm(r"features\.([2-7])\.(\d+)\.block\.0\.1", r"block\1_\2/expand_bn"),
    *_torchvision_block("[2-7]", 1),
    *torch_layer(r"features\.8\.0", "top/conv", torch_conv),
    *torch_batch_norm(r"features\.8\.1", "top/bn"),
    *torch_layer(r"classifier\.1", "head/logits", torch_dense),
)


def _keras_block(letter: str, number: int) -> tuple[Rule, ...]:
    """Rules of the block with this letter in every group, which is our block of this number."""
    source, target = f"block([1-7]){letter}_", rf"block\1_{number}"
    return (
        *keras_layer(f"{source}expand_conv", f"{target}/expand_conv"),
        *keras_batch_norm(f"{source}expand_bn", f"{target}/expand_bn"),
        *keras_layer(f"{source}dwconv", f"{target}/depthwise_conv", keras_depthwise),
        *keras_batch_norm(f"{source}bn", f"{target}/depthwise_bn"),
        *keras_layer(f"{source}se_reduce", f"{target}/squeeze_excitation/reduce"),
        *keras_layer(f"{source}se_expand", f"{target}/squeeze_excitation/expand"),
        *keras_layer(f"{source}project_conv", f"{target}/project_conv"),
        *keras_batch_norm(f"{source}project_bn", f"{target}/project_bn"),
    )


KERAS = (
    # Mean and deviation of the images lie inside the network there; here the manifest has them.
    Rule(r"normalization(?:_\d+)?/(?:mean|variance|count)", ""),
    *keras_layer("stem_conv", "stem/conv"),
    *keras_batch_norm("stem_bn", "stem/bn"),
    *(rule for number, letter in enumerate("abcde") for rule in _keras_block(letter, number)),
    *keras_layer("top_conv", "top/conv"),
    *keras_batch_norm("top_bn", "top/bn"),
    *keras_layer("predictions", "head/logits"),
)


def _lite_block(source: str, target: str) -> tuple[Rule, ...]:
    return (
        *torch_layer(rf"{source}\._expand_conv", f"{target}/expand_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn0", f"{target}/expand_bn"),
        *torch_layer(rf"{source}\._depthwise_conv", f"{target}/depthwise_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn1", f"{target}/depthwise_bn"),
        *torch_layer(rf"{source}\._project_conv", f"{target}/project_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn2", f"{target}/project_bn"),
    )


BLOCKS = tuple(f"block{group}_{i}" for group, number in enumerate(block_counts(1.0), 1) for i in range(number))
"""Our names of the blocks, which the package numbers through from 0."""

LITE = (
    *torch_layer("_conv_stem", "stem/conv", torch_conv),
    *torch_batch_norm("_bn0", "stem/bn"),
    *(rule for i, target in enumerate(BLOCKS) for rule in _lite_block(rf"_blocks\.{i}", target)),
    *torch_layer("_conv_head", "top/conv", torch_conv),
    *torch_batch_norm("_bn1", "top/bn"),
    *torch_layer("_fc", "head/logits", torch_dense),
)


def _stages(depth: float, origin: str) -> dict[str, str]:
    names = [(group, block) for group, number in enumerate(block_counts(depth), 1) for block in range(number)]
    if origin == "keras":
        # A block without a shortcut ends with its batch norm.
        ends = {name: "add" if name[1] else "project_bn" for name in names}
        stages = {f"block{g}_{b}": f"block{g}{'abcde'[b]}_{ends[g, b]}" for g, b in names}
        return {"stem": "stem_activation", **stages, "top": "top_activation", "dropout": "top_dropout"}
    if origin == "lite":
        # One module activates after the stem and after the last convolution: its last output counts.
        stages = {f"block{g}_{b}": f"_blocks.{i}" for i, (g, b) in enumerate(names)}
        return stages | {"top": "_swish", "dropout": "_dropout"}
    stages = {f"block{g}_{b}": f"features.{g}.{b}" for g, b in names}
    return {"stem": "features.0", **stages, "top": "features.8", "dropout": "classifier.0"}


def _published(
    name: str, width: float, depth: float, dropout_rate: float, num_parameters: int,
    originals: dict[str, tuple[str, float]],
) -> Published:  # fmt: skip
    """One of the sizes; `originals` are names and tolerances by variant."""
    mappings = {"torchvision": TORCHVISION, "keras": KERAS, "lite": LITE}
    return Published(
        name,
        lambda variant: efficientnet(STYLES[variant], width=width, depth=depth, dropout_rate=dropout_rate),
        tuple(
            Variant(
                variant,
                mappings[variant],
                Parity(original, num_parameters, ((32, 48), (67, 45)), _stages(depth, variant), tolerance),
            )
            for variant, (original, tolerance) in originals.items()
        ),
    )


B2_ORIGINALS = {"torchvision": ("torchvision:efficientnet_b2", 1.7e-6), "keras": ("keras:EfficientNetB2", 1.2e-6)}

ARCHITECTURES = (
    _published("efficientnet_b0", 1.0, 1.0, 0.2, 5_288_548, {"torchvision": ("torchvision:efficientnet_b0", 1.6e-6)}),
    _published("efficientnet_b2", 1.1, 1.2, 0.3, 9_109_994, B2_ORIGINALS),
    _published(
        "efficientnet_lite0", 1.0, 1.0, 0.2, 4_652_008, {"lite": ("efficientnet-lite:efficientnet-lite0", 4.8e-6)}
    ),
)
