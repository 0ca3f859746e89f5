"""Prediction of images that go through a network at once, or in parts that a CPU's cache holds; and on all cores.

Ways in turn, the best of several rounds: on a shared machine anything slower is somebody else's work, and the caches
are everybody's. First by CPU time, which size of a part suits. Then by the wall clock, what it brings that a thread for
each core calls the program with parts of its own (`fpclass.common.parallel.launch_each`), not one program for all.

Run: python benchmarks/predict_parts.py [--networks resnet50 vit_b_16] [--parts 16 8 4 2]
     python benchmarks/predict_parts.py --parts --images 32      (cores alone)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from backbones import best_times
from jax import lax

from fpclass.common.parallel import launch_each
from fpclass.common.threads import num_cores
from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.models.parts import part_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "efficientnet_lite0", "vit_b_16"])
    parser.add_argument("--parts", nargs="*", type=int, default=[16, 8, 4, 2, 1], help="images of each; none: no table")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {args.images} images of {args.size} x {args.size}\n")
    images = jax.random.normal(jax.random.key(0), (args.images, args.size, args.size, 3))
    networks = {name: network(name, images) for name in args.networks}
    if args.parts:
        heading("ms of CPU time an image", *(f"parts of {part}" for part in args.parts))
        for name, (apply, variables) in networks.items():
            ways = {str(part): one_program(apply, variables, images, part) for part in args.parts}
            times = best_times(ways, args.rounds, time.process_time)
            print(f"| {' | '.join([name, *(f'{1e3 * of / args.images:.1f}' for of in times.values())])} |", flush=True)
        print()
    heading(f"ms of the wall clock an image, {num_cores()} cores", "one program", "a thread for each core", "ratio")
    for name, (apply, variables) in networks.items():
        part = part_size(args.images, images.shape, variables["params"])
        ways = {"one": one_program(apply, variables, images, part), "threads": threads(apply, variables, images, part)}
        one, each = (1e3 * seconds / args.images for seconds in best_times(ways, args.rounds).values())
        print(f"| {name}, parts of {part} | {one:.1f} | {each:.1f} | {each / one:.2f} |", flush=True)


def heading(what: str, *columns: str) -> None:
    print(f"| {what} | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")


def network(name: str, images: jax.Array) -> tuple[Callable[[Any, jax.Array], jax.Array], Any]:
    """The function (variables, images) -> logits of a network, and its variables, drawn."""
    config = load_config("configs/base.py", [f"--config.model.name={name}", "--config.data.channels=3"])
    model = build_model(config.model, 2, (images.shape[1], images.shape[2]))
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(images[:1])
    return lambda v, x: jnp.asarray(model.apply(v, x, train=False)), variables


def one_program(apply: Any, variables: Any, images: jax.Array, part: int) -> Callable[[], Any]:
    """One part after the other, by one call."""
    parts = images.reshape(-1, part, *images.shape[1:])
    program = jax.jit(lambda v, x: lax.map(lambda some: apply(v, some), x)).lower(variables, parts).compile()
    return lambda: jax.block_until_ready(program(variables, parts))


def threads(apply: Any, variables: Any, images: jax.Array, part: int) -> Callable[[], Any]:
    """As prediction does it."""
    parts = images.reshape(-1, part, *images.shape[1:])
    program = jax.jit(apply).lower(variables, parts[0]).compile()
    return lambda: list(launch_each(lambda i: program(variables, parts[i]), len(parts)))


if __name__ == "__main__":
    main()
