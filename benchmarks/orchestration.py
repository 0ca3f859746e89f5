"""What surrounds the compiled programs of a study: a network so small that little else is left, against a bare loop.

Goal: logs, checkpoints, finished members and progress of 6 configs x 5 folds take at most 0.2 of the time of the same
programs called in a loop that keeps nothing; configs that differ in numbers alone share their programs.

Run: python benchmarks/orchestration.py
     python benchmarks/orchestration.py --start --configs 24 --folds 2 --epochs 2

The study's training (`study.run.train_study`, data prepared before) and the bare loop (the same engines, members and
rounds; states and records stay on the devices) run in turn in one process. The first round compiles and does not count.
Of the others the ratios of the fastest count; on a shared machine those of CPU time.

`--start` starts `launch.py study` twice with one cache, and takes the time until a member has logged its first epoch,
and until one of every config has: what programs cost that are compiled, and that are read from the cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from fpclass.common.console import Interruption
from fpclass.common.parallel import put, use_all_cores
from fpclass.study.plan import plan_study
from fpclass.study.run import StudyData, train_study
from fpclass.study.study import Study
from fpclass.study.training import missing_trainees
from fpclass.train.placement import place_members, rounds_of

LIMIT = 1.2
COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's event for a program that is compiled, or read from its cache."""
CONFIG = """
from configs.footprints import baseline

def get_config():
    config = baseline.get_config()
    config.name, config.optim.learning_rate = "{name}", {rate}
    config.data.source, config.data.image_size = "synthetic", (24, 20)
    config.data.synthetic.num_images, config.data.synthetic.image_size = {images}, (60, 40)
    config.model.conv_features, config.model.dense_features = (4,), (6,)
    config.train.num_epochs = {epochs}
    return config
"""
"""The baseline on SYNTHETIC prints, with four channels and a hidden layer of six."""


def write_configs(folder: Path, args: argparse.Namespace) -> list[str]:
    """Config files that differ in the learning rate, and in nothing else."""
    paths = [folder / f"rate{i:02}.py" for i in range(args.configs)]
    for i, path in enumerate(paths):
        rate = 1e-3 * (1 + i / 10)
        path.write_text(CONFIG.format(name=path.stem, rate=rate, images=args.images, epochs=args.epochs))
    return list(map(str, paths))


def bare_loop(study: Study, data: StudyData) -> None:
    """The programs of a study, one after the other; what they give stays on the devices."""
    for name, config in study.configs.items():
        prepared = data.of(name)
        members = [trainee.member for trainee in missing_trainees(study.members(name), prepared)]
        placement = place_members(config, prepared.table, prepared.images, len(members))
        engine, dataset, every = placement.engine, placement.dataset, config.train.eval_every_epochs
        every_row = put(np.arange(len(prepared.table), dtype=np.int32), engine.mesh)
        for positions in rounds_of(placement, members, config):
            stacked = engine.put_members([members[i] for i in positions])
            state = engine.init(stacked, dataset)
            for epoch in range(1, config.train.num_epochs + 1):
                state, _ = engine.train_epoch(state, stacked, dataset)
                if epoch == 1 or epoch % every == 0 or epoch == config.train.num_epochs:
                    state, _ = engine.evaluate_epoch(state, stacked, dataset)
            best = state.best
            jax.block_until_ready(engine.predict(best.params, best.batch_stats, dataset.images, every_row))


def whole_study(study: Study, data: StudyData) -> None:
    """The training of a study as `launch.py study` does it."""
    failures = train_study(study, data, Interruption())
    assert failures == {}, failures


def timed(way: Callable[[Study, StudyData], None], study: Study) -> tuple[float, float]:
    """Wall and CPU seconds of a way to train a study, its data prepared before."""
    with study.claimed():
        data = StudyData(study)
        data.of(study.baseline)
        wall, cpu = time.perf_counter(), time.process_time()
        way(study, data)
        return time.perf_counter() - wall, time.process_time() - cpu


def compare(folder: Path, paths: list[str], args: argparse.Namespace) -> None:
    """Prints both ways beside each other."""
    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event == COMPILED else None
    )
    times: dict[Callable, list[tuple[float, float]]] = {bare_loop: [], whole_study: []}
    numbers = {"num_folds": args.folds, "num_seeds": 1, "baseline": "rate00", "compare_splits": False}
    for i in range(args.rounds + 1):
        for way, of_way in times.items():
            study = plan_study(folder / f"{way.__name__}{i}", paths, [], **numbers)
            before = len(compiled)
            of_way.append(timed(way, study))
            print(f"round {i}, {way.__name__}: {of_way[-1][0]:.2f} s, CPU {of_way[-1][1]:.2f} s, "
                  f"{len(compiled) - before} programs", flush=True)  # fmt: skip
    for k, kind in enumerate(("wall", "CPU")):
        bare, whole = (min(seconds[k] for seconds in times[way][1:]) for way in (bare_loop, whole_study))
        print(f"{kind}: study {whole:.2f} s, bare loop {bare:.2f} s, ratio {whole / bare:.2f} (limit {LIMIT})")


def start(folder: Path, paths: list[str], args: argparse.Namespace) -> None:
    """Prints how long a study takes to its first training steps, with an empty cache and with a full one."""
    environment = os.environ | {"FPCLASS_CACHE": str(folder / "cache")}
    launch = Path(__file__).parent.parent / "launch.py"
    for cache in ("empty", "full"):
        study = folder / cache
        command = [sys.executable, str(launch), "study", "--configs", *paths, f"--folds={args.folds}",
                   "--baseline=rate00", f"--workdir={study}"]  # fmt: skip
        began, seen = time.perf_counter(), {}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            while len(seen) < len(paths) and process.poll() is None:
                for log in study.glob("members/*/*/log.jsonl"):
                    if log.stat().st_size:
                        seen.setdefault(log.parent.parent.name, time.perf_counter() - began)
                time.sleep(0.05)
            process.terminate()
        print(f"{cache} cache: first epoch after {min(seen.values()):.1f} s, of every config after "
              f"{max(seen.values()):.1f} s ({len(seen)} configs)", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=6)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--images", type=int, default=640, help="of which 0.6 have a label")
    parser.add_argument("--rounds", type=int, default=2, help="timed, after the first")
    parser.add_argument("--start", action="store_true", help="time to the first training steps instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_configs(folder, args)
        if args.start:
            start(folder, paths, args)
        else:
            use_all_cores()
            compare(folder, paths, args)


if __name__ == "__main__":
    main()
