"""Inception-V3, as torchvision and as Keras have it: without the auxiliary classifier, which only helps training.

Stages have the names of Keras where it has any (`mixed0` … `mixed10`), the parts of a block those of torchvision.

Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016;
torchvision.models.inception; keras.applications.inception_v3.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.conv_norm import ConvNorm, Details
from fpclass.models.layers import Maps
from fpclass.models.mapping import (
    Rule,
    keras_batch_norm,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_layer,
)
from fpclass.models.network import Backbone, Dropout, GlobalPool, Mode
from fpclass.models.pooling import avg_pool, max_pool


@dataclasses.dataclass(frozen=True)
class Inception(Details):
    """Numbers of one origin; `counts_padding`: an average at the edge divides by 9, the zeros outside included."""

    counts_padding: bool = True


ORIGINS = {
    "torchvision": Inception(epsilon=1e-3),
    "keras": Inception(epsilon=1e-3, momentum=0.99, unbiased=False, use_scale=False, counts_padding=False),
}


class MaxPool(nn.Module):
    """3x3 maximum with stride 2, without padding."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        return max_pool(x, 3, 2)


class Mixed(nn.Module):
    """What the blocks have in common; `features` are the channels by which blocks of one kind differ."""

    details: Inception
    features: int = 0

    def conv(
        self, x: Maps, mode: Mode, name: str, features: int, height: int, width: int, *, reduces: bool = False
    ) -> Maps:
        """A convolution that keeps the size, or halves it (without padding)."""
        strides, padding = (2, "VALID") if reduces else (1, "SAME")
        conv = ConvNorm(features, (height, width), strides, self.details, padding=padding, name=name)
        return conv(x, mode)

    def pool_branch(self, x: Maps, mode: Mode, features: int) -> Maps:
        """3x3 average and 1x1 convolution."""
        y = avg_pool(x, 3, 1, 1, counts_padding=self.details.counts_padding)
        return self.conv(y, mode, "branch_pool", features, 1, 1)


class MixedA(Mixed):
    """Branches of one 1x1, one 5x5 and two 3x3 convolutions; `features`: of the branch with the pool."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        branch1 = self.conv(x, mode, "branch1x1", 64, 1, 1)
        branch5 = self.conv(x, mode, "branch5x5_1", 48, 1, 1)
        branch5 = self.conv(branch5, mode, "branch5x5_2", 64, 5, 5)
        branch3 = self.conv(x, mode, "branch3x3dbl_1", 64, 1, 1)
        branch3 = self.conv(branch3, mode, "branch3x3dbl_2", 96, 3, 3)
        branch3 = self.conv(branch3, mode, "branch3x3dbl_3", 96, 3, 3)
        return jnp.concatenate((branch1, branch5, branch3, self.pool_branch(x, mode, self.features)), axis=-1)


class MixedB(Mixed):
    """Branches of one and two 3x3 convolutions and a maximum, to half the size."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        branch3 = self.conv(x, mode, "branch3x3", 384, 3, 3, reduces=True)
        double = self.conv(x, mode, "branch3x3dbl_1", 64, 1, 1)
        double = self.conv(double, mode, "branch3x3dbl_2", 96, 3, 3)
        double = self.conv(double, mode, "branch3x3dbl_3", 96, 3, 3, reduces=True)
        return jnp.concatenate((branch3, double, max_pool(x, 3, 2)), axis=-1)


class MixedC(Mixed):
    """Branches of one and two 7x7 convolutions, each factored into rows and columns; `features`: between them."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        features = self.features
        branch1 = self.conv(x, mode, "branch1x1", 192, 1, 1)
        branch7 = self.conv(x, mode, "branch7x7_1", features, 1, 1)
        branch7 = self.conv(branch7, mode, "branch7x7_2", features, 1, 7)
        branch7 = self.conv(branch7, mode, "branch7x7_3", 192, 7, 1)
        double = self.conv(x, mode, "branch7x7dbl_1", features, 1, 1)
        double = self.conv(double, mode, "branch7x7dbl_2", features, 7, 1)
        double = self.conv(double, mode, "branch7x7dbl_3", features, 1, 7)
        double = self.conv(double, mode, "branch7x7dbl_4", features, 7, 1)
        double = self.conv(double, mode, "branch7x7dbl_5", 192, 1, 7)
        return jnp.concatenate((branch1, branch7, double, self.pool_branch(x, mode, 192)), axis=-1)


class MixedD(Mixed):
    """Branches of a 3x3, and a factored 7x7 with a 3x3 convolution, and a maximum, to half the size."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        branch3 = self.conv(x, mode, "branch3x3_1", 192, 1, 1)
        branch3 = self.conv(branch3, mode, "branch3x3_2", 320, 3, 3, reduces=True)
        branch7 = self.conv(x, mode, "branch7x7x3_1", 192, 1, 1)
        branch7 = self.conv(branch7, mode, "branch7x7x3_2", 192, 1, 7)
        branch7 = self.conv(branch7, mode, "branch7x7x3_3", 192, 7, 1)
        branch7 = self.conv(branch7, mode, "branch7x7x3_4", 192, 3, 3, reduces=True)
        return jnp.concatenate((branch3, branch7, max_pool(x, 3, 2)), axis=-1)


class MixedE(Mixed):
    """Branches that part once more into a row and a column."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        branch1 = self.conv(x, mode, "branch1x1", 320, 1, 1)
        branch3 = self.conv(x, mode, "branch3x3_1", 384, 1, 1)
        row = self.conv(branch3, mode, "branch3x3_2a", 384, 1, 3)
        column = self.conv(branch3, mode, "branch3x3_2b", 384, 3, 1)
        double = self.conv(x, mode, "branch3x3dbl_1", 448, 1, 1)
        double = self.conv(double, mode, "branch3x3dbl_2", 384, 3, 3)
        double_row = self.conv(double, mode, "branch3x3dbl_3a", 384, 1, 3)
        double_column = self.conv(double, mode, "branch3x3dbl_3b", 384, 3, 1)
        pool = self.pool_branch(x, mode, 192)
        return jnp.concatenate((branch1, row, column, double_row, double_column, pool), axis=-1)


def inception_v3(variant: str) -> Backbone:
    """Inception-V3 of torchvision or Keras."""
    details = ORIGINS[variant]
    mixed = [
        *(MixedA(details, features, name=f"mixed{i}") for i, features in enumerate((32, 64, 64))),
        MixedB(details, name="mixed3"),
        *(MixedC(details, features, name=f"mixed{i}") for i, features in enumerate((128, 160, 160, 192), 4)),
        MixedD(details, name="mixed8"),
        *(MixedE(details, name=f"mixed{i}") for i in (9, 10)),
    ]
    dropout = () if variant == "keras" else (Dropout(0.5, name="dropout"),)
    return Backbone(
        features=(
            ConvNorm(32, (3, 3), 2, details, padding="VALID", name="conv1a"),
            ConvNorm(32, (3, 3), 1, details, padding="VALID", name="conv2a"),
            ConvNorm(64, (3, 3), 1, details, padding="SAME", name="conv2b"),
            MaxPool(name="pool1"),
            ConvNorm(80, (1, 1), 1, details, padding="SAME", name="conv3b"),
            ConvNorm(192, (3, 3), 1, details, padding="VALID", name="conv4a"),
            MaxPool(name="pool2"),
            *mixed,
        ),
        classifier=(GlobalPool(name="pool"), *dropout),
        stem_kernel=("conv1a", "conv", "kernel"),
        min_size=(75, 75),  # 75 pixels are 7, 3 and 1 in the blocks; 74 are 6, 2 and none
    )


STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
"""torchvision's names of the convolutions before the blocks."""

MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
"""torchvision's names of `mixed0` … `mixed10`."""


def _torchvision() -> tuple[Rule, ...]:
    rules = [Rule(r"AuxLogits\..*", "")]  # the auxiliary classifier: only training from scratch has use for it
    for name in STEM:
        rules += torch_layer(rf"Conv2d_{name}\.conv", f"conv{name[:2]}/conv", torch_conv)
        rules += torch_batch_norm(rf"Conv2d_{name}\.bn", f"conv{name[:2]}/bn")
    for i, name in enumerate(MIXED):
        rules += torch_layer(rf"Mixed_{name}\.(branch\w+)\.conv", rf"mixed{i}/\1/conv", torch_conv)
        rules += torch_batch_norm(rf"Mixed_{name}\.(branch\w+)\.bn", rf"mixed{i}/\1/bn")
    return (*rules, *torch_layer("fc", "head/logits", torch_dense))


A = ("1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool")
B = ("3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3")
C = ("1x1", "7x7_1", "7x7_2", "7x7_3", *(f"7x7dbl_{i}" for i in (1, 2, 3, 4, 5)), "_pool")
D = ("3x3_1", "3x3_2", *(f"7x7x3_{i}" for i in (1, 2, 3, 4)))
E = ("1x1", "3x3_1", "3x3_2a", "3x3_2b", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3a", "3x3dbl_3b", "_pool")

CREATED = (
    *(f"conv{name[:2]}" for name in STEM),
    *(f"mixed{i}/branch{part}" for i, parts in enumerate((A, A, A, B, C, C, C, C, D, E, E)) for part in parts),
)
"""The 94 convolutions in the order in which Keras creates them, which is what it numbers them by."""


def _keras(names: list[str]) -> tuple[Rule, ...]:
    """The rules where convolution and batch norm number i end in `names[i]`."""
    rules: list[Rule] = []
    for end, target in zip(names, CREATED, strict=True):
        rules.append(Rule(f"conv2d{end}/kernel", f"params/{target}/conv/kernel"))
        rules += keras_batch_norm(f"batch_normalization{end}", f"{target}/bn")[1:]  # there is no scale
    return (*rules, *keras_layer("predictions", "head/logits"))


TORCHVISION = _torchvision()

KERAS = _keras(["", *(f"_{i}" for i in range(1, len(CREATED)))])
"""The naming of a network of today in a fresh session: conv2d, conv2d_1 … conv2d_93."""

KERAS_FROM_1 = _keras([f"_{i}" for i in range(1, len(CREATED) + 1)])
"""The naming of the published files, which an older Keras wrote: conv2d_1 … conv2d_94.

Certain: GoMLX reads the published file by these names in this order. One table cannot serve both namings, as conv2d_1
is another convolution in each; and neither takes a file of the other, as conv2d and conv2d_94 each belong to one only.
"""


SIZES = ((75, 107), (91, 77))
STAGES = ("conv1a", "conv2a", "conv2b", "pool1", "conv3b", "conv4a", "pool2", *(f"mixed{i}" for i in range(11)))
TORCHVISION_STAGES = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    *(f"Mixed_{name}" for name in MIXED),
)
KERAS_STAGES = (
    *("activation", "activation_1", "activation_2", "max_pooling2d", "activation_3", "activation_4", "max_pooling2d_1"),
    *(f"mixed{i}" for i in range(11)),
)


def _parity(original: str, num_parameters: int, stages: tuple[str, ...], tolerance: float) -> Parity:
    return Parity(original, num_parameters, SIZES, dict(zip(STAGES, stages, strict=True)), tolerance, 1.1e-7)


# Published as 27161264 parameters with the auxiliary classifier, of which 3326696 are.
TORCHVISION_PARITY = _parity("torchvision-inception:inception_v3", 23_834_568, TORCHVISION_STAGES, 2.4e-6)
KERAS_PARITY = _parity("keras:InceptionV3", 23_817_352, KERAS_STAGES, 1.9e-6)
VARIANTS = (
    Variant("torchvision", TORCHVISION, TORCHVISION_PARITY),
    Variant("keras", KERAS, KERAS_PARITY, (KERAS_FROM_1,)),
)

ARCHITECTURES = (Published("inception_v3", inception_v3, VARIANTS),)
