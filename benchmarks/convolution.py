"""Gradients of 3x3 layers on a CPU: in a compiled loop and in one on the host, and by the kernel alone.

Claims: where the derivative of `lax.conv_general_dilated` takes many times as long inside a compiled loop as outside,
that of `fpclass.models.convolution` takes as long; so a whole epoch can be one program. And its gradient by a kernel
takes less CPU time than XLA's, on one core, the fastest of the rounds; PyTorch's stands beside it if it is there.

Run: python benchmarks/convolution.py [--images 32] [--rounds 4] [--steps 4]
     taskset -c 0 python benchmarks/convolution.py --kernels        (the gradient by the kernel alone)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fpclass.models.convolution import convolution

PADDING = ((1, 1), (1, 1))


def xla_conv(x: jax.Array, kernel: jax.Array, strides: int, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def train(function: Callable, images: jax.Array, kernels: list[jax.Array], _: Any = None) -> tuple[Any, None]:
    """A step of gradient descent on something that has both gradients."""

    def loss(kernels: list[jax.Array]) -> jax.Array:
        x = images
        for kernel in kernels:
            x = jax.nn.relu(function(x, kernel, 1, PADDING))
        return jnp.mean(x**2)

    return jax.tree.map(lambda old, change: old - 1e-3 * change, kernels, jax.grad(loss)(kernels)), None


def milliseconds(
    run: Callable[[Any], Any], kernels: Any, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The fastest of some calls, after one that compiles."""
    jax.block_until_ready(run(kernels))
    times = []
    for _ in range(rounds):
        start = clock()
        jax.block_until_ready(run(kernels))
        times.append(1e3 * (clock() - start))
    return min(times)


def measure(num_images: int, rounds: int, steps: int) -> Iterator[tuple[str, float, float]]:
    """Of each way its name, and milliseconds of a step in a loop on the host and in a compiled one."""
    key = jax.random.key(0)
    kernels = [0.1 * jax.random.normal(key, (3, 3, *channels)) for channels in ((16, 32), (32, 32))]
    images = jax.random.normal(key, (num_images, 32, 32, 16))
    for name, function in (("this project", convolution), ("XLA's own", xla_conv)):
        step = partial(train, function, images)
        on_host = jax.jit(lambda kernels, step=step: step(kernels)[0])
        in_loop = jax.jit(lambda kernels, step=step: lax.scan(step, kernels, length=steps)[0])
        yield name, milliseconds(on_host, kernels, rounds), milliseconds(in_loop, kernels, rounds) / steps


SHAPES = ((32, 64), (16, 128), (56, 64), (28, 128), (14, 256), (7, 512))
"""Height and width of 16 images, and their channels."""


def by_kernel(function: Callable, given: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    """The gradient by the kernel, of images, the gradient by the result, and a kernel."""
    images, gradient, kernel = given
    return jax.vjp(lambda kernel: function(images, kernel, 1, PADDING), kernel)[1](gradient)[0]


def by_kernel_in_torch(given: Any) -> Any:
    """The same of channels first."""
    import torch

    images, gradient, kernel = given
    rest = (None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (False, True, False))
    return torch.ops.aten.convolution_backward(gradient, images, kernel, *rest)


def compare_kernels(rounds: int) -> None:
    """CPU milliseconds of the gradient by the kernel."""
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        torch = None
    for size, channels in SHAPES:
        images = jax.random.normal(jax.random.key(0), (16, size, size, channels))
        gradient = jax.random.normal(jax.random.key(1), images.shape)
        kernel = jnp.zeros((3, 3, channels, channels))

        given = (images, gradient, kernel)  # as arguments: of constants the compiler would compute the result
        found = {
            name: milliseconds(jax.jit(partial(by_kernel, way)), given, rounds, time.process_time)
            for name, way in (("XLA's own", xla_conv), ("this project", convolution))
        }
        if torch is not None:
            turned = ((images, (0, 3, 1, 2)), (gradient, (0, 3, 1, 2)), (kernel, (3, 2, 0, 1)))
            of_torch = [
                torch.tensor(jax.device_get(array.transpose(axes))).contiguous(memory_format=torch.channels_last)
                for array, axes in turned
            ]
            found["PyTorch"] = milliseconds(by_kernel_in_torch, of_torch, rounds, time.process_time)
        times = "   ".join(f"{name} {each:6.1f}" for name, each in found.items())
        print(f"16 images of {size} x {size}, {channels} to {channels} channels, ms of CPU time: {times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kernels", action="store_true", help="the gradient by the kernel alone")
    args = parser.parse_args()
    if args.kernels:
        return compare_kernels(args.rounds)
    print(f"jax {jax.__version__}, {jax.default_backend()}, {args.images} images of 32 x 32 x 16, ms a step")
    for name, outside, inside in measure(args.images, args.rounds, args.steps):
        print(f"{name:<14} on the host {outside:8.1f}   compiled {inside:8.1f}   ratio {inside / outside:6.2f}")


if __name__ == "__main__":
    main()
