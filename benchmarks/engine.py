"""Time of a training epoch of the baseline on this machine's accelerator: both forms of conv+pool, one member and many.

1,258 random images of 120 x 80, batch 32, flip and jitter, Adam: the epoch of benchmarks/train_epoch.py, without the
comparison. Members train together by `vmap`. Compilation is timed apart.

Run: python benchmarks/engine.py --members 1 25
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine
from fpclass.train.state import Dataset, Member, TrainState

NUM_TRAIN, NUM_VALIDATION = 1258, 315


def make_dataset() -> Dataset:
    rng = np.random.default_rng(0)
    num_images = NUM_TRAIN + NUM_VALIDATION
    images = rng.integers(0, 256, (num_images, 120, 80, 1), dtype=np.uint8)
    return Dataset(jnp.asarray(images), jnp.asarray(rng.integers(0, 2, num_images, dtype=np.int32)))


def make_members(count: int) -> Member:
    member = Member(
        seed=jnp.zeros((), jnp.uint32),
        train_rows=jnp.arange(NUM_TRAIN),
        selection_rows=jnp.arange(0),
        validation_rows=jnp.arange(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION),
        class_weights=jnp.ones(2),
    )
    members = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), member)
    return members.replace(seed=jnp.arange(count, dtype=jnp.uint32))


def measure(form: str, count: int, epochs: int) -> tuple[float, list[float]]:
    """Seconds of the first call (compilation included), and of each further epoch."""
    config = load_config("configs/footprints/baseline.py")
    config.model.conv_form = form
    engine = make_engine(build_model(config.model, 2, (120, 80)), config)
    dataset, members = make_dataset(), make_members(count)
    if count == 1:
        members = jax.tree.map(lambda x: x[0], members)
        init, train_epoch = engine.init, engine.train_epoch
    else:
        init = jax.jit(jax.vmap(engine.init, (0, None)))
        train_part = jax.jit(jax.vmap(engine.train_parts[0], (0, 0, None, None, None, None)), donate_argnums=0)

        def train_epoch(state: TrainState, members: Member, dataset: Dataset) -> Any:
            return train_part(state, members, dataset, engine.hyper, 0, engine.num_batches(members))

    seconds = []
    started = time.perf_counter()
    state = init(members, dataset)
    for _ in range(epochs + 1):
        state, record = train_epoch(state, members, dataset)
        jax.block_until_ready((state, record))
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return seconds[0], seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", nargs="+", type=int, default=[1], help="how many train together")
    parser.add_argument("--forms", nargs="+", default=["polyphase", "direct"])
    parser.add_argument("--epochs", type=int, default=8, help="timed, after the first")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")
    print(f"{'form':<10} {'members':>7} {'first call s':>12} {'epoch s min':>11} {'median':>8} {'per member':>10}")
    for count in args.members:
        for form in args.forms:
            first, rest = measure(form, count, args.epochs)
            best, middle = min(rest), statistics.median(rest)
            print(
                f"{form:<10} {count:>7} {first:>12.2f} {best:>11.4f} {middle:>8.4f} {best / count:>10.5f}", flush=True
            )


if __name__ == "__main__":
    main()
