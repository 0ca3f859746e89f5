"""What the tests know about every port: its reference, its sizes, its stages there, its number of parameters."""

from __future__ import annotations

import dataclasses
import re
import zlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One port and the network that it must equal.

    Attributes:
      name: of the architecture.
      variant: of it.
      reference: how the reference builds it; see `reference_networks.build_reference`.
      num_parameters: trainable ones, with 1000 classes, as published.
      sizes: (height, width) of test images: one not square, one odd.
      stages: our stage -> the reference's module or layer whose output it is; every stage with a counterpart.
      tolerance: largest difference of a stage or of the logits that is allowed, relative to the largest magnitude
        there: at most twice the measured one.
      gradient_tolerance: likewise of updated statistics and gradients, which are computed in double precision but
        mapped in single precision.
      options: further arguments of the reference's builder.
      is_sized: the reference takes images of one square size only, its argument `image_size`.
    """

    name: str
    variant: str
    reference: str
    num_parameters: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    stages: dict[str, str]
    tolerance: float = 1e-5
    gradient_tolerance: float = 1e-6
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_sized: bool = False

    def options_for(self, size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the reference's builder for images of this size."""
        return self.options | ({"image_size": size[0]} if self.is_sized else {})


def draw_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers for an array of a reference network, float32; they depend on its name and shape only.

    Kernels keep the size of activations about the same from layer to layer, variances and scales are positive, and
    nothing is zero or one as it would be in a fresh network, so that no array can be left out unnoticed.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if re.search(r"(num_batches_tracked|count|position_index)$", name):
        return np.zeros(shape, np.int64)
    if re.search(r"(var|variance)$", name):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if re.search(r"(gamma|scale)$", name) or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) >= 2:
        is_keras = "kernel" in name
        fan_in = np.prod(shape[:-1]) if is_keras else np.prod(shape[1:])
        if is_keras and shape[-1] == 1 and len(shape) == 4:  # depthwise
            fan_in = shape[0] * shape[1]
        return (rng.standard_normal(shape) * np.sqrt(1.5 / fan_in)).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


def draw_images(size: tuple[int, int], number: int) -> np.ndarray:
    """Images of noise, as normalised ones are: float32 [number, height, width, 3]."""
    return np.random.default_rng(1).standard_normal((number, *size, 3)).astype(np.float32)


def digest(array: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and a few single values of an array, float64 [2 + 8]."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.random.default_rng(flat.size).integers(0, flat.size, 8)
    return np.concatenate([[flat.mean(), flat.std()], flat[places]])


def _resnet(blocks: tuple[int, ...]) -> dict[str, str]:
    stages = {"stem": "maxpool"}
    for layer, number in enumerate(blocks, start=1):
        stages |= {f"layer{layer}_{block}": f"layer{layer}.{block}" for block in range(number)}
    return stages


def _scales(blocks: tuple[int, ...], downsampling: str, stem: str) -> dict[str, str]:
    """torchvision counts stem, blocks, downsampling, blocks, downsampling … as features.0, features.1 …"""
    stages = {"stem": stem}
    for scale, number in enumerate(blocks, start=1):
        if scale > 1:
            stages[f"{downsampling}{scale}"] = f"features.{2 * scale - 2}"
        stages |= {f"stage{scale}_{block}": f"features.{2 * scale - 1}.{block}" for block in range(number)}
    return stages


_CONVNEXT = _scales((3, 3, 9, 3), "downsample", "features.0") | {"norm": "classifier.1"}
_SWIN = _scales((2, 2, 6, 2), "merge", "features.0") | {"norm": "norm", "pool": "flatten"}
_VIT = {
    "stem": "encoder.dropout",
    **{f"block_{i}": f"encoder.layers.encoder_layer_{i}" for i in range(12)},
    "norm": "encoder.ln",
}


def _efficientnet(blocks: tuple[int, ...], origin: str) -> dict[str, str]:
    names = [(group, block) for group, number in enumerate(blocks, start=1) for block in range(number)]
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


B0_BLOCKS, B2_BLOCKS = (1, 2, 2, 3, 3, 4, 1), (2, 3, 3, 4, 4, 5, 2)


def _torch_mobilenet(num_blocks: int) -> dict[str, str]:
    places = ("stem", *(f"block_{i}" for i in range(num_blocks)), "last")
    return {stage: f"features.{i}" for i, stage in enumerate(places)}


def _keras_mobilenet(stem: str, block: str, norm: str, adding: tuple[int, ...], num_blocks: int) -> dict[str, str]:
    """The names of a block's end say whether it adds its input, which those listed do."""
    ends = {i: "add" if i in adding else f"project_{norm}" for i in range(num_blocks)}
    blocks = {f"block_{i}": f"{block}_{i}_{end}" for i, end in ends.items()}
    blocks["block_0"] = f"expanded_conv_{ends[0]}"
    return {"stem": stem, **blocks}


_V2_ADDING = (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)
_V3_ADDING = (0, 2, 4, 5, 7, 8, 9, 11, 13, 14)


def _vgg16(origin: str, layers_per_convolution: int = 2) -> dict[str, str]:
    stages: dict[str, str] = {}
    position = -1
    for block, number in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, number + 1):
            position += layers_per_convolution
            stages[f"block{block}_conv{i}"] = f"features.{position}"
        position += 1
        stages[f"block{block}_pool"] = f"features.{position}"
    if origin == "keras":
        return {name: name for name in (*stages, "flatten", "fc1", "fc2")}
    return stages | {
        "fc1": "classifier.1",
        "dropout1": "classifier.2",
        "fc2": "classifier.4",
        "dropout2": "classifier.5",
    }


ALEXNET_STAGES = {
    "conv1": "features.1",
    "pool1": "features.2",
    "conv2": "features.4",
    "pool2": "features.5",
    "conv3": "features.7",
    "conv4": "features.9",
    "conv5": "features.11",
    "pool5": "features.12",
    "fc6": "classifier.2",
    "dropout7": "classifier.3",
    "fc7": "classifier.5",
}


def _resnet_v2(blocks: tuple[int, ...]) -> dict[str, str]:
    names = [f"conv{group}_block{i}" for group, number in enumerate(blocks, start=2) for i in range(1, number + 1)]
    return {"stem": "pool1_pool", **{name: f"{name}_out" for name in names}, "post": "post_relu", "pool": "avg_pool"}


def _densenet(layers: tuple[int, ...]) -> dict[str, str]:
    """A layer of the reference gives its new maps only: the ends of blocks, which hold them all, are compared."""
    stages = {"stem": "features.pool0"}
    for block, number in enumerate(layers, start=1):
        stages[f"denseblock{block}_{number - 1}"] = f"features.denseblock{block}"
        if block < len(layers):
            stages[f"transition{block}"] = f"features.transition{block}"
    return stages


_INCEPTION_STEM = ("conv1a", "conv2a", "conv2b", "pool1", "conv3b", "conv4a", "pool2")
_INCEPTION_TORCH = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    *(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")),
)
_INCEPTION_KERAS = (
    *("activation", "activation_1", "activation_2", "max_pooling2d", "activation_3", "activation_4", "max_pooling2d_1"),
    *(f"mixed{i}" for i in range(11)),
)


def _inception(names: tuple[str, ...]) -> dict[str, str]:
    return dict(zip((*_INCEPTION_STEM, *(f"mixed{i}" for i in range(11))), names, strict=True))


CASES = (
    Case(
        "resnet18",
        "torchvision",
        "torchvision:resnet18",
        11_689_512,
        ((64, 96), (67, 45)),
        _resnet((2, 2, 2, 2)),
        3e-6,
        1.1e-7,
    ),
    Case(
        "resnet34",
        "torchvision",
        "torchvision:resnet34",
        21_797_672,
        ((64, 96), (67, 45)),
        _resnet((3, 4, 6, 3)),
        3e-6,
        1.1e-7,
    ),
    Case(
        "resnet50",
        "torchvision",
        "torchvision:resnet50",
        25_557_032,
        ((64, 96), (67, 45)),
        _resnet((3, 4, 6, 3)),
        3e-6,
        1.1e-7,
    ),
    Case(
        "convnext_tiny",
        "torchvision",
        "torchvision:convnext_tiny",
        28_589_128,
        ((32, 64), (67, 45)),
        _CONVNEXT,
        tolerance=3.5e-6,
        gradient_tolerance=1e-7,
    ),
    # 6 x 17 places are less than a window high: it is shifted along one axis only.
    Case(
        "swin_t",
        "torchvision",
        "torchvision:swin_t",
        28_288_354,
        ((24, 68), (67, 45)),
        _SWIN,
        tolerance=4e-6,
        gradient_tolerance=1e-7,
    ),
    # Published for 224 x 224, whose position embedding counts. Sizes that are not square: test_vit.py.
    Case(
        "vit_b_16",
        "torchvision",
        "torchvision:vit_b_16",
        86_567_656,
        ((32, 32), (48, 48)),
        _VIT,
        tolerance=3.4e-6,
        gradient_tolerance=1e-7,
        is_sized=True,
    ),
    Case(
        "efficientnet_lite0",
        "lite",
        "efficientnet-lite:efficientnet-lite0",
        4_652_008,
        ((32, 48), (67, 45)),
        _efficientnet(B0_BLOCKS, "lite"),
        tolerance=4.8e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "efficientnet_b0",
        "torchvision",
        "torchvision:efficientnet_b0",
        5_288_548,
        ((32, 48), (67, 45)),
        _efficientnet(B0_BLOCKS, "torchvision"),
        tolerance=1.6e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "efficientnet_b2",
        "torchvision",
        "torchvision:efficientnet_b2",
        9_109_994,
        ((32, 48), (67, 45)),
        _efficientnet(B2_BLOCKS, "torchvision"),
        tolerance=1.7e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "efficientnet_b2",
        "keras",
        "keras:EfficientNetB2",
        9_109_994,
        ((32, 48), (67, 45)),
        _efficientnet(B2_BLOCKS, "keras"),
        tolerance=1.2e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "mobilenet_v2",
        "torchvision",
        "torchvision:mobilenet_v2",
        3_504_872,
        ((64, 96), (67, 45)),
        _torch_mobilenet(17),
        tolerance=2.4e-5,
        gradient_tolerance=1.1e-7,
    ),
    Case(
        "mobilenet_v2",
        "keras",
        "keras:MobileNetV2",
        3_504_872,
        ((64, 96), (67, 45)),
        {**_keras_mobilenet("Conv1_relu", "block", "BN", _V2_ADDING, 17), "last": "out_relu"},
        tolerance=1.1e-5,
        gradient_tolerance=1.1e-7,
    ),
    Case(
        "mobilenet_v3_large",
        "torchvision",
        "torchvision:mobilenet_v3_large",
        5_483_032,
        ((64, 96), (67, 45)),
        {**_torch_mobilenet(15), "hidden": "classifier.1"},
        tolerance=4.8e-6,
        gradient_tolerance=1.4e-7,
    ),
    Case(
        "mobilenet_v3_large",
        "keras",
        "keras:MobileNetV3Large",
        5_483_032,
        ((64, 96), (67, 45)),
        # Keras numbers its unnamed activations in the order of the network; behind the pooling it still has maps.
        {**_keras_mobilenet("activation", "expanded_conv", "bn", _V3_ADDING, 15), "last": "activation_19"},
        tolerance=5.9e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "vgg16",
        "torchvision",
        "torchvision:vgg16",
        138_357_544,
        ((32, 64), (71, 37)),
        _vgg16("torchvision"),
        tolerance=3e-6,
        gradient_tolerance=1e-7,
    ),
    # Bit for bit the same here: both are the same XLA operations. Other machines need not agree on the last digit.
    Case(
        "vgg16",
        "keras",
        "keras:VGG16",
        138_357_544,
        ((32, 64), (71, 37)),
        _vgg16("keras"),
        tolerance=1e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "vgg16_bn",
        "torchvision",
        "torchvision:vgg16_bn",
        138_365_992,
        ((32, 64), (71, 37)),
        _vgg16("torchvision", 3),
        tolerance=4e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "alexnet",
        "torchvision",
        "torchvision:alexnet",
        61_100_840,
        ((64, 96), (99, 67)),
        ALEXNET_STAGES,
        tolerance=2.6e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "resnet50v2",
        "keras",
        "keras:ResNet50V2",
        25_568_360,
        ((32, 48), (67, 45)),
        _resnet_v2((3, 4, 6, 3)),
        tolerance=2.6e-6,
        gradient_tolerance=1e-7,
    ),
    Case(
        "densenet121",
        "torchvision",
        "torchvision:densenet121",
        7_978_856,
        ((32, 64), (45, 37)),
        _densenet((6, 12, 24, 16)),
        tolerance=1.5e-6,
        gradient_tolerance=1.1e-7,
    ),
    # Published as 27161264 with the auxiliary classifier, of which 3326696 are.
    Case(
        "inception_v3",
        "torchvision",
        "torchvision-inception:inception_v3",
        23_834_568,
        ((75, 107), (91, 77)),
        _inception(_INCEPTION_TORCH),
        tolerance=2.4e-6,
        gradient_tolerance=1.1e-7,
    ),
    Case(
        "inception_v3",
        "keras",
        "keras:InceptionV3",
        23_817_352,
        ((75, 107), (91, 77)),
        _inception(_INCEPTION_KERAS),
        tolerance=1.9e-6,
        gradient_tolerance=1.1e-7,
    ),
)
