"""Members of the baseline together, as a study trains them, against one alone and against the reference's PyTorch loop.

Claim, on two CPU cores: a member-epoch of 15 members together (1,258 images of 120 x 80, batch 32, flip and jitter,
Adam) takes at most 0.55 of PyTorch in the reference's way, and together is never slower than alone.

Run: python benchmarks/study.py                                       (PyTorch in the same environment)
     python benchmarks/study.py --torch-python=TORCHENV/bin/python        (PyTorch in an environment of its own)
     python benchmarks/study.py --torch-python= --members 25 --epochs 10     (an accelerator; without PyTorch)

A round is `--epochs` epochs of every way, in turn: together, alone (one device and every core, as `launch.py train`
has them: XLA's threads belong to all of its CPU devices), and one epoch of PyTorch (PNG of 120 x 80 per item, Pillow
augmentation, DataLoader), in a process of its own that waits meanwhile. The fastest round of each way counts. The
first round is timed apart: it compiles. What share of a study compilation is follows from it, for `--study-epochs`
epochs of these members, evaluation left out. benchmarks/train_epoch.py says when PyTorch's times mean nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import train_epoch
from engine import make_dataset, make_members

from fpclass.common.parallel import member_mesh, put, use_all_cores
from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine
from fpclass.train.engine import Engine
from fpclass.train.members import divide_over_devices, stack_members, take_member
from fpclass.train.placement import are_batched, batched_form
from fpclass.train.state import Member, TrainState

ALONE, REFERENCE = "alone", "torch, PNG 120x80, 0 workers"
LIMITS = {ALONE: 1.0, REFERENCE: 0.55}

SIZE = (train_epoch.HEIGHT, train_epoch.WIDTH)


def together_epochs(count: int, together: str, num_epochs: int) -> Callable[[], None]:
    """A round of members that share every device, by the functions that `launch.py study` calls."""
    config = load_config("configs/footprints/baseline.py")
    config.hardware.together = together
    mesh = member_mesh()
    alone = make_engine(build_model(batched_form(config, mesh), 2, SIZE), config)
    engine = divide_over_devices(alone, mesh, is_batched=are_batched(config, mesh))
    members = make_members(count)
    stacked = stack_members([take_member(members, i) for i in range(count)], mesh)
    dataset = put(make_dataset(), mesh)
    state = engine.init(stacked, dataset)
    return epochs(engine, state, stacked, dataset, num_epochs)


def alone_epochs(num_epochs: int) -> Callable[[], None]:
    """A round of one member, by the functions that `launch.py train` calls."""
    config = load_config("configs/footprints/baseline.py")
    member, dataset = take_member(make_members(1), 0), make_dataset()
    engine = make_engine(build_model(config.model, 2, SIZE), config)
    return epochs(engine, engine.init(member, dataset), member, dataset, num_epochs)


def epochs(engine: Engine, state: TrainState, member: Member, dataset: object, num_epochs: int) -> Callable[[], None]:
    """A round of training epochs that go on where the last round ended."""

    def run() -> None:
        nonlocal state
        for _ in range(num_epochs):
            state, record = engine.train_epoch(state, member, dataset)
            jax.block_until_ready((state, record))

    return run


def measure(
    ways: dict[str, Callable[[], tuple[float, float]]], num_rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each round of each way, in turn; the first round beside the others."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(num_rounds + 1):
        for name, way in ways.items():
            times[name].append(way())
    return times


def print_table(times: dict[str, list[tuple[float, float]]], member_epochs: dict[str, int], args: argparse.Namespace):
    """Seconds per member-epoch of each way, and what share of those of the other ways together takes."""
    best, best_cpu = {}, {}
    print(f"\n{'s / member-epoch':<32} {'min':>7} {'median':>7} {'CPU min':>8} {'first round s':>14} {'compiling':>10}")
    for name, (first, *rest) in times.items():
        wall, cpu = [t[0] for t in rest], [t[1] for t in rest]
        count = member_epochs[name]
        best[name], best_cpu[name] = min(wall) / count, min(cpu) / count
        compiling = ""
        if name != REFERENCE:
            extra = max(first[0] - statistics.median(wall), 0)
            share = extra / (extra + min(wall) / args.epochs * args.study_epochs)
            compiling = f"{share:10.1%}"
        middle = statistics.median(wall) / count
        print(f"{name:<32} {best[name]:7.4f} {middle:7.4f} {best_cpu[name]:8.4f} {first[0]:14.2f} {compiling:>10}")
    print(f"\n{'share of the time of':<32} {'wall':>7} {'CPU':>7} {'limit':>7}")
    for name in times:
        for other in (other for other in LIMITS if other in times and name not in LIMITS):
            wall, cpu = best[name] / best[other], best_cpu[name] / best_cpu[other]
            met = "met" if wall <= LIMITS[other] else "MISSED"
            print(f"{f'{name}: {other}':<47} {wall:7.2f} {cpu:7.2f} {LIMITS[other]:7.2f} {met}")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=15, help="how many train together")
    parser.add_argument("--epochs", type=int, default=2, help="of every member in a round")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after the first")
    parser.add_argument("--together", nargs="+", default=["auto"], choices=["auto", "vmap", "sequential"])
    parser.add_argument("--study-epochs", type=int, default=50, help="of the study that the share of compiling is of")
    parser.add_argument("--torch-threads", type=int, default=os.cpu_count(), help="1 where others use the machine too")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch; empty: without it")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    use_all_cores()
    print(f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}, {args.members} members")
    rounds = {f"together, {way}": together_epochs(args.members, way, args.epochs) for way in args.together}
    member_epochs = dict.fromkeys(rounds, args.members * args.epochs) | {ALONE: args.epochs, REFERENCE: 1}
    rounds[ALONE] = alone_epochs(args.epochs)
    ways = {name: lambda run=run: train_epoch.timed(run) for name, run in rounds.items()}
    if not args.torch_python:
        times = measure(ways, args.rounds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            size = (train_epoch.HEIGHT, train_epoch.WIDTH)
            train_epoch.write_pngs(Path(folder, f"{size[0]}x{size[1]}"), *size)
            reference = train_epoch.TorchProcess(args.torch_python, Path(folder), args.torch_threads)
            times = measure(ways | {REFERENCE: lambda: reference.run(REFERENCE)}, args.rounds)
            reference.close()
    print_table(times, member_epochs, args)


if __name__ == "__main__":
    main()
