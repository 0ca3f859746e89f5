"""Convolution for CPUs whose gradients are as fast inside a compiled loop as outside of one.

XLA on a CPU has a library for convolutions of images [n, h, w, c] with kernels [kh, kw, c, f], and slow loops for every
other order of axes. Outside of a compiled loop it reorders the axes of a gradient to suit; inside one it does not, and
two 3x3 layers take 37 times as long there (benchmarks/convolution.py). Hence the two gradients are written out here as
convolutions in the order that the library has, with the same sums: the result is that of automatic differentiation.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import jax
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.depthwise import Padding

ORDER = ("NHWC", "HWIO", "NHWC")


def convolution(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c f"], strides: int, padding: Padding
) -> Float[Array, "n h2 w2 f"]:
    """Convolves as `lax.conv_general_dilated` does; differentiable in reverse mode.

    Args:
      padding: zeros ((top, bottom), (left, right)), pixels.
    """
    return cast(Array, _convolution(x, kernel, strides, padding))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Array, kernel: Array, strides: int, padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=ORDER)


def _forward(x: Array, kernel: Array, strides: int, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(x, kernel, strides, padding), (x, kernel)


def _backward(strides: int, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    by_image, by_kernel = [], []  # paddings
    for taps, (before, _), size, length in zip(
        kernel.shape[:2], padding, x.shape[1:3], gradient.shape[1:3], strict=True
    ):
        span = (length - 1) * strides + 1  # of the places that the first tap sees
        by_image.append((taps - 1 - before, size + before - span))
        by_kernel.append((before, taps - 1 + span - size - before))
    # By the image: the turned kernel over the gradient, which is spread out by the strides.
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    image_gradient = lax.conv_general_dilated(
        gradient, turned, (1, 1), by_image, lhs_dilation=(strides, strides), dimension_numbers=ORDER
    )
    # By the kernel: the gradient is the kernel, over images whose channels are the examples.
    kernel_gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), by_kernel,
        rhs_dilation=(strides, strides), dimension_numbers=ORDER,
    )  # fmt: skip
    return image_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_convolution.defvjp(_forward, _backward)
