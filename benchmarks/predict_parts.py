"""Prediction of images that go through a network at once, or in parts that a CPU's cache holds.

Ways in turn; milliseconds of CPU time an image, the best of several rounds: on a shared machine anything slower is
somebody else's work, and the caches are everybody's.

Run: python benchmarks/predict_parts.py [--networks resnet50 vit_b_16] [--parts 16 8 4 2]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
from backbones import best_times
from jax import lax

from fpclass.experiment import load_config
from fpclass.models.build import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "efficientnet_lite0", "vit_b_16"])
    parser.add_argument("--parts", nargs="+", type=int, default=[16, 8, 4, 2, 1], help="images of each")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {args.images} images of {args.size} x {args.size}; ms of CPU time an image\n")
    print(f"| network | {' | '.join(f'parts of {part}' for part in args.parts)} |\n|{'---|' * (1 + len(args.parts))}")
    images = jax.random.normal(jax.random.key(0), (args.images, args.size, args.size, 3))
    for name in args.networks:
        config = load_config("configs/base.py", [f"--config.model.name={name}", "--config.data.channels=3"])
        model = build_model(config.model, 2, (args.size, args.size))
        variables = jax.jit(lambda x, model=model: model.init(jax.random.key(0), x, train=False))(images[:1])

        def run(part: int, model: Any = model, variables: Any = variables) -> Any:
            parts = images.reshape(-1, part, *images.shape[1:])
            predict = jax.jit(lambda v, x: lax.map(lambda some: model.apply(v, some, train=False), x))
            compiled = predict.lower(variables, parts).compile()
            return lambda: jax.block_until_ready(compiled(variables, parts))

        times = best_times({str(part): run(part) for part in args.parts}, args.rounds, time.process_time)
        cells = [f"{1e3 * seconds / args.images:.1f}" for seconds in times.values()]
        print(f"| {' | '.join([name, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
