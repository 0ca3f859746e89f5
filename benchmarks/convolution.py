"""Gradients of two 3x3 layers, in a compiled loop over steps and in a loop on the host: this project's and XLA's own.

Claim: on a CPU, where the derivative of `lax.conv_general_dilated` takes many times as long inside a compiled loop as
outside, that of `fpclass.models.convolution` takes as long; so a whole epoch can be one program.

Run: python benchmarks/convolution.py [--images 32] [--rounds 4] [--steps 4]
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


def milliseconds(run: Callable[[Any], Any], kernels: list[jax.Array], rounds: int) -> float:
    """The fastest of some calls, after one that compiles."""
    jax.block_until_ready(run(kernels))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(run(kernels))
        times.append(1e3 * (time.perf_counter() - start))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.default_backend()}, {args.images} images of 32 x 32 x 16, ms a step")
    for name, outside, inside in measure(args.images, args.rounds, args.steps):
        print(f"{name:<14} on the host {outside:8.1f}   compiled {inside:8.1f}   ratio {inside / outside:6.2f}")


if __name__ == "__main__":
    main()
