"""Inception-V3, as torchvision and as Keras have it: without the auxiliary classifier, which only helps training.

Stages have the names of Keras where it has any (`mixed0` … `mixed10`), the parts of a block those of torchvision.

Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016;
torchvision.models.inception; keras.applications.inception_v3.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.layers import Conv
from fpclass.models.network import Architecture, Dropout, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import avg_pool, max_pool

Maps = Float[Array, "n h w c"]


@dataclasses.dataclass(frozen=True)
class Details:
    """What the origins of the weights disagree about.

    Attributes:
      counts_padding: an average at the edge divides by 9, the zeros outside included.
      use_scale: whether batch norm has a scale.
      momentum: of batch norm, share of the old statistics that is kept.
      unbiased: of the running variance.
      dropout_rate: before the classes.
    """

    counts_padding: bool
    use_scale: bool
    momentum: float
    unbiased: bool
    dropout_rate: float


TORCHVISION = Details(counts_padding=True, use_scale=True, momentum=0.9, unbiased=True, dropout_rate=0.5)
KERAS = Details(counts_padding=False, use_scale=False, momentum=0.99, unbiased=False, dropout_rate=0.0)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU.

    Attributes:
      features: channels of the output.
      kernel_size: (height, width), pixels.
      details: of the variant.
      strides: step in both directions, pixels.
      padding: "SAME" or "VALID"; all "SAME" ones have stride 1, where both origins pad alike.
    """

    features: int
    kernel_size: tuple[int, int]
    details: Details
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Convolves, normalises, rectifies."""
        x = Conv(self.features, self.kernel_size, self.strides, self.padding, name="conv")(x)
        details = self.details
        options = {"momentum": details.momentum, "unbiased": details.unbiased, "use_scale": details.use_scale}
        return nn.relu(batch_norm(x, mode, "bn", epsilon=1e-3, **options))


class MaxPool(nn.Module):
    """3x3 maximum with stride 2, without padding."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Halves the size."""
        return max_pool(x, 3, 2)


class Mixed(nn.Module):
    """What the blocks have in common.

    Attributes:
      details: of the variant.
      features: the number of channels by which blocks of one kind differ.
    """

    details: Details
    features: int = 0

    def conv(
        self, x: Maps, mode: Mode, name: str, features: int, height: int, width: int, *, reduces: bool = False
    ) -> Maps:
        """A convolution that keeps the size, or halves it (without padding)."""
        strides, padding = (2, "VALID") if reduces else (1, "SAME")
        return ConvNorm(features, (height, width), self.details, strides, padding, name=name)(x, mode)

    def pool_branch(self, x: Maps, mode: Mode, features: int) -> Maps:
        """3x3 average and 1x1 convolution."""
        y = avg_pool(x, 3, 1, 1, counts_padding=self.details.counts_padding)
        return self.conv(y, mode, "branch_pool", features, 1, 1)


class MixedA(Mixed):
    """Branches of one 1x1, one 5x5 and two 3x3 convolutions; `features`: of the branch with the pool."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Same size."""
        branch1 = self.conv(x, mode, "branch1x1", 64, 1, 1)
        branch5 = self.conv(x, mode, "branch5x5_1", 48, 1, 1)
        branch5 = self.conv(branch5, mode, "branch5x5_2", 64, 5, 5)
        branch3 = self.conv(x, mode, "branch3x3dbl_1", 64, 1, 1)
        branch3 = self.conv(branch3, mode, "branch3x3dbl_2", 96, 3, 3)
        branch3 = self.conv(branch3, mode, "branch3x3dbl_3", 96, 3, 3)
        return jnp.concatenate((branch1, branch5, branch3, self.pool_branch(x, mode, self.features)), axis=-1)


class MixedB(Mixed):
    """Branches of one and two 3x3 convolutions and a maximum."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Half the size."""
        branch3 = self.conv(x, mode, "branch3x3", 384, 3, 3, reduces=True)
        double = self.conv(x, mode, "branch3x3dbl_1", 64, 1, 1)
        double = self.conv(double, mode, "branch3x3dbl_2", 96, 3, 3)
        double = self.conv(double, mode, "branch3x3dbl_3", 96, 3, 3, reduces=True)
        return jnp.concatenate((branch3, double, max_pool(x, 3, 2)), axis=-1)


class MixedC(Mixed):
    """Branches of one and two 7x7 convolutions, each factored into rows and columns; `features`: between them."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Same size."""
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
    """Branches of a 3x3, and a factored 7x7 with a 3x3 convolution, and a maximum."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Half the size."""
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
        """Same size, 2048 channels."""
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


def inception_v3(variant: str) -> Architecture:
    """23.8 million parameters with 1000 classes."""
    details = KERAS if variant == "keras" else TORCHVISION
    mixed = [
        *(MixedA(details, features, name=f"mixed{i}", parent=None) for i, features in enumerate((32, 64, 64))),
        MixedB(details, name="mixed3", parent=None),
        *(
            MixedC(details, features, name=f"mixed{i}", parent=None)
            for i, features in enumerate((128, 160, 160, 192), 4)
        ),
        MixedD(details, name="mixed8", parent=None),
        *(MixedE(details, name=f"mixed{i}", parent=None) for i in (9, 10)),
    ]
    dropout = (Dropout(details.dropout_rate, name="dropout", parent=None),) if details.dropout_rate else ()
    return Architecture(
        features=(
            ConvNorm(32, (3, 3), details, 2, "VALID", name="conv1a", parent=None),
            ConvNorm(32, (3, 3), details, 1, "VALID", name="conv2a", parent=None),
            ConvNorm(64, (3, 3), details, name="conv2b", parent=None),
            MaxPool(name="pool1", parent=None),
            ConvNorm(80, (1, 1), details, name="conv3b", parent=None),
            ConvNorm(192, (3, 3), details, 1, "VALID", name="conv4a", parent=None),
            MaxPool(name="pool2", parent=None),
            *mixed,
        ),
        classifier=(GlobalPool(name="pool", parent=None), *dropout),
        stem_kernel=("conv1a", "conv", "kernel"),
        min_size=(75, 75),  # 75 pixels are 7, 3 and 1 in the blocks; 74 are 6, 2 and none
    )
