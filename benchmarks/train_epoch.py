"""An epoch of the baseline against PyTorch, side by side in one run, on CPU.

Claim: an epoch of the baseline with flip and jitter (1,258 images of 120 x 80, batch 32, Adam) takes at most 0.60 of
PyTorch in the reference's way (PNG per item, Pillow augmentation, DataLoader) and at most 0.70 of PyTorch on tensors
in memory without augmentation.

Run: python benchmarks/train_epoch.py                                  (PyTorch in the same environment)
     python benchmarks/train_epoch.py --torch-python=TORCHENV/bin/python    (PyTorch in an environment of its own)

A round is one epoch of every way, in turn, in two processes of which one always waits; the fastest epoch of each way
counts. Both are bound to the same cores. Each way's first epoch, with this project's compilation, is timed apart.

The reference's way is measured on grey PNGs of 120 x 80 and of 403 x 619 (half the competition's size). The claim is
about the former, the choice that is kinder to PyTorch: there is next to nothing to decode. torchvision is optional;
without it Pillow does the same operations. On a machine that others use as well, PyTorch's threads wait for each
other and its times mean nothing: use --threads=1 there, and the CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_IMAGES, HEIGHT, WIDTH, BATCH_SIZE = 1258, 120, 80, 32
LARGE_HEIGHT, LARGE_WIDTH = 619, 403
PROJECT = "fpclass"
LIMITS = {"torch, PNG 120x80, 0 workers": 0.60, "torch, tensors in memory": 0.70}


def project_epoch() -> Callable[[], None]:
    """This project's training epoch: the function that `fpclass train` calls."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from fpclass.experiment import load_config
    from fpclass.models.build import build_model
    from fpclass.train.device_engine import make_engine
    from fpclass.train.state import Dataset, Member

    config = load_config("configs/footprints/baseline.py")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, HEIGHT, WIDTH, 1), dtype=np.uint8)
    dataset = Dataset(jnp.asarray(images), jnp.asarray(rng.integers(0, 2, NUM_IMAGES, dtype=np.int32)))
    rows, nothing = jnp.arange(NUM_IMAGES), jnp.arange(0)
    member = Member(jnp.zeros((), jnp.uint32), rows, nothing, nothing, jnp.ones(2))
    engine = make_engine(build_model(config.model, 2, (HEIGHT, WIDTH)), config)
    state = engine.init(member, dataset)

    def epoch() -> None:
        nonlocal state
        state, record = engine.train_epoch(state, member, dataset)
        jax.block_until_ready((state, record))

    return epoch


def write_pngs(folder: Path, height: int, width: int) -> None:
    """Writes `NUM_IMAGES` grey PNGs like prints: speckled dark ellipses of few grey levels on white."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    for i in range(NUM_IMAGES):
        inked = np.zeros((height, width), bool)
        for centre_y, centre_x in rng.uniform(0.3, 0.7, (3, 2)):
            inked |= ((y - centre_y) / 0.2) ** 2 + ((x - centre_x) / 0.3) ** 2 < 1
        inked &= rng.random((height, width), np.float32) < 0.8
        grey = np.where(inked, 17 * rng.integers(0, 8, (height, width)), 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{i}.png")


def declare_missing_operators() -> object:
    """Declares what a torchvision without its compiled part looks for when it is imported; keep the result alive."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def torchvision_transform() -> Callable[[Any], Any]:
    """The reference's way from a PIL image to a tensor [1, H, W], by torchvision. Raises ImportError."""
    try:
        from torchvision import transforms
    except RuntimeError:  # its compiled part does not fit this torch
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        torchvision_transform.library = declare_missing_operators()  # type: ignore[attr-defined]
        from torchvision import transforms
    return transforms.Compose(
        [
            transforms.Resize((HEIGHT, WIDTH)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize((0.5,), (0.5,)),
        ]
    )


def pillow_transform(image: Any) -> Any:
    """The same operations by Pillow alone."""
    import numpy as np
    import torch
    from PIL import Image, ImageEnhance, ImageOps

    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    enhancers = [ImageEnhance.Brightness, ImageEnhance.Contrast]
    random.shuffle(enhancers)
    for enhancer in enhancers:
        image = enhancer(image).enhance(random.uniform(0.8, 1.2))
    return torch.from_numpy(np.asarray(image, np.float32)[None]).div_(255).sub_(0.5).div_(0.5)


def torch_ways(folder: Path, num_threads: int) -> dict[str, Callable[[], None]]:
    """One epoch in each of PyTorch's ways, by name; `folder` holds the PNGs."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    torch.manual_seed(0)
    torch.set_num_threads(num_threads)
    try:
        transform, made_by = torchvision_transform(), "torchvision"
    except ImportError:
        transform, made_by = pillow_transform, "Pillow (no torchvision)"
    print(f"note torch {torch.__version__}, {num_threads} threads, augmentation by {made_by}")
    labels = torch.randint(0, 2, (NUM_IMAGES,))

    class Prints(Dataset):
        def __init__(self, height: int, width: int):
            self.folder = folder / f"{height}x{width}"

        def __len__(self) -> int:
            return NUM_IMAGES

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            return transform(Image.open(self.folder / f"{i}.png")), labels[i]

    def make_epoch(data: Dataset, num_workers: int) -> Callable[[], None]:
        layers = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
        dense = [nn.Linear(7344, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2)]
        model = nn.Sequential(*layers, nn.Flatten(), *dense)
        optimizer, loss_function = torch.optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss()
        loader = DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=num_workers)

        def epoch() -> None:
            batches = loader if num_workers or isinstance(data, Prints) else in_memory(data)
            for x, y in batches:
                optimizer.zero_grad()
                loss_function(model(x), y).backward()
                optimizer.step()

        return epoch

    def in_memory(data: Any) -> Any:
        # Not through a DataLoader, which would fetch and stack the images one by one.
        return (tuple(t[rows] for t in data.tensors) for rows in torch.randperm(NUM_IMAGES).split(BATCH_SIZE))

    small, large = Prints(HEIGHT, WIDTH), Prints(LARGE_HEIGHT, LARGE_WIDTH)
    return {
        "torch, tensors in memory": make_epoch(TensorDataset(torch.randn(NUM_IMAGES, 1, HEIGHT, WIDTH), labels), 0),
        "torch, PNG 120x80, 0 workers": make_epoch(small, 0),
        "torch, PNG 120x80, 2 workers": make_epoch(small, 2),
        "torch, PNG 403x619, 0 workers": make_epoch(large, 0),
    }


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(epoch: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of an epoch."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    epoch()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def serve_torch(folder: Path, num_threads: int) -> None:
    """The other process: names its ways, then runs the one that each line of its input asks for."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # two workers on one core are meant
    try:
        ways = torch_ways(folder, num_threads)
    except ImportError as error:
        sys.exit(f"{sys.executable}: {error}")
    for name in ways:
        print(f"way {name}")
    print("ready", flush=True)
    for line in sys.stdin:
        print(*timed(ways[line.strip()]), flush=True)


class TorchProcess:
    """PyTorch in another interpreter, running an epoch when asked."""

    def __init__(self, python: str, folder: Path, num_threads: int):
        command = [python, __file__, "--serve-torch", str(folder), "--threads", str(num_threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ways: list[str] = []
        while (line := self._line()) != "ready":
            kind, _, text = line.partition(" ")
            if kind == "way":
                self.ways.append(text)
            else:
                print(text)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("PyTorch stopped, see above; --torch-python names an interpreter that has torch and Pillow")
        return line.strip()

    def run(self, way: str) -> tuple[float, float]:
        """Wall and CPU seconds of one epoch."""
        assert self._process.stdin is not None
        print(way, file=self._process.stdin, flush=True)
        wall, cpu = map(float, self._line().split())
        return wall, cpu

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def print_table(times: dict[str, list[tuple[float, float]]]) -> None:
    columns = f"{'first':>7} {'min':>7} {'median':>7} {'CPU min':>8}"
    print(f"\n{'s / epoch':<32} {columns}   {PROJECT} / this way: min, CPU min, limit")
    best, best_cpu = (min(t[i] for t in times[PROJECT][1:]) for i in range(2))
    for way, (first, *rest) in times.items():
        wall, cpu = [t[0] for t in rest], [t[1] for t in rest]
        limit = f"{LIMITS[way]:.2f}" if way in LIMITS else ""
        print(
            f"{way:<32} {first[0]:7.2f} {min(wall):7.3f} {statistics.median(wall):7.3f} {min(cpu):8.3f} "
            f"{best / min(wall):25.2f} {best_cpu / min(cpu):8.2f} {limit:>7}"
        )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch (and torchvision)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores for both sides")
    parser.add_argument("--rounds", type=int, default=7, help="timed epochs of each way")
    parser.add_argument("--serve-torch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores; the other process inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    if args.serve_torch:
        serve_torch(args.serve_torch, args.threads)
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        for height, width in ((HEIGHT, WIDTH), (LARGE_HEIGHT, LARGE_WIDTH)):
            write_pngs(Path(folder, f"{height}x{width}"), height, width)
        torch_process = TorchProcess(args.torch_python, Path(folder), args.threads)
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in (PROJECT, *torch_process.ways)}
        epoch = project_epoch()
        for _ in range(args.rounds + 1):
            for way in times:
                times[way].append(timed(epoch) if way == PROJECT else torch_process.run(way))
        torch_process.close()
    print_table(times)


if __name__ == "__main__":
    main()
