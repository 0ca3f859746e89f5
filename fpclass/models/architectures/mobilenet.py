"""MobileNetV2 and MobileNetV3-Large, as torchvision and as Keras have them.

Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; Howard et al., Searching for
MobileNetV3, ICCV 2019; torchvision.models.mobilenetv2 and mobilenetv3; keras.applications.mobilenet_v2 and
mobilenet_v3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.conv_norm import ConvNorm, Details, divisible_by_8
from fpclass.models.layers import Conv, Maps, fan_out_normal
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

Activation = Callable[[Array], Array]
relu, hard_swish = nn.relu, nn.hard_swish
"""Keras' hard-swish and hard-sigmoid are PyTorch's here: x relu6(x + 3) / 6, not the 0.2 x + 0.5 of older versions."""

V2_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, number of blocks, stride of the first of them). Source: table 2 of MobileNetV2."""

V3_LARGE_BLOCKS = (
    (3, 16, 16, False, relu, 1),
    (3, 64, 24, False, relu, 2),
    (3, 72, 24, False, relu, 1),
    (5, 72, 40, True, relu, 2),
    (5, 120, 40, True, relu, 1),
    (5, 120, 40, True, relu, 1),
    (3, 240, 80, False, hard_swish, 2),
    (3, 200, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 480, 112, True, hard_swish, 1),
    (3, 672, 112, True, hard_swish, 1),
    (5, 672, 160, True, hard_swish, 2),
    (5, 960, 160, True, hard_swish, 1),
    (5, 960, 160, True, hard_swish, 1),
)
"""(side of the kernel, hidden channels, channels, whether it squeezes, activation, stride). Source: table 1 of V3."""


# Keras writes the padding as "same" in the stem and as zeros by `correct_pad` in the blocks: the same numbers.
KERAS = Details(epsilon=1e-3, momentum=0.999, unbiased=False, is_same=True)
TORCHVISION_V2 = Details()
TORCHVISION_V3 = Details(epsilon=1e-3, momentum=0.99)


def conv_norm(
    features: int, size: int, strides: int, activation: Activation, details: Details, name: str, groups: int = 1
) -> ConvNorm:
    """Convolution, batch norm, activation: the stem, the last 1x1 convolution, and the parts of blocks."""
    return ConvNorm(features, (size, size), strides, details, activation, groups, kernel_init=fan_out_normal, name=name)


def _same(x: Array) -> Array:
    return x


class Squeeze(nn.Module):
    """Weighs channels by a hard sigmoid of what the whole image says about them, through a layer of `features`."""

    features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        y = x.mean(axis=(1, 2), keepdims=True)
        y = nn.relu(Conv(self.features, (1, 1), use_bias=True, name="squeeze")(y))
        return x * nn.hard_sigmoid(Conv(x.shape[-1], (1, 1), use_bias=True, name="excite")(y))


class InvertedResidual(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection; at stride 1 added to an equal shape.

    Attributes:
      hidden: channels in between; as many as come in: there is no first convolution.
      strides: of the depthwise convolution, as is `kernel_size`.
      activation: of the first two convolutions; the last has none.
      squeezes: whether channels are weighed after the depthwise convolution.
    """

    hidden: int
    features: int
    strides: int
    activation: Activation
    details: Details
    kernel_size: int = 3
    squeezes: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        hidden, y = self.hidden, x
        if hidden != x.shape[-1]:
            y = conv_norm(hidden, 1, 1, self.activation, self.details, "expand")(y, mode)
        size, strides = self.kernel_size, self.strides
        y = conv_norm(hidden, size, strides, self.activation, self.details, "depthwise", hidden)(y, mode)
        if self.squeezes:
            y = Squeeze(divisible_by_8(hidden // 4), name="se")(y)
        y = conv_norm(self.features, 1, 1, _same, self.details, "project")(y, mode)
        return x + y if strides == 1 and x.shape[-1] == self.features else y


class Hidden(nn.Module):
    """The dense layer with hard-swish between pooling and the classes of MobileNetV3 (in Keras a 1x1 convolution)."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n f"], mode: Mode) -> Float[Array, "n g"]:
        return nn.hard_swish(nn.Dense(self.features, dtype=x.dtype, name="dense")(x))


def mobilenet_v2(variant: str) -> Backbone:
    """MobileNetV2 of torchvision or Keras."""
    details = KERAS if variant == "keras" else TORCHVISION_V2
    blocks, channels = [], 32
    for expansion, features, number, first_stride in V2_GROUPS:
        for i in range(number):
            strides, name = (1 if i else first_stride), f"block_{len(blocks)}"
            hidden = expansion * channels
            blocks.append(InvertedResidual(hidden, features, strides, nn.relu6, details, name=name))
            channels = features
    # Keras has no dropout here.
    dropout = () if variant == "keras" else (Dropout(0.2, name="dropout"),)
    return _mobilenet(blocks, (32, 1280), nn.relu6, details, dropout)


def mobilenet_v3_large(variant: str) -> Backbone:
    """MobileNetV3-Large of torchvision or Keras."""
    details = KERAS if variant == "keras" else TORCHVISION_V3
    blocks = [
        InvertedResidual(hidden, features, strides, activation, details, size, squeezes, name=f"block_{i}")
        for i, (size, hidden, features, squeezes, activation, strides) in enumerate(V3_LARGE_BLOCKS)
    ]
    classifier = (Hidden(1280, name="hidden"), Dropout(0.2, name="dropout"))
    return _mobilenet(blocks, (16, 960), hard_swish, details, classifier)


def _mobilenet(
    blocks: Sequence[nn.Module], widths: tuple[int, int], activation: Activation, details: Details, classifier: tuple
) -> Backbone:
    """Blocks between a stem and a last 1x1 convolution of those widths, and what comes after the pooling."""
    stem = conv_norm(widths[0], 3, 2, activation, details, "stem")
    last = conv_norm(widths[1], 1, 1, activation, details, "last")
    return Backbone(
        features=(stem, *blocks, last),
        classifier=(GlobalPool(name="pool"), *classifier),
        stem_kernel=("stem", "conv", "kernel"),
        # One pixel stays one pixel under padding; Keras refuses less than 32 of its own accord.
        min_size=(32, 32) if details.is_same else (1, 1),
    )


NUM_V2_BLOCKS, NUM_V3_BLOCKS = 17, len(V3_LARGE_BLOCKS)


def one_pixel_conv(array: np.ndarray) -> np.ndarray:
    """Keras' kernel [1, 1, in, out] of a convolution that sees one pixel -> [in, out] of a dense layer."""
    return array.reshape(array.shape[2:])


def _torch_conv_norm(source: str, target: str, norm_source: str = "") -> tuple[Rule, ...]:
    """A convolution and its batch norm: beside each other as 0 and 1, unless the norm has another name."""
    conv, norm = (source, norm_source) if norm_source else (rf"{source}\.0", rf"{source}\.1")
    return (*torch_layer(conv, f"{target}/conv", torch_conv), *torch_batch_norm(norm, f"{target}/bn"))


def _torchvision_v2() -> tuple[Rule, ...]:
    rules = [*_torch_conv_norm(r"features\.0", "stem"), *_torch_conv_norm(r"features\.18", "last")]
    for i in range(NUM_V2_BLOCKS):  # blocks are features 1 … 17; the first has no part that expands
        conv = rf"features\.{i + 1}\.conv"
        parts = ("expand", "depthwise") if i else ("depthwise",)
        for place, part in enumerate(parts):
            rules += _torch_conv_norm(rf"{conv}\.{place}", f"block_{i}/{part}")
        project, norm = rf"{conv}\.{len(parts)}", rf"{conv}\.{len(parts) + 1}"
        rules += _torch_conv_norm(project, f"block_{i}/project", norm)
    return (*rules, *torch_layer(r"classifier\.1", "head/logits", torch_dense))


def _torchvision_v3() -> tuple[Rule, ...]:
    rules = [*_torch_conv_norm(r"features\.0", "stem"), *_torch_conv_norm(rf"features\.{NUM_V3_BLOCKS + 1}", "last")]
    for i, (_, _, _, squeezes, _, _) in enumerate(V3_LARGE_BLOCKS):
        parts = [*(["expand"] if i else []), "depthwise", *(["se"] if squeezes else []), "project"]
        for place, part in enumerate(parts):
            source, target = rf"features\.{i + 1}\.block\.{place}", f"block_{i}/{part}"
            if part == "se":
                rules += torch_layer(rf"{source}\.fc1", f"{target}/squeeze", torch_conv)
                rules += torch_layer(rf"{source}\.fc2", f"{target}/excite", torch_conv)
            else:
                rules += _torch_conv_norm(source, target)
    rules += torch_layer(r"classifier\.0", "hidden/dense", torch_dense)
    return (*rules, *torch_layer(r"classifier\.3", "head/logits", torch_dense))


TORCHVISION_V2_MAPPING = _torchvision_v2()
TORCHVISION_V3_MAPPING = _torchvision_v3()

KERAS_V2_MAPPING = (
    *keras_layer("Conv1", "stem/conv"),
    *keras_batch_norm("bn_Conv1", "stem/bn"),
    # The first block has a name of its own.
    *keras_layer("expanded_conv_depthwise", "block_0/depthwise/conv", keras_depthwise),
    *keras_batch_norm("expanded_conv_depthwise_BN", "block_0/depthwise/bn"),
    *keras_layer("expanded_conv_project", "block_0/project/conv"),
    *keras_batch_norm("expanded_conv_project_BN", "block_0/project/bn"),
    *keras_layer(r"block_(\d+)_depthwise", r"block_\1/depthwise/conv", keras_depthwise),
    *keras_layer(r"block_(\d+)_(expand|project)", r"block_\1/\2/conv"),
    *keras_batch_norm(r"block_(\d+)_(expand|depthwise|project)_BN", r"block_\1/\2/bn"),
    # The names of these before Keras 2.2.2, which the published files bear (readers of them by name rely on that).
    *keras_layer(r"mobl(\d+)_conv_\1_depthwise", r"block_\1/depthwise/conv", keras_depthwise),
    *keras_layer(r"mobl(\d+)_conv_\1_(expand|project)", r"block_\1/\2/conv"),
    *keras_batch_norm(r"bn(\d+)_conv_\1_bn_(expand|depthwise|project)", r"block_\1/\2/bn"),
    *keras_layer("Conv_1", "last/conv"),
    *keras_batch_norm("Conv_1_bn", "last/bn"),
    *keras_layer("(?:predictions|Logits)", "head/logits"),
)


def _keras_v3(between: str, conv: str, norm: str, logits: str) -> tuple[Rule, ...]:
    """The rules for names whose words are joined by `between`, and that call their layers so."""
    first, block = f"expanded_conv{between}", rf"expanded_conv_(\d+){between}"  # the first block has no number
    squeeze = f"{block}squeeze_excite{between}{conv}"
    return (
        *keras_layer(conv, "stem/conv"),
        *keras_batch_norm(f"{conv}{between}{norm}", "stem/bn"),
        *keras_layer(f"{first}depthwise", "block_0/depthwise/conv", keras_depthwise),
        *keras_layer(f"{first}project", "block_0/project/conv"),
        *keras_batch_norm(f"{first}(depthwise|project){between}{norm}", r"block_0/\1/bn"),
        *keras_layer(f"{block}depthwise", r"block_\1/depthwise/conv", keras_depthwise),
        *keras_layer(f"{block}(expand|project)", r"block_\1/\2/conv"),
        *keras_batch_norm(f"{block}(expand|depthwise|project){between}{norm}", r"block_\1/\2/bn"),
        *keras_layer(squeeze, r"block_\1/se/squeeze"),
        *keras_layer(f"{squeeze}_1", r"block_\1/se/excite"),
        *keras_layer(f"{conv}_1", "last/conv"),
        *keras_batch_norm(f"{conv}_1{between}{norm}", "last/bn"),
        *keras_layer(f"{conv}_2", "hidden/dense", one_pixel_conv),
        *keras_layer(logits, "head/logits", one_pixel_conv),
    )


KERAS_V3_MAPPING = (
    *_keras_v3("_", "conv", "bn", "logits"),
    # The names of Keras 2, whose files are still the published ones: "expanded_conv_1/expand/BatchNorm". No reader of
    # the published file by name is known: that it bears these names is only likely. Keras itself goes by the order.
    *_keras_v3("/", "Conv", "BatchNorm", "Logits"),
    Rule(r"seed_generator(?:_\d+)?/seed_generator_state", ""),  # of the dropout
)


SIZES = ((64, 96), (67, 45))


def _torch_stages(num_blocks: int) -> dict[str, str]:
    places = ("stem", *(f"block_{i}" for i in range(num_blocks)), "last")
    return {stage: f"features.{i}" for i, stage in enumerate(places)}


def _keras_stages(stem: str, block: str, norm: str, adding: tuple[int, ...], num_blocks: int) -> dict[str, str]:
    """The names of a block's end say whether it adds its input, which those listed do."""
    ends = {i: "add" if i in adding else f"project_{norm}" for i in range(num_blocks)}
    blocks = {f"block_{i}": f"{block}_{i}_{end}" for i, end in ends.items()}
    return {"stem": stem, **blocks, "block_0": f"expanded_conv_{ends[0]}"}


V2_KERAS_STAGES = _keras_stages("Conv1_relu", "block", "BN", (2, 4, 5, 7, 8, 9, 11, 12, 14, 15), NUM_V2_BLOCKS)
V3_ADDING = (0, 2, 4, 5, 7, 8, 9, 11, 13, 14)
# Keras numbers its unnamed activations in the order of the network; behind the pooling it still has maps.
V3_KERAS_STAGES = _keras_stages("activation", "expanded_conv", "bn", V3_ADDING, NUM_V3_BLOCKS)


def _published(
    name: str, stages: Callable[[str], Backbone], num_parameters: int, torchvision: tuple, keras: tuple
) -> Published:
    """Of both variants the mapping, the reference's name, its names of our stages, and the tolerances."""
    variants = []
    for variant, (mapping, original, names, *tolerances) in (("torchvision", torchvision), ("keras", keras)):
        parity = Parity(f"{variant}:{original}", num_parameters, SIZES, names, *tolerances)
        variants.append(Variant(variant, mapping, parity))
    return Published(name, stages, tuple(variants))


V2_STAGES, V3_STAGES = _torch_stages(NUM_V2_BLOCKS), _torch_stages(NUM_V3_BLOCKS) | {"hidden": "classifier.1"}

ARCHITECTURES = (
    _published(
        "mobilenet_v2",
        mobilenet_v2,
        3_504_872,
        (TORCHVISION_V2_MAPPING, "mobilenet_v2", V2_STAGES, 2.4e-5, 1.1e-7),
        (KERAS_V2_MAPPING, "MobileNetV2", V2_KERAS_STAGES | {"last": "out_relu"}, 1.1e-5, 1.1e-7),
    ),
    _published(
        "mobilenet_v3_large",
        mobilenet_v3_large,
        5_483_032,
        (TORCHVISION_V3_MAPPING, "mobilenet_v3_large", V3_STAGES, 4.8e-6, 1.4e-7),
        (KERAS_V3_MAPPING, "MobileNetV3Large", V3_KERAS_STAGES | {"last": "activation_19"}, 5.9e-6),
    ),
)
