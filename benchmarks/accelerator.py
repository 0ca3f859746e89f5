"""Everything that wants measuring on a GPU or TPU, in one command of at most eight minutes: Markdown to paste.

Every section is a process of its own, with a share of the minutes: what an earlier one left over, a later one has; who
has spent its share is stopped with a line, and who finds none left is skipped with a line. Progress goes to stderr.

  tests        the fast tests that make sense there. Their tolerances are those of float32, so products are computed so
               (matmul precision "highest"); a table says how far TF32, NVIDIA's default, and bfloat16, TPUs', are off.
               What is promised bit for bit needs XLA's deterministic operations on a GPU, and runs with them
  convolution  gradients written out and XLA's own, in a compiled loop and outside; the small network's convolutions as
               they are and as matrix products, one member and many
  study        11 configs x 5 folds x 5 seeds x 50 epochs, SYNTHETIC footprints, `launch.py study` from empty caches
  airbench     `vehicles_airbench` to 98.5 % of two classes, on images of CIFAR-10 (--data)
  backbones    inference and steps in float32 (TF32 on both sides) and bfloat16, against PyTorch
  costs        bytes and operations of a step of the main recipes, beside the limits of an H200

Run: python benchmarks/accelerator.py --data=CIFAR10 > accelerator.md          (CIFAR10: a folder per class)
     python benchmarks/accelerator.py --small                                  (a trial on a CPU)
     python benchmarks/accelerator.py --only study backbones --minutes 5
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHARES = {"tests": 0.2, "convolution": 0.1, "study": 0.36, "airbench": 0.1, "backbones": 0.18, "costs": 0.06}
"""Of the minutes, by section, in the order in which they run."""
LEAST_SECONDS = 5
"""Of a section; with less it is not begun."""
GRACE_SECONDS = 25
"""In which a section that is told to stop has to say what it has."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision")


def head() -> Iterator[str]:
    """Device, versions and date."""
    import jax

    device = jax.devices()[0]
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    versions["platform"] = " ".join(device.client.platform_version.split())
    yield f"# {jax.device_count()} x {device.device_kind}, {time.strftime('%Y-%m-%d')}"
    yield ""
    yield f"Python {platform.python_version()}, {', '.join(f'{name} {version}' for name, version in versions.items())}"


def run_section(name: str, args: argparse.Namespace) -> None:
    """What a section's process does: its lines, then what memory it took."""
    import accelerator_sections as sections

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for line in head() if name == "head" else getattr(sections, name)(args):
            print(line, flush=True)
    finally:
        if name != "head":
            print(f"\n{sections.peak_memory()}", flush=True)


def measure(name: str, args: argparse.Namespace, seconds: float) -> None:
    """Runs a section in a process of its own, for so many seconds at most."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    if name == "backbones":  # two libraries share the device
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    command = [sys.executable, __file__, "--section", name, *["--small"] * args.small]
    command += [f"--data={args.data}"] if args.data else []
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(f"\n**Stopped after {time.perf_counter() - started:.0f} s: its share of the time is spent.**", flush=True)
        return
    took = time.perf_counter() - started
    print(f"\n**Failed** with exit code {code}; stderr says why." if code else f"\n{took:.0f} s in all.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SHARES), choices=list(SHARES), metavar="SECTION")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it; default %(default)s")
    parser.add_argument("--small", action="store_true", help="a trial of every section, on next to nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="CIFAR-10, a folder per class, for airbench")
    parser.add_argument("--section", choices=["head", *SHARES], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.section:
        run_section(args.section, args)
        return
    began, until = time.perf_counter(), 0.0
    subprocess.run([sys.executable, __file__, "--section", "head"], check=True)
    chosen = {name: share for name, share in SHARES.items() if name in args.only}
    for name, share in chosen.items():
        until += 60 * args.minutes * share / sum(chosen.values())
        left = until - (time.perf_counter() - began)
        print(f"\n## {name}\n", flush=True)
        if left < LEAST_SECONDS:
            print(f"Skipped: its share of the {args.minutes:g} minutes is spent.", flush=True)
        else:
            measure(name, args, left)
    print(f"\nAll of it: {(time.perf_counter() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
