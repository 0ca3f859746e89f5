"""Members and batches over several devices, and a study over two real processes: the same as on one device."""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import pandas as pd
import pytest
from jax.sharding import AxisType, Mesh
from small_training import SIZE, member, small_config

from fpclass import cli
from fpclass.common import parallel, threads
from fpclass.common.compilation import keep_programs
from fpclass.common.files import cache_dir
from fpclass.errors import ConfigError
from fpclass.models.build import build_model
from fpclass.train import placement
from fpclass.train.device_engine import make_engine
from fpclass.train.members import divide_over_devices, stack_members
from fpclass.train.placement import batched_form
from fpclass.train.state import PADDING, Dataset

TESTS = pathlib.Path(__file__).parents[1]
STUDY = [
    "study",
    "--configs=configs/footprints/exp04_early_stopping_dropout.py",
    "--folds=3",
    "--config.model.conv_features=(4,)",
    "--config.model.dense_features=(8,6)",
    "--config.data.image_size=(60,40)",
    "--config.train.batch_size=8",
    "--config.train.num_epochs=2",
    "--config.train.eval_every_epochs=1",
    "--config.evaluate.num_resamples=50",
]
MEMBERS = [f"members/exp04_early_stopping_dropout/fold-{fold}-seed-0" for fold in range(3)]
SECONDS = 240
"""After which a process counts as stuck."""


def start(*args: str, **environment: str) -> subprocess.Popen:
    """Python in a process of its own, in the folder of the tests."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), str(TESTS / "support")])
    return subprocess.Popen(
        [sys.executable, *args], cwd=TESTS, env={**os.environ, "PYTHONPATH": path, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(*processes: subprocess.Popen) -> list[str]:
    """What they print; kills all of them if one fails or gets stuck."""
    try:
        printed = [process.communicate(timeout=SECONDS) for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), printed
    finally:
        for process in processes:
            process.kill()
    return [out for out, _ in printed]


def call(function: str, *args: str, **environment: str) -> str:
    """Runs a function of this file in a process of its own; what it prints."""
    return finish(
        start(
            "-c",
            f"import sys; from common import test_parallel; test_parallel.{function}(*sys.argv[1:])",
            *args,
            **environment,
        )
    )[0]


def eight_devices(file: str) -> None:
    """Trains five members on eight devices and on one, one member on four and on one, and saves all weights."""
    assert jax.device_count() == 8
    keep_programs(cache_dir() / "compiled")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, *SIZE, 1), dtype=np.uint8)
    data = Dataset(images, rng.integers(0, 2, 40, dtype=np.int32))
    people = [member(seed, rows=range(seed, 21)) for seed in range(5)]  # of 3 steps per epoch
    people[4] = member(4, rows=range(12))  # of 2
    config = small_config(model__dropout_rate=0.3, augment__flip_probability=0.5, hardware__together="sequential")
    one = Mesh(np.array(jax.devices()[:1]), (parallel.MEMBER,), axis_types=(AxisType.Auto,))
    saved = {}
    for name, mesh in (("eight", parallel.member_mesh()), ("one", one)):
        alone = make_engine(build_model(batched_form(config, mesh), 2, SIZE), config)
        engine = divide_over_devices(alone, mesh, is_batched=False)
        who, dataset = stack_members(people, mesh), parallel.put(data, mesh)
        state = engine.init(who, dataset)
        fresh = parallel.fetch(state.params)
        for _ in range(2):
            state, _ = engine.train_epoch(state, who, dataset)
        saved |= named(f"{name}/fresh", fresh) | named(f"{name}/params", parallel.fetch(state.params))
        saved |= {f"{name}/step": state.step, f"{name}/rows": who.train_rows}
        saved |= {f"{name}/devices": len(state.step.sharding.device_set)}
    config = small_config(optim__name="sgd", model__batch_norm=True, augment__flip_probability=0.5)
    config.model.conv_form, config.model.conv_features = "direct", (16,)  # so that most of the work is the network's
    ways = {"whole": (1, 1), "divided": (4, 1), "whole in parts": (1, 2), "divided in parts": (4, 2)}
    for name, (num_devices, accumulate) in ways.items():
        config.train.accumulate = accumulate
        mesh = parallel.batch_mesh(num_devices)
        who, dataset = parallel.put((people[0], data), mesh)
        engine = make_engine(build_model(config.model, 2, SIZE), config, mesh)
        state = engine.init(who, dataset)
        for _ in range(2):
            state, _ = engine.train_epoch(state, who, dataset)
        saved |= named(f"{name}/params", parallel.fetch((state.params, state.batch_stats)))
        program = engine.train_parts[0].lower(state, who, dataset, engine.hyper, 0, 3).compile()
        saved[f"{name}/sums"] = len(re.findall(r"all-reduce", program.as_text()))
        saved[f"{name}/gathered"] = len(re.findall(r"all-gather", program.as_text()))
        predicted = engine.predict.lower(state.params, state.batch_stats, dataset.images, np.arange(40)).compile()
        saved |= {f"{name}/flops": program.cost_analysis()["flops"]}
        saved |= {f"{name}/flops of prediction": predicted.cost_analysis()["flops"]}
        logits = parallel.fetch(engine.predict(state.params, state.batch_stats, dataset.images, np.arange(40)))
        saved[f"{name}/logits"] = logits
    np.savez(file, **saved)


def named(name: str, tree: object) -> dict[str, np.ndarray]:
    return {f"{name}/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
    """What `eight_devices` saved."""
    file = tmp_path_factory.mktemp("eight") / "saved.npz"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    call("eight_devices", str(file), XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    with np.load(file) as saved:
        return dict(saved)


def of(saved: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    found = [saved[key] for key in sorted(saved) if key.startswith(f"{name}/")]
    assert found
    return found


@pytest.mark.promise
def test_members_on_eight_devices_equal_one_device_bit_for_bit(on_eight):
    assert on_eight["eight/devices"] == 8
    assert on_eight["one/devices"] == 1
    for many, one in zip(of(on_eight, "eight/params"), of(on_eight, "one/params"), strict=True):
        assert many.shape[0] == 8
        assert one.shape[0] == 5
        np.testing.assert_array_equal(many[:5], one)


@pytest.mark.promise
def test_members_that_fill_up_devices_do_not_train(on_eight):
    assert on_eight["eight/step"].tolist() == [6, 6, 6, 6, 4, 0, 0, 0]
    assert (on_eight["eight/rows"][5:] == PADDING).all()
    for fresh, params in zip(of(on_eight, "eight/fresh"), of(on_eight, "eight/params"), strict=True):
        np.testing.assert_array_equal(params[5:], fresh[5:])
        assert (params[:5] != fresh[:5]).any()


@pytest.mark.promise
@pytest.mark.parametrize("parts", ["", " in parts"], ids=["at once", "in parts"])
def test_a_batch_over_four_devices_equals_one_device(on_eight, parts):
    """Over two epochs of SGD with batch norm, whose statistics are those of the whole batch, not of each device's."""
    divided, whole = f"divided{parts}", f"whole{parts}"
    assert on_eight[f"{divided}/sums"] > on_eight[f"{whole}/sums"] == 0, "gradients are summed over devices"
    for a, b in zip(of(on_eight, f"{divided}/params"), of(on_eight, f"{whole}/params"), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(np.abs(b).max(), 1))
    assert parts or on_eight[f"{divided}/gathered"] == 0, "no device asks for the images of another"
    np.testing.assert_allclose(on_eight[f"{divided}/logits"], on_eight[f"{whole}/logits"], atol=1e-4)
    for work in ("flops", "flops of prediction"):
        assert on_eight[f"{divided}/{work}"] < 0.5 * on_eight[f"{whole}/{work}"], "each device has its share"


def test_a_thread_for_each_core_calls_a_program_and_no_bit_depends_on_it(monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: 3)
    together = threading.Barrier(3, timeout=30)  # which nobody passes alone

    @jax.jit
    def program(x):
        return jax.numpy.sin(x @ x.T).sum(axis=1)

    def call(i):
        together.wait()
        return program(inputs[i])

    inputs = np.random.default_rng(0).normal(size=(6, 50, 50)).astype(np.float32)
    found = list(parallel.launch_each(call, 6))
    assert [of.tolist() for of in found] == [np.asarray(program(x)).tolist() for x in inputs]


def test_an_accelerator_has_its_next_calls_before_it(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    begun = []
    found = parallel.launch_each(begun.append, 6)
    next(found)
    assert len(begun) == 1 + parallel.NUM_AHEAD
    assert len(list(found)) == 5
    assert begun == list(range(6))


def test_what_goes_wrong_in_a_thread_comes_out(monkeypatch):
    def call(i):
        raise ConfigError(f"call {i}")

    with pytest.raises(ConfigError, match="call 0"):
        list(parallel.launch_each(call, 2))


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr(placement, "batch_mesh", lambda _: types.SimpleNamespace(size=4))
    config = small_config(train__batch_size=24, train__accumulate=4, train__num_devices=4)
    with pytest.raises(ConfigError, match=r"train\.batch_size is 24: .*4 parts for 4 devices.*a multiple of 16"):
        placement.place_run(config, None, None)


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match=r"train\.num_devices is 99, but there are \d+ \(cpu\); 0 takes all"):
        parallel.batch_mesh(99)
    assert parallel.batch_mesh(1) is None, "one device needs no mesh"


def study_process(folder: pathlib.Path, data: pathlib.Path, *more: str) -> subprocess.Popen:
    """The real command line."""
    return start(str(TESTS.parent / "launch.py"), *STUDY, f"--config.data.root={data}", f"--workdir={folder}", *more)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.promise
def test_two_processes_give_what_one_gives(blobs, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert cli.main([*STUDY, f"--config.data.root={blobs}", f"--workdir={one}"]) == 0
    address = f"--coordinator=127.0.0.1:{free_port()}"
    both = [
        study_process(two, blobs, "--distributed", address, "--num-processes=2", f"--process-id={i}") for i in range(2)
    ]
    first, second = finish(*both)
    assert "exp04_early_stopping_dropout" in first
    # Gloo greets in several writes, which may become several lines, empty ones among them.
    said = [line for line in second.splitlines() if line and "[Gloo]" not in line and "peer ranks" not in line]
    assert said == [], "the first process speaks for all"
    for name in MEMBERS:
        for file in ("predictions.csv", "test_predictions.csv"):
            pd.testing.assert_frame_equal(pd.read_csv(two / name / file), pd.read_csv(one / name / file), atol=1e-6)
        epochs = [[json.loads(line) for line in (f / name / "log.jsonl").read_text().splitlines()] for f in (one, two)]
        assert [e["epoch"] for e in epochs[1]] == [1, 2], "written once"
        assert [e["train_loss"] for e in epochs[1]] == pytest.approx([e["train_loss"] for e in epochs[0]], abs=1e-6)
    pd.testing.assert_frame_equal(pd.read_csv(two / "study.csv"), pd.read_csv(one / "study.csv"), rtol=1e-6)


@pytest.mark.slow
def test_one_training_over_two_processes(blobs, tmp_path):
    """Its batches are divided over the devices of both; the first process alone leaves a run folder."""
    config = STUDY[1].replace("--configs", "--config")
    args = ["train", config, *STUDY[3:], f"--config.data.root={blobs}", "--config.train.num_devices=0"]
    program, address = str(TESTS.parent / "launch.py"), f"--coordinator=127.0.0.1:{free_port()}"
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(program, *args, f"--workdir={one}"))
    jobs = ["--distributed", address, "--num-processes=2", f"--workdir={two}"]
    finish(*[start(program, *args, *jobs, f"--process-id={i}") for i in range(2)])
    logs = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (one, two)]
    assert [line["epoch"] for line in logs[1]] == [1, 2], "written once"
    assert [line["train_loss"] for line in logs[1]] == pytest.approx([line["train_loss"] for line in logs[0]], abs=1e-5)
    said = [pd.read_csv(folder / "predictions.csv") for folder in (one, two)]
    pd.testing.assert_frame_equal(*said, atol=1e-4)


def wrong_addresses() -> None:
    """Tries to join processes in ways that cannot work. (Where nobody answers, JAX itself ends the process.)"""
    for address in ((None, None, None), ("localhost", 2, 0), ("127.0.0.1:1", 2, 5)):
        try:
            parallel.start_processes(*address)
        except ConfigError as error:
            print(error)


def test_processes_that_do_not_find_each_other_are_told_in_one_line():
    lines = call("wrong_addresses").splitlines()
    assert len(lines) == 3, lines
    assert all("--distributed" in line and "--coordinator=HOST:PORT" in line for line in lines)
    assert "coordinator_address should be defined" in lines[0]
    assert "process_id=5" in lines[2]


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_record_is_fetched_whole_wherever_it_is(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    record = {"loss": jax.numpy.arange(3.0), "epoch": jax.numpy.int32(2)}
    found = parallel.fetch_record(record)
    assert all(isinstance(value, np.ndarray) for value in found.values())
    assert (found["loss"].tolist(), int(found["epoch"]), found["epoch"].dtype) == ([0.0, 1.0, 2.0], 2, np.int32)
    assert parallel.fetch_record(None) is None
