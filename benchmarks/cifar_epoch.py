"""An epoch of the three-block CNN on 32 x 32 images: this project, PyTorch and Keras on JAX, side by side in one run.

The same layers and number of parameters (asserted), batch, optimiser (Adam) and images, drawn from a seed; the images
are in memory on all sides. Times alternate, the best of several rounds counts: on a shared machine anything slower is
somebody else's work. All of them shuffle, nobody augments.

Run: pip install -e '.[parity]'
     python benchmarks/cifar_epoch.py [--images 2048] [--batch 64] [--rounds 3] [--ways ours torch]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np

from fpclass.common.parallel import batch_mesh, put, use_all_cores
from fpclass.common.threads import num_cores
from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.train.placement import engine_for
from fpclass.train.state import Dataset, Member
from fpclass.train.summary import count_parameters

CONFIG = "configs/vehicles_animals/vehicles_model1.py"
WIDTHS, DENSE, DROPOUT, L2, RATE = (32, 64, 128), 128, 0.3, 1e-3, 1e-3


def ours(images: np.ndarray, labels: np.ndarray, batch: int, num_devices: int = 1) -> tuple[Callable[[], None], int]:
    """An epoch of the engine."""
    config = load_config(CONFIG, [f"--config.train.batch_size={batch}", f"--config.train.num_devices={num_devices}"])
    model, mesh = build_model(config.model, 2, (32, 32)), batch_mesh(num_devices)
    rows = np.arange(len(images), dtype=np.int32)
    member = Member(np.array(0), rows, rows[:0], rows[:0], np.ones(2, np.float32))
    member, dataset = put((member, Dataset(images, labels)), mesh)
    engine = engine_for(dataset.images, model, config, mesh)
    state = engine.init(member, dataset)

    def epoch() -> None:
        nonlocal state
        state, _ = engine.train_epoch(state, member, dataset)
        jax.block_until_ready(state.params)

    return epoch, count_parameters(model, (32, 32, 3))


def pytorch(
    images: np.ndarray, labels: np.ndarray, batch: int, *, channels_last: bool = False
) -> tuple[Callable[[], None], int]:
    """The same in PyTorch, tensors in memory."""
    import torch
    from torch import nn

    layout = torch.channels_last if channels_last else torch.contiguous_format

    torch.set_num_threads(num_cores())
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        ]
        layers += [nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.Dropout(DROPOUT)]
        channels = width
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, DENSE), nn.ReLU(), nn.Linear(DENSE, 1)
    ).to(memory_format=layout)
    dense = model[-3]
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    x, y = (
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout),
        torch.from_numpy(labels).float(),
    )
    loss_of = nn.BCEWithLogitsLoss()

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(batch):
            part = (x[rows].float() / 255 - 0.5) / 0.5
            optimizer.zero_grad()
            loss = loss_of(model(part)[:, 0], y[rows]) + L2 * dense.weight.square().sum()
            loss.backward()
            optimizer.step()

    return epoch, sum(p.numel() for p in model.parameters())


def keras(images: np.ndarray, labels: np.ndarray, batch: int) -> tuple[Callable[[], None], int]:
    """The same in Keras on its JAX backend."""
    import keras as k

    model = k.Sequential([k.Input((32, 32, 3)), k.layers.Rescaling(1 / 127.5, offset=-1)])
    for width in WIDTHS:
        for _ in range(2):
            model.add(k.layers.Conv2D(width, 3, padding="same", activation="relu"))
        for layer in (k.layers.BatchNormalization(), k.layers.MaxPooling2D(2), k.layers.Dropout(DROPOUT)):
            model.add(layer)
    model.add(k.layers.GlobalAveragePooling2D())
    model.add(k.layers.Dense(DENSE, activation="relu", kernel_regularizer=k.regularizers.L2(L2)))
    model.add(k.layers.Dense(1, activation="sigmoid"))
    model.compile(k.optimizers.Adam(RATE), "binary_crossentropy")
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return lambda: model.fit(images, labels, batch_size=batch, epochs=1, verbose=0) and None, trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", help="some of them only")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, args.images).astype(np.int32)
    images = rng.integers(0, 256, (args.images, 32, 32, 3), np.uint8)
    use_all_cores()
    makers = {
        "ours": ours,
        "ours, all cores": partial(ours, num_devices=0),
        "torch": pytorch,
        "torch, channels last": partial(pytorch, channels_last=True),
        "keras": keras,
    }
    ways = {name: makers[name](images, labels, args.batch) for name in args.ways or makers}
    assert len({count for _, count in ways.values()}) == 1, {name: count for name, (_, count) in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    for i in range(args.rounds + 1):
        for name, (epoch, _) in ways.items():
            start = time.perf_counter()
            epoch()
            if i:
                best[name] = min(best[name], time.perf_counter() - start)
    print(
        f"{jax.default_backend()}, {args.images} images of 32 x 32, batch {args.batch}, "
        f"{next(iter(ways.values()))[1]:,} parameters"
    )
    for name, seconds in best.items():
        ratios = "".join(f"   {own} / it {best[own] / seconds:5.2f}" for own in best if own.startswith("ours"))
        print(f"{name:<20} {seconds:7.2f} s an epoch{ratios}")


if __name__ == "__main__":
    main()
