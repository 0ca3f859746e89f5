"""An epoch as one compiled loop, and as a loop on the host that calls the same step: the three-block CNN on 32 x 32.

On CPU XLA's convolutions are much slower inside a compiled loop, which is why such networks train by a loop on the host
(`fpclass.train.placement.needs_host_loop`). On an accelerator the compiled loop should win.

Run: python benchmarks/host_loop.py [--images 256] [--batch 64] [--rounds 2]
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine
from fpclass.train.engine import Engine
from fpclass.train.host_engine import make_host_engine
from fpclass.train.state import Dataset, Member


def seconds_per_image(engine: Engine, member: Member, dataset: Dataset, rounds: int) -> float:
    """The fastest epoch of some, after one that compiles."""
    state = engine.init(member, dataset)
    best = float("inf")
    for i in range(rounds + 1):
        start = time.perf_counter()
        state, _ = engine.train_epoch(state, member, dataset)
        jax.block_until_ready(state.params)
        if i:
            best = min(best, time.perf_counter() - start)
    return best / len(member.train_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    config = load_config("configs/vehicles_animals/vehicles_model1.py", [f"--config.train.batch_size={args.batch}"])
    model = build_model(config.model, 2, (32, 32))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (args.images, 32, 32, 3), np.uint8))
    rows = jnp.arange(args.images, dtype=jnp.int32)
    member, dataset = Member(jnp.array(0), rows, rows[:0], rows[:0], jnp.ones(2)), Dataset(images, rows % 2)
    compiled = seconds_per_image(make_engine(model, config), member, dataset, args.rounds)
    on_host = seconds_per_image(make_host_engine(model, config, is_by_batch=True), member, dataset, args.rounds)
    print(f"{jax.default_backend()}, batch {args.batch}: compiled loop {1e3 * compiled:.2f} ms an image, on the host "
          f"{1e3 * on_host:.2f} ms, ratio {compiled / on_host:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
