"""Hashes of weights and metrics of eight short trainings: the same bits before and after a change of the code.

Claim: a change that only moves or renames code leaves every hash as it was. Bits depend on the machine, on the number
of its cores and on the versions of JAX and NumPy, so both sides are computed on one machine, in one environment.

Where a number that was a constant has become data, XLA may multiply by 1 / K in place of dividing by K: the last bit
is another: label smoothing over the ten classes of vehicles_airbench showed it. With a K of 2 both are exact.

Run: python benchmarks/same_results.py --project=BEFORE --output=before.json      (BEFORE: a checkout of the old code)
     python benchmarks/same_results.py --output=after.json --compare=before.json

The trainings: the footprint baseline and experiments 4, 8 and 24 on SYNTHETIC prints; a linear probe on
EfficientNet-Lite0 (whose weights pip fetches) and two networks for vehicles or animals on drawn noise; a study of two
configs with two folds, interrupted by SIGTERM and gone on with. Nothing here says how good a model is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SYNTHETIC = (
    "--config.data.source=synthetic",
    "--config.data.synthetic.num_images=160",
    "--config.data.synthetic.image_size=(240,160)",
    "--config.train.num_epochs=3",
)
AT_128 = ("--config.data.image_size=(128,128)", "--config.finetune.cache_views=4")
TRAININGS = {
    "baseline": ("configs/footprints/baseline.py", *SYNTHETIC),
    "exp04": ("configs/footprints/exp04_early_stopping_dropout.py", *SYNTHETIC),
    "exp08": ("configs/footprints/exp08_random_erasing_batch_norm_early_stopping.py", *SYNTHETIC),
    "exp24": ("configs/footprints/exp24_all_useful.py", *SYNTHETIC, "--config.optim.warmup_epochs=1.0"),
    "linear_probe": ("configs/transfer/linear_probe.py", "--config.train.num_epochs=3", *AT_128),
    "vehicles_model1": ("configs/vehicles_animals/vehicles_model1.py", "--config.train.num_epochs=2"),
    "vehicles_airbench": (
        "configs/vehicles_animals/vehicles_airbench.py",
        "--config.model.conv_features=(16,32,32)",
        "--config.train.batch_size=64",
        "--config.optim.learning_rate=0.4",
        "--config.train.num_epochs=3",
    ),
}
STUDY = ("configs/footprints/baseline.py", "configs/footprints/exp04_early_stopping_dropout.py")
STUDY_FLAGS = ("--folds=2", *SYNTHETIC, "--config.train.checkpoint_seconds=0")
NOT_RESULTS = re.compile(r"seconds|started|path|folder")
"""Keys whose values may differ between two runs of the same code."""
READ_WEIGHTS = """
import hashlib, pathlib, sys
import jax, numpy as np, orbax.checkpoint as ocp
for folder in sys.argv[1:]:
    newest = max((p for p in pathlib.Path(folder).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    tree = ocp.StandardCheckpointer().restore((newest / "default").absolute())
    digest = hashlib.sha256(newest.name.encode())
    for path, leaf in sorted((jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(tree)):
        array = np.asarray(leaf)
        digest.update(f"{path} {array.shape} {array.dtype}".encode() + array.tobytes())
    print(digest.hexdigest()[:16])
"""


def draw_photographs(folder: Path, side: int) -> Path:
    """Writes ten class folders of eight noisy RGB images each, a colour per class."""
    rng = np.random.default_rng(0)
    for name in CIFAR_CLASSES:
        colour = rng.uniform(60, 200, 3)
        (folder / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(rng.normal(colour, 50, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{i}.png")
    return folder


def numbers_of(value: Any, path: str = "") -> Iterator[str]:
    """Numbers and class names of a JSON value in the order in which they stand, without the names of their keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not NOT_RESULTS.search(key):
                yield from numbers_of(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_of(inner, path)
    elif isinstance(value, int | float):
        yield repr(value)


def short_hash(data: bytes) -> str:
    """The first sixteen digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:16]


def hashes_of(folder: Path) -> dict[str, str]:
    """Hashes of what is in a run or study folder: weights, log, predictions, metrics."""
    found = {}
    checkpoints = sorted(folder.rglob("checkpoints/best"))
    command = [sys.executable, "-c", READ_WEIGHTS, *map(str, checkpoints)]
    weights = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for checkpoint, digest in zip(checkpoints, weights, strict=True):
        found[f"{checkpoint.parent.parent.relative_to(folder)}/weights"] = digest
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "log.jsonl":
            lines = [list(numbers_of(json.loads(line))) for line in path.read_text().splitlines()]
            found[name] = short_hash(repr(lines).encode())
        elif path.name in ("metrics.json", "scores.json", "results.json", "ensemble.json", "calibration.json"):
            found[name] = short_hash(repr(sorted(numbers_of(json.loads(path.read_text())))).encode())
        elif path.name.endswith("predictions.csv") or path.name in ("out_of_fold.csv", "submission.csv"):
            found[name] = short_hash("\n".join(path.read_text().splitlines()[1:]).encode())
    return found


def train(project: Path, environment: dict[str, str], arguments: list[str]) -> None:
    """Runs a command of the project to its end."""
    command = [sys.executable, "launch.py", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def interrupt(project: Path, environment: dict[str, str], arguments: list[str], folder: Path) -> None:
    """Starts a study and asks it to stop as soon as a member has logged an epoch."""
    command = [sys.executable, "launch.py", *arguments]
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(folder.rglob("log.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    if process.wait() != 128 + signal.SIGTERM:
        sys.exit(f"the study ended with {process.returncode} before it could be interrupted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(__file__).parent.parent, help="checkout to run")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the hashes go")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="hashes that these have to be")
    parser.add_argument("--only", nargs="+", default=[*TRAININGS, "study"], metavar="NAME", help="some of them")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="fpclass cache to use; default a new one")
    args = parser.parse_args()
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        environment = os.environ | {"FPCLASS_CACHE": str(args.cache or home / "cache")}
        photographs = {size: draw_photographs(home / f"photographs{size}", size) for size in (32, 128)}
        for name in args.only:
            started, folder = time.perf_counter(), home / name
            if name == "study":
                arguments = ["study", "--configs", *STUDY, *STUDY_FLAGS, f"--workdir={folder}"]
                interrupt(args.project, environment, arguments, folder)
                train(args.project, environment, ["study", "--resume", f"--workdir={folder}"])
                train(args.project, environment, ["submit", "--ensemble", f"--workdir={folder}"])
            else:
                config, *flags = TRAININGS[name]
                root = photographs[128 if name == "linear_probe" else 32]
                place = [] if "footprints" in config else [f"--config.data.root={root}"]
                train(
                    args.project,
                    environment,
                    ["train", f"--config={config}", f"--workdir={folder}", *place, *flags],
                )
            found[name] = hashes_of(folder)
            print(f"{name}: {len(found[name])} hashes, {time.perf_counter() - started:.0f} s", flush=True)
    args.output.write_text(json.dumps(found, indent=2) + "\n")
    if args.compare:
        before = json.loads(args.compare.read_text())
        changed = [
            f"{name}/{what}: {before.get(name, {}).get(what)} before, {found[name].get(what)} now"
            for name in found
            for what in before.get(name, {}).keys() | found[name].keys()
            if before.get(name, {}).get(what) != found[name].get(what)
        ]
        print("\n".join(changed) or f"the same bits: {sum(map(len, found.values()))} hashes")
        sys.exit(bool(changed))


if __name__ == "__main__":
    main()
