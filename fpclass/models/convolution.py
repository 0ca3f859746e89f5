"""Convolution for CPUs whose gradients are as fast inside a compiled loop as outside of one.

XLA on a CPU has a library for convolutions of images [n, h, w, c] with kernels [kh, kw, c, f], and slow loops for every
other order of axes. Outside of a compiled loop it reorders the axes of a gradient to suit; inside one it does not, and
two 3x3 layers take 37 times as long there (benchmarks/convolution.py). Hence the two gradients are written out here as
convolutions in the order that the library has, with the same sums: the result is that of automatic differentiation.
The kernels of a first layer, which see few channels and many places, have theirs from a matrix product.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.depthwise import Padding

IMAGE_CHANNELS = 3
"""Of what a first layer sees: grey or colours."""
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
    if x.shape[-1] <= IMAGE_CHANNELS:
        return image_gradient, _first_kernel_gradient(x, kernel, strides, padding, gradient)
    # By the kernel: the gradient is the kernel, over images whose channels are the examples.
    kernel_gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), by_kernel,
        rhs_dilation=(strides, strides), dimension_numbers=ORDER,
    )  # fmt: skip
    return image_gradient, kernel_gradient.transpose(1, 2, 0, 3)


def _first_kernel_gradient(x: Array, kernel: Array, strides: int, padding: Padding, gradient: Array) -> Array:
    """The gradient by a kernel that sees few channels: what each of its weights sees, times the gradient.

    Two images at a time, whose patches the cache holds. Places are the last axes, so that patches are long copies; the
    pixels that the strides are apart lie beside each other.
    """
    (rows, columns, features), (n, *_, channels) = gradient.shape[1:], x.shape
    part = 2 if n % 2 == 0 else 1
    uneven = [
        (before, after + -(size + before + after) % strides)
        for (before, after), size in zip(padding, x.shape[1:3], strict=True)
    ]
    padded = jnp.pad(x, ((0, 0), *uneven, (0, 0)))
    height, width = (size // strides for size in padded.shape[1:3])

    def add_part(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        images, of_images = one
        apart = images.reshape(part, height, strides, width, strides, channels).transpose(2, 4, 5, 0, 1, 3)
        seen = [
            apart[i % strides, j % strides, :, :, i // strides :, j // strides :][..., :rows, :columns]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        ]
        patches = jnp.concatenate(seen).reshape(-1, part * rows * columns)
        return total + patches.astype(dtype) @ of_images.reshape(-1, features).astype(dtype), None

    dtype = jnp.promote_types(x.dtype, jnp.float32)
    nothing = jnp.zeros((kernel.size // features, features), dtype)
    parts: Any = tuple(each.reshape(n // part, part, *each.shape[1:]) for each in (padded, gradient))
    total, _ = lax.scan(add_part, nothing, parts)
    return total.reshape(kernel.shape).astype(kernel.dtype)


_convolution.defvjp(_forward, _backward)
