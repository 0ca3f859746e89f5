"""EfficientNet B0 and B2 as torchvision and Keras have them, EfficientNet-Lite0, and torchvision's EfficientNetV2-S.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019; Tan and Le,
EfficientNetV2: Smaller Models and Faster Training, ICML 2021; torchvision.models.efficientnet;
keras.applications.efficientnet; the package efficientnet-lite-pytorch (Lite0).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
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


@dataclasses.dataclass(frozen=True)
class Group:
    """Blocks one after the other; the stride is that of the first of them.

    Attributes:
      is_fused: they are FusedMBConv; otherwise MBConv.
    """

    expansion: int
    kernel_size: int
    strides: int
    features: int
    number: int
    is_fused: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the networks of the family differ in.

    Attributes:
      stem_features: channels of the convolution before the blocks; `top_features`: of the one behind them.
      dropout_rate: before the classes.
    """

    groups: tuple[Group, ...]
    stem_features: int
    top_features: int = 1280
    dropout_rate: float = 0.2

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """The number of each block's group, from 1, and its own in the group, from 0."""
        return tuple((g, block) for g, group in enumerate(self.groups, start=1) for block in range(group.number))

    def scaled(self, width: float, depth: float, dropout_rate: float) -> Layout:
        """So many times as wide and as deep."""
        groups = [
            dataclasses.replace(
                group, features=divisible_by_8(group.features * width), number=math.ceil(depth * group.number)
            )
            for group in self.groups
        ]
        stem, top = divisible_by_8(self.stem_features * width), divisible_by_8(self.top_features * width)
        return Layout(tuple(groups), stem, top, dropout_rate)


B0 = Layout(
    (
        Group(1, 3, 1, 16, 1),
        Group(6, 3, 2, 24, 2),
        Group(6, 5, 2, 40, 2),
        Group(6, 3, 2, 80, 3),
        Group(6, 5, 1, 112, 3),
        Group(6, 5, 2, 192, 4),
        Group(6, 3, 1, 320, 1),
    ),
    stem_features=32,
)
"""Source: table 1 of the first paper."""
B2 = B0.scaled(width=1.1, depth=1.2, dropout_rate=0.3)

V2_S = Layout(
    (
        Group(1, 3, 1, 24, 2, is_fused=True),
        Group(4, 3, 2, 48, 4, is_fused=True),
        Group(4, 3, 2, 64, 4, is_fused=True),
        Group(4, 3, 2, 128, 6),
        Group(6, 3, 1, 160, 9),
        Group(6, 3, 2, 256, 15),
    ),
    stem_features=24,
)
"""Source: table 4 of the second paper."""

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
    # B0 to B4 of torchvision have PyTorch's usual batch norm; TensorFlow's epsilon is there from B5 on, and in V2.
    "torchvision": Style(),
    "torchvision V2": Style(epsilon=1e-3),
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
        return with_shortcut(x, y, self.strides, self.stochastic_depth_rate, mode)


class FusedMBConv(nn.Module):
    """MBConv that widens by a convolution of all channels, in place of a 1x1 one and a depthwise one; it weighs none.

    Attributes:
      expansion, stochastic_depth_rate: as of MBConv; without widening there is no narrowing either.
    """

    features: int
    kernel_size: int
    strides: int
    expansion: int
    style: Style
    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        size, style, is_widened = self.kernel_size, self.style, self.expansion != 1
        inside = x.shape[-1] * self.expansion if is_widened else self.features
        options = {"kernel_init": fan_out_normal, "name": "fused_conv"}
        y = Conv(inside, (size, size), self.strides, style.padding(size), **options)(x)
        y = style.activation(style.batch_norm(y, mode, "fused_bn"))
        if is_widened:
            y = Conv(self.features, (1, 1), kernel_init=fan_out_normal, name="project_conv")(y)
            y = style.batch_norm(y, mode, "project_bn")
        return with_shortcut(x, y, self.strides, self.stochastic_depth_rate, mode)


def with_shortcut(x: Maps, y: Maps, strides: int, stochastic_depth_rate: float, mode: Mode) -> Maps:
    """A block's result: what came in and its branch, if that neither strides nor changes the number of channels."""
    if strides != 1 or x.shape[-1] != y.shape[-1]:
        return y
    return x + StochasticDepth(stochastic_depth_rate)(y, train=mode.train)


def efficientnet(layout: Layout, style: Style) -> Backbone:
    """EfficientNet of these blocks, with the details of one implementation."""
    blocks: list[nn.Module] = []
    for number, block in layout.blocks:
        group = layout.groups[number - 1]
        build = FusedMBConv if group.is_fused else MBConv
        strides = 1 if block else group.strides
        rate = MAX_STOCHASTIC_DEPTH * len(blocks) / len(layout.blocks)
        name = f"block{number}_{block}"
        blocks.append(build(group.features, group.kernel_size, strides, group.expansion, style, rate, name=name))
    end = partial(ConvNorm, details=style, activation=style.activation, kernel_init=fan_out_normal)
    return Backbone(
        features=(
            end(layout.stem_features, (3, 3), 2, name="stem"),
            *blocks,
            end(layout.top_features, (1, 1), name="top"),
        ),
        classifier=(GlobalPool(name="pool"), Dropout(layout.dropout_rate, name="dropout")),
        stem_kernel=("stem", "conv", "kernel"),
        # Every convolution pads, so that one pixel stays one pixel. (Keras refuses sides under 32, without need.)
        min_size=(1, 1),
    )


PARTS = ("expand", "depthwise", "squeeze_excitation", "project")
"""Of MBConv, in the order in which torchvision numbers them."""


def _torchvision_blocks(groups: str, *parts: str) -> Iterator[Rule]:
    """Rules of the blocks of these groups, which have these parts."""
    for place, part in enumerate(parts):
        source, target = rf"features\.({groups})\.(\d+)\.block\.{place}", rf"block\1_\2/{part}"
        if part == "squeeze_excitation":
            yield from torch_layer(rf"{source}\.fc1", f"{target}/reduce", torch_conv)
            yield from torch_layer(rf"{source}\.fc2", f"{target}/expand", torch_conv)
        else:
            yield from torch_layer(rf"{source}\.0", f"{target}_conv", torch_conv)
            yield from torch_batch_norm(rf"{source}\.1", f"{target}_bn")


def _torchvision(layout: Layout, *blocks: Iterator[Rule]) -> tuple[Rule, ...]:
    """The rules of a whole network."""
    top = rf"features\.{len(layout.groups) + 1}"
    return (
        *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
        *torch_batch_norm(r"features\.0\.1", "stem/bn"),
        *(rule for rules in blocks for rule in rules),
        *torch_layer(rf"{top}\.0", "top/conv", torch_conv),
        *torch_batch_norm(rf"{top}\.1", "top/bn"),
        *torch_layer(r"classifier\.1", "head/logits", torch_dense),
    )


# A block that is not widened has a part less.
TORCHVISION = _torchvision(B0, _torchvision_blocks("1", *PARTS[1:]), _torchvision_blocks("[2-7]", *PARTS))
TORCHVISION_V2 = _torchvision(
    V2_S,
    _torchvision_blocks("1", "fused"),
    _torchvision_blocks("[23]", "fused", "project"),
    _torchvision_blocks("[4-6]", *PARTS),
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


LITE = (
    *torch_layer("_conv_stem", "stem/conv", torch_conv),
    *torch_batch_norm("_bn0", "stem/bn"),
    # Its blocks are numbered through.
    *(rule for i, (g, b) in enumerate(B0.blocks) for rule in _lite_block(rf"_blocks\.{i}", f"block{g}_{b}")),
    *torch_layer("_conv_head", "top/conv", torch_conv),
    *torch_batch_norm("_bn1", "top/bn"),
    *torch_layer("_fc", "head/logits", torch_dense),
)


def _stages(layout: Layout, variant: str) -> dict[str, str]:
    names = layout.blocks
    if variant == "keras":
        # A block without a shortcut ends with its batch norm.
        ends = {name: "add" if name[1] else "project_bn" for name in names}
        stages = {f"block{g}_{b}": f"block{g}{'abcde'[b]}_{ends[g, b]}" for g, b in names}
        return {"stem": "stem_activation", **stages, "top": "top_activation", "dropout": "top_dropout"}
    if variant == "lite":
        # One module activates after the stem and after the last convolution: its last output counts.
        stages = {f"block{g}_{b}": f"_blocks.{i}" for i, (g, b) in enumerate(names)}
        return stages | {"top": "_swish", "dropout": "_dropout"}
    stages = {f"block{g}_{b}": f"features.{g}.{b}" for g, b in names}
    return {"stem": "features.0", **stages, "top": f"features.{len(layout.groups) + 1}", "dropout": "classifier.0"}


Origin = tuple[Style, tuple[Rule, ...]]
V1 = {
    "torchvision": (STYLES["torchvision"], TORCHVISION),
    "keras": (STYLES["keras"], KERAS),
    "lite": (STYLES["lite"], LITE),
}
V2 = {"torchvision": (STYLES["torchvision V2"], TORCHVISION_V2)}
"""Details and array names of a variant."""


def _published(
    name: str,
    layout: Layout,
    num_parameters: int,
    origins: dict[str, Origin],
    originals: dict[str, tuple[str, float]],
    dtype: str = "float32",
) -> Published:
    """One of the networks; `originals` are names and tolerances by variant."""
    variants = []
    for variant, (original, tolerance) in originals.items():
        stages = _stages(layout, variant)
        parity = Parity(original, num_parameters, ((32, 48), (67, 45)), stages, tolerance, dtype=dtype)
        variants.append(Variant(variant, origins[variant][1], parity))
    return Published(name, lambda variant: efficientnet(layout, origins[variant][0]), tuple(variants))


B2_ORIGINALS = {"torchvision": ("torchvision:efficientnet_b2", 1.7e-6), "keras": ("keras:EfficientNetB2", 1.2e-6)}
V2_ORIGINALS = {"torchvision": ("torchvision:efficientnet_v2_s", 3.2e-10)}

ARCHITECTURES = (
    _published("efficientnet_b0", B0, 5_288_548, V1, {"torchvision": ("torchvision:efficientnet_b0", 1.6e-6)}),
    _published("efficientnet_b2", B2, 9_109_994, V1, B2_ORIGINALS),
    _published("efficientnet_lite0", B0, 4_652_008, V1, {"lite": ("efficientnet-lite:efficientnet-lite0", 4.8e-6)}),
    # Squeeze-excitation in 30 blocks one after the other: at drawn weights the last digit grows by up to a million.
    _published("efficientnet_v2_s", V2_S, 21_458_488, V2, V2_ORIGINALS, "float64"),
)
