"""Stages that AlexNet and VGG are made of: convolution, max-pool, adaptive average pooling, hidden dense layer."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fpclass.models.layers import Conv, Maps, fan_out_normal
from fpclass.models.network import Mode, batch_norm
from fpclass.models.pooling import max_pool
from fpclass.models.products import dense_product


def pooling_matrix(size: int, output_size: int) -> Float[np.ndarray, "output_size size"]:
    """The weights with which each output of adaptive average pooling takes the inputs, along one axis of pixels.

    Output i is the mean of the inputs from floor(i * size / output_size) to ceil((i + 1) * size / output_size): windows
    overlap where the sizes do not divide, and repeat inputs where there are fewer of them than outputs.

    Source: torch.nn.AdaptiveAvgPool2d.
    """
    outputs, inputs = np.arange(output_size)[:, None], np.arange(size)
    first, after_last = outputs * size // output_size, -(-(outputs + 1) * size // output_size)
    return ((inputs >= first) & (inputs < after_last)) / (after_last - first)


def adaptive_average_pool(x: Maps, output_size: tuple[int, int]) -> Maps:
    """Averages maps of any size into maps of one size, (height, width) in pixels."""
    if x.shape[1:3] == output_size:
        return x
    # Averages of sums in the type of the weights: single precision at least.
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    rows, columns = (
        jnp.asarray(pooling_matrix(size, out), dtype) for size, out in zip(x.shape[1:3], output_size, strict=True)
    )
    return jnp.einsum("yh,nhwc,xw->nyxc", rows, x.astype(dtype), columns).astype(x.dtype)


class AdaptiveFlatten(nn.Module):
    """Averages maps into one size, (height, width) in pixels, and makes a vector over (y, x, channel) of them.

    It is the first half of a classifier for images of any size.
    """

    output_size: tuple[int, int]

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Float[Array, "n f"]:
        return adaptive_average_pool(x, self.output_size).reshape(x.shape[0], -1)


class DenseRelu(nn.Module):
    """A hidden dense layer in the type of its input."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n f"], mode: Mode) -> Float[Array, "n f2"]:
        init = nn.initializers.normal(0.01)
        dense = nn.Dense(self.features, dtype=x.dtype, kernel_init=init, dot_general=dense_product, name="dense")
        return nn.relu(dense(x))


class ConvRelu(nn.Module):
    """Convolution with bias, batch norm where asked for, ReLU; sizes in pixels."""

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 1
    is_normalised: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        kernel_size = (self.kernel_size, self.kernel_size)
        # The bias stays also before batch norm, which takes it away again: the published weights have it.
        x = Conv(
            self.features, kernel_size, self.strides, self.padding, 1, True, kernel_init=fan_out_normal, name="conv"
        )(x)
        return nn.relu(batch_norm(x, mode, "bn") if self.is_normalised else x)


class MaxPool(nn.Module):
    """Max-pool with stride 2 over windows of so many pixels; rows and columns that fill no window are dropped."""

    window: int = 2

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        return max_pool(x, self.window, 2)
