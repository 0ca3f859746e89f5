"""VGG-16, without and with batch norm, and adaptive pooling.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015;
torchvision.models.vgg; keras.applications.vgg16.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fpclass.models.layers import Conv
from fpclass.models.network import Architecture, Dropout, Mode, batch_norm
from fpclass.models.pooling import max_pool

Maps = Float[Array, "n h w c"]
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the convolutions between two pools. Source: table 1 of the paper, column D."""


def pooling_matrix(size: int, output_size: int) -> Float[np.ndarray, "output_size size"]:
    """The weights with which each output of adaptive average pooling takes the inputs, along one axis.

    Output i is the mean of the inputs from floor(i * size / output_size) to ceil((i + 1) * size / output_size): windows
    overlap where the sizes do not divide, and repeat inputs where there are fewer of them than outputs.

    Args:
      size: of the input, pixels.
      output_size: pixels.

    Source: torch.nn.AdaptiveAvgPool2d.
    """
    outputs, inputs = np.arange(output_size)[:, None], np.arange(size)
    first, after_last = outputs * size // output_size, -(-(outputs + 1) * size // output_size)
    return ((inputs >= first) & (inputs < after_last)) / (after_last - first)


def adaptive_average_pool(x: Maps, output_size: tuple[int, int]) -> Maps:
    """Averages maps of any size into maps of one size.

    Args:
      x: maps.
      output_size: (height, width), pixels.
    """
    if x.shape[1:3] == output_size:
        return x
    # Averages of sums in the type of the weights: single precision at least.
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    rows, columns = (
        jnp.asarray(pooling_matrix(size, out), dtype) for size, out in zip(x.shape[1:3], output_size, strict=True)
    )
    return jnp.einsum("yh,nhwc,xw->nyxc", rows, x.astype(dtype), columns).astype(x.dtype)


class AdaptiveFlatten(nn.Module):
    """Averages maps into one size and makes a vector of them: the first half of a classifier for images of any size.

    Attributes:
      output_size: (height, width) of the maps, pixels.
    """

    output_size: tuple[int, int]

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Float[Array, "n f"]:
        """The vector runs over (y, x, channel)."""
        return adaptive_average_pool(x, self.output_size).reshape(x.shape[0], -1)


class DenseRelu(nn.Module):
    """A hidden dense layer.

    Attributes:
      features: its width.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n f"], mode: Mode) -> Float[Array, "n f2"]:
        """Multiplies, rectifies; in the type of `x`."""
        return nn.relu(
            nn.Dense(self.features, dtype=x.dtype, kernel_init=nn.initializers.normal(0.01), name="dense")(x)
        )


class ConvRelu(nn.Module):
    """Convolution with bias, batch norm where asked for, ReLU.

    Attributes:
      features: channels of the output.
      kernel_size: side of the square kernel, pixels.
      strides: of the convolution.
      padding: zeros at each side, pixels.
      is_normalised: whether there is batch norm.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 1
    is_normalised: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Convolves, normalises, rectifies."""
        kernel_size = (self.kernel_size, self.kernel_size)
        # The bias stays also before batch norm, which takes it away again: the published weights have it.
        x = Conv(
            self.features, kernel_size, self.strides, self.padding, 1, True, kernel_init=fan_out_normal, name="conv"
        )(x)
        return nn.relu(batch_norm(x, mode, "bn") if self.is_normalised else x)


class MaxPool(nn.Module):
    """Max-pool with stride 2; rows and columns that fill no window are dropped.

    Attributes:
      window: its side, pixels.
    """

    window: int = 2

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Takes the largest value of each window."""
        return max_pool(x, self.window, 2)


def vgg(blocks: tuple[tuple[int, int], ...], *, is_normalised: bool, dropout_rate: float | None) -> Architecture:
    """A VGG network.

    Args:
      blocks: channels and number of convolutions before each pool.
      is_normalised: whether there is batch norm after every convolution.
      dropout_rate: after each hidden dense layer; None: there is no dropout.
    """
    features = []
    for block, (channels, number) in enumerate(blocks, start=1):
        for i in range(1, number + 1):
            name = f"block{block}_conv{i}"
            features.append(ConvRelu(channels, is_normalised=is_normalised, name=name, parent=None))
        features.append(MaxPool(name=f"block{block}_pool", parent=None))
    classifier: list[nn.Module] = [AdaptiveFlatten((7, 7), name="flatten", parent=None)]
    for i in (1, 2):
        classifier.append(DenseRelu(4096, name=f"fc{i}", parent=None))
        if dropout_rate is not None:
            classifier.append(Dropout(dropout_rate, name=f"dropout{i}", parent=None))
    return Architecture(
        features=tuple(features),
        classifier=tuple(classifier),
        stem_kernel=("block1_conv1", "conv", "kernel"),
        min_size=(32, 32),  # each of the five pools halves it; both references say so too
    )


def vgg16(variant: str) -> Architecture:
    """138.4 million parameters with 1000 classes."""
    # Keras has no dropout. It flattens the maps as they are, and its weights ask for 7 x 7, which is 224 x 224 pixels;
    # there the adaptive pool is the identity, and elsewhere it makes the weights usable.
    return vgg(VGG16_BLOCKS, is_normalised=False, dropout_rate=None if variant == "keras" else 0.5)


def vgg16_bn(variant: str) -> Architecture:
    """138.4 million parameters with 1000 classes."""
    return vgg(VGG16_BLOCKS, is_normalised=True, dropout_rate=0.5)
