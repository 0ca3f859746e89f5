"""What bfloat16 is worth on a CPU: products of matrices, depthwise and other layers, a block of a vision transformer.

Three ways in turn: float32; bfloat16 as XLA multiplies it by itself; bfloat16 with sums in float32, as
`fpclass.models.products` asks for. "Step": the result and its gradients. Milliseconds are of CPU time. On a processor
without instructions for bfloat16 it is worth nothing.

Run: python benchmarks/bfloat16.py [--images 4] [--rounds 5] [--only attention]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
from backbones import best_times

from fpclass.models import products
from fpclass.models.architectures.vit import EncoderBlock
from fpclass.models.layers import Conv
from fpclass.models.network import Mode
from fpclass.models.products import dense_product
from fpclass.train.finetune import compute_in

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dense 768 to 3072, 197 tokens": (nn.Dense(3072, dot_general=dense_product), (197, 768)),
    "1x1 convolution, 56 x 56, 64 to 256": (Conv(256, (1, 1)), (56, 56, 64)),
    "1x1 convolution, 14 x 14, 1024 to 256": (Conv(256, (1, 1)), (14, 14, 1024)),
    "3x3 convolution, 28 x 28, 128 to 128": (Conv(128, padding=1), (28, 28, 128)),
    "3x3 convolution, 14 x 14, 256 to 256": (Conv(256, padding=1), (14, 14, 256)),
    "depthwise 3x3, 56 x 56 x 144": (Conv(144, padding=1, groups=144), (56, 56, 144)),
    "block of ViT-B": (EncoderBlock(12), (197, 768)),
}
"""Layers by what they are, with the shape of an example."""
WAYS = {"float32": "float32", "bfloat16 by itself": "bfloat16", "with float32 sums": "bfloat16"}


def calls_of(layer: nn.Module, shape: tuple[int, ...], num_images: int, dtype: str) -> list[Callable[[], Any]]:
    """The compiled layer, and the compiled layer with its gradients."""
    images = compute_in(jax.random.normal(jax.random.key(0), (num_images, *shape)), dtype)
    more = (Mode(),) if isinstance(layer, EncoderBlock) else ()
    params = layer.init(jax.random.key(1), images, *more)

    def apply(params: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(layer.apply(compute_in(params, dtype), images, *more))

    def loss(params: Any, images: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(apply(params, images).astype(jnp.float32)))

    compiled = [jax.jit(f).lower(params, images).compile() for f in (apply, jax.grad(loss, (0, 1)))]
    return [lambda f=f: jax.block_until_ready(f(params, images)) for f in compiled]


def row_of(name: str, num_images: int, rounds: int) -> str:
    """A line of the table: milliseconds in float32, and the other ways over that."""
    layer, shape = LAYERS[name]
    calls = {}
    for way, dtype in WAYS.items():
        is_narrow = (lambda x: False) if way == "bfloat16 by itself" else products.is_narrow
        with mock.patch.object(products, "is_narrow", is_narrow):
            calls[way] = calls_of(layer, shape, num_images, dtype)
    cells = [name]
    for i in range(2):
        times = best_times({way: both[i] for way, both in calls.items()}, rounds, time.process_time)
        first, *others = times.values()
        cells += [f"{1e3 * first:.1f}", *(f"{seconds / first:.2f}" for seconds in others)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts; default %(default)s")
    parser.add_argument("--only", default="", metavar="WORDS", help="layers whose names have these words")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {args.images} images; ms of CPU time, and ratios\n")
    print(f"| layer | forward: {' | '.join(WAYS)} | step: {' | '.join(WAYS)} |\n|{'---|' * 7}")
    for name in LAYERS:
        if args.only in name:
            print(row_of(name, args.images, args.rounds), flush=True)


if __name__ == "__main__":
    main()
