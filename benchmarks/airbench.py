r"""Vehicles or animals by `vehicles_airbench`, on images of CIFAR-10 in memory: how good, after how many seconds.

The training of `launch.py train`, without files, figures and reading: the engine, its epochs and its evaluations by ten
views of each image. Images are drawn from every class alike; the first of them train, the others judge. Seconds are
those of training alone.

Run: python benchmarks/airbench.py --data=DIR                      (an accelerator; DIR has a folder per class)
     python benchmarks/airbench.py --data=DIR --train 10000 --validation 5000 --seeds 0 1 -- \
       --config.model.conv_features='(16,32,64)' --config.train.batch_size=256 --config.optim.learning_rate=0.4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fpclass.common.parallel import fetch
from fpclass.common.threads import in_threads
from fpclass.config import Config
from fpclass.experiment import load_config
from fpclass.train.device_engine import make_engine
from fpclass.train.state import Dataset, Member
from fpclass.train.task import build_network

CONFIG = "configs/vehicles_animals/vehicles_airbench.py"
NARROW = ("--config.model.conv_features=(16,32,64)", "--config.train.batch_size=128", "--config.train.num_epochs=2",
          "--config.optim.learning_rate=0.4", "--config.optim.warmup_epochs=0.0")  # fmt: skip
"""For a trial on a CPU."""
GOAL = 0.985
"""Accuracy of the two classes that the recipe aims at."""


def read_images(folder: Path, config: Config, limit: int) -> Dataset:
    """At most so many images of a folder per class, as many of each class, in an order that is drawn once."""
    folder = folder / "train" if (folder / "train").is_dir() else folder
    merged = [(label, name) for label, (_, names) in enumerate(config.data.merge) for name in names]
    files: list[tuple[Path, int, int]] = []
    for sublabel, (label, name) in enumerate(merged):
        of_class = [(path, label, sublabel) for path in sorted((folder / name).iterdir())]
        drawn = np.random.default_rng(0).permutation(len(of_class))[: limit // len(merged)]
        files += [of_class[i] for i in drawn]
    order = np.random.default_rng(1).permutation(len(files))
    paths, labels, sublabels = zip(*(files[i] for i in order), strict=True)

    def read(i: int) -> np.ndarray:
        with Image.open(paths[i]) as image:
            return np.asarray(image.convert("RGB"))

    images = jnp.asarray(np.stack(list(in_threads(read, len(paths)))))
    return Dataset(images, jnp.array(labels), {}, jnp.array(sublabels) if config.model.subclasses else None)


def make_member(seed: int, num_train: int, num_images: int) -> Member:
    rows = jnp.arange(num_images, dtype=jnp.int32)
    return Member(jnp.uint32(seed), rows[:num_train], rows[:0], rows[num_train:], jnp.ones(2))


def train(config: Config, dataset: Dataset, num_train: int, seed: int) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Trains on the first images; after every evaluation the epoch, seconds of training, and scores on the others.

    Compilation and evaluation are not in the seconds: every program is called once before they count.
    """
    engine = make_engine(build_network(config, 2), config)
    member = make_member(seed, num_train, len(dataset.labels))
    warm, _ = engine.train_parts[0](engine.init(member, dataset), member, dataset, np.int32(0), np.int32(1))
    jax.block_until_ready(engine.evaluate_epoch(warm, member, dataset))
    state, seconds = jax.block_until_ready(engine.init(member, dataset)), 0.0
    for epoch in range(1, config.train.num_epochs + 1):
        start = time.perf_counter()
        state, record = engine.train_epoch(state, member, dataset)
        jax.block_until_ready((state, record))
        seconds += time.perf_counter() - start
        if epoch % config.train.eval_every_epochs == 0 or epoch == config.train.num_epochs:
            state, scores = engine.evaluate_epoch(state, member, dataset)
            yield epoch, seconds, {name: float(value) for name, value in fetch(scores).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder per class of CIFAR-10")
    parser.add_argument("--train", type=int, default=40_000, help="images to train on; default %(default)s")
    parser.add_argument("--validation", type=int, default=10_000, help="images to judge by; default %(default)s")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("overrides", nargs="*", metavar="--config.KEY=VALUE", help="after --")
    args = parser.parse_args()
    config = load_config(CONFIG, args.overrides)
    dataset = read_images(args.data, config, args.train + args.validation)
    num_images = len(dataset.labels)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {args.train} of {num_images} images train")
    print(f"{'seed':>4} {'epoch':>5} {'s':>7} {'accuracy':>8} {'loss':>6}")
    for seed in args.seeds:
        for epoch, seconds, scores in train(config, dataset, args.train, seed):
            accuracy, loss = scores["validation_accuracy"], scores["validation_loss"]
            print(f"{seed:>4} {epoch:>5} {seconds:>7.1f} {accuracy:>8.4f} {loss:>6.3f}", flush=True)


if __name__ == "__main__":
    main()
