"""Convolution for CPUs whose gradients are as fast inside a compiled loop as outside of one.

XLA on a CPU has a library for convolutions of images [n, h, w, c] with kernels [kh, kw, c, f], and slow loops for every
other order of axes. Outside of a compiled loop it reorders the axes of a gradient to suit; inside one it does not, and
two 3x3 layers take 37 times as long there (benchmarks/convolution.py). Hence the two gradients are written out here as
convolutions in the order that the library has, with the same sums: the result is that of automatic differentiation.
The gradient by a kernel that sees many places is faster as a matrix product of what its weights see.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fpclass.models.depthwise import Padding

ORDER = ("NHWC", "HWIO", "NHWC")
IMAGE_CHANNELS = 3
"""Of what a first layer sees: grey or colours."""
MANY_PLACES = 14 * 14
"""Of a feature map, from which on a matrix product is the faster way to the gradient by a kernel."""
STRIP_BYTES = 2**21
"""Of the patches of one matrix product: about what the caches next to the cores hold."""
_num_devices = contextvars.ContextVar("num_devices", default=1)


@contextlib.contextmanager
def divided_over(num_devices: int) -> Iterator[None]:
    """Within it gradients are traced for batches that so many devices share, in equal parts one after the other.

    What goes through a batch image by image has to go through the part of every device, or each would get them all.
    """
    token = _num_devices.set(num_devices)
    try:
        yield
    finally:
        _num_devices.reset(token)


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
    is_first, (rows, columns) = x.shape[-1] <= IMAGE_CHANNELS, gradient.shape[1:3]
    if is_first or rows * columns >= MANY_PLACES:
        by_product = _first_kernel_gradient if is_first else _kernel_gradient_by_strips
        return image_gradient, _of_every_device(partial(by_product, kernel, strides, padding), x, gradient)
    # By the kernel: the gradient is the kernel, over images whose channels are the examples.
    kernel_gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), by_kernel,
        rhs_dilation=(strides, strides), dimension_numbers=ORDER,
    )  # fmt: skip
    return image_gradient, kernel_gradient.transpose(1, 2, 0, 3)


def _of_every_device(by_product: Callable[[Array, Array], Array], x: Array, gradient: Array) -> Array:
    """The sum over the parts of a batch that devices share; see `divided_over`."""
    num_devices = _num_devices.get()
    if num_devices == 1 or len(x) % num_devices:
        return by_product(x, gradient)
    parts = (each.reshape(num_devices, -1, *each.shape[1:]) for each in (x, gradient))
    return jnp.sum(jax.vmap(by_product)(*parts), axis=0)


def _kernel_gradient_by_strips(kernel: Array, strides: int, padding: Padding, x: Array, gradient: Array) -> Array:
    """The gradient by a kernel as matrix products: the gradient by the result, times what the weights see.

    A few rows of an image at a time, whose patches the cache holds. They are the right factor: the library is twice as
    fast where the left one is turned, which is the smaller.
    """
    (n, rows, columns, features), channels = gradient.shape, x.shape[-1]
    (height, width), num_weights = kernel.shape[:2], kernel.size // features
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    at_most = STRIP_BYTES // (columns * num_weights * dtype.itemsize)
    part = max(i for i in range(1, rows + 1) if rows % i == 0 and i <= max(at_most, 1))
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    seen_rows, seen_columns = (part - 1) * strides + 1, (columns - 1) * strides + 1  # by one weight, with those between

    def add_strip(step: Array, total: Array) -> Array:
        image, row = step // (rows // part), step % (rows // part) * part
        sizes = (1, seen_rows + height - 1, padded.shape[2], channels)
        strip = lax.dynamic_slice(padded, (image, row * strides, 0, 0), sizes)[0]
        seen = [
            strip[i : i + seen_rows : strides, j : j + seen_columns : strides]
            for i in range(height)
            for j in range(width)
        ]
        patches = jnp.concatenate(seen, axis=-1).reshape(part * columns, num_weights)
        of_result = lax.dynamic_slice(gradient, (image, row, 0, 0), (1, part, columns, features))
        return total + of_result.reshape(part * columns, features).astype(dtype).T @ patches.astype(dtype)

    total = lax.fori_loop(0, n * (rows // part), add_strip, jnp.zeros((features, num_weights), dtype))
    return total.T.reshape(kernel.shape).astype(kernel.dtype)


def _first_kernel_gradient(kernel: Array, strides: int, padding: Padding, x: Array, gradient: Array) -> Array:
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
