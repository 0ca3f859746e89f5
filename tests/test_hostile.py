"""The campaign of hostile inputs and kills: no traceback, no hang, no silent wrong answer. Counts: docs/reliability.md.

`pytest -m slow -n 0 -s tests/test_hostile.py` prints the rows of the table there; FPCLASS_HOSTILE=10 has ten times the
inputs, FPCLASS_HOSTILE_SEED others.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import draw_blobs
from hostile_areas import SMALL, train_args
from test_cli import launch

from fpclass import cli

ROOT = pathlib.Path(__file__).parents[1]
SCALE = float(os.environ.get("FPCLASS_HOSTILE", "1"))
SEED = os.environ.get("FPCLASS_HOSTILE_SEED", "0")
COUNTS = {
    "values of config keys": 320,
    "values of flags": 240,
    "tables of labels": 60,
    "image files": 400,
    "checkpoint files": 100,
    "JSON and CSV of a run": 90,
    "weights files": 200,
    "YAML of collect": 150,
    "odd paths": 242,
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a data set and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("world")
    draw_blobs(folder / "data")
    assert cli.main(train_args(folder, folder / "run")) == 0
    return folder


@pytest.mark.parametrize("area", COUNTS)
def test_hostile_inputs_end_in_one_line_or_are_used_as_they_should(area: str, world: pathlib.Path) -> None:
    own = world.parent / area.replace(" ", "-")
    shutil.copytree(world, own, dirs_exist_ok=True)
    command = [
        sys.executable,
        str(ROOT / "tests/support/hostile.py"),
        area,
        str(own),
        str(int(COUNTS[area] * SCALE)),
        SEED,
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=own, timeout=3500)
    assert run.returncode == 0, run.stderr[-3000:]
    counts = json.loads(run.stdout.splitlines()[-1])
    numbers = [counts[name] for name in ("inputs", "one_line", "accepted", "tracebacks", "hangs", "wrong")]
    print(f"| {area} | {' | '.join(map(str, numbers))} |")
    assert not counts["examples"], "\n\n".join(counts["examples"][:10])


def study_args(world: pathlib.Path, folder: pathlib.Path) -> list[str]:
    baseline = "configs/footprints/baseline.py"
    return ["study", "--configs", baseline, "--folds=2", f"--workdir={folder}", f"--config.data.root={world / 'data'}",
            *SMALL, "--config.train.num_epochs=3", "--config.train.checkpoint_seconds=0"]  # fmt: skip


@pytest.mark.parametrize(("command", "count"), [("train", 8), ("study", 6)])
def test_kills_at_any_moment_cost_time_and_nothing_else(command: str, count: int, world: pathlib.Path) -> None:
    """Killed three times at moments drawn at random, then run to its end: the results of an undisturbed one."""
    rng, folders = random.Random(f"{command} {SEED}"), []

    def arguments(folder: pathlib.Path) -> list[str]:
        more = ["--config.train.num_epochs=3", "--config.train.checkpoint_seconds=0"]
        return train_args(world, folder, *more) if command == "train" else study_args(world, folder)

    seconds = 0.0
    for straight in (world / f"{command}-first", world / f"{command}-straight"):
        started = time.monotonic()
        with launch(*arguments(straight)) as process:
            said = process.communicate(timeout=600)
        seconds = time.monotonic() - started  # of the second, which finds its programs compiled as those below do
        assert process.returncode == 0, said
    num_kills = 0
    for i in range(int(count * SCALE)):
        folder = world / f"{command}-{i}"
        for _ in range(3):
            with launch(*arguments(folder)) as process:
                time.sleep(rng.uniform(0.2, 0.9) * seconds)
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=60)
            num_kills += process.returncode == -signal.SIGKILL
        with launch(*arguments(folder)) as process:
            said = process.communicate(timeout=600)
        assert process.returncode == 0, said
        assert "Traceback" not in said[1], said
        folders.append(folder)
    names = ("predictions.csv", "metrics.json", "submission.csv") if command == "train" else ("out_of_fold.csv",)
    for folder in folders:
        for name in names:
            assert (folder / name).read_bytes() == (straight / name).read_bytes(), f"{folder}: {name}"
        assert not [path for path in folder.rglob("*") if ".tmp" in path.name], "left over"
    print(f"| kills of {command} | {num_kills} | - | {num_kills} | 0 | 0 | 0 |")
