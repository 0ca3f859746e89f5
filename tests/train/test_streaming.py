"""Streaming changes nothing: the same batches, states and predictions as with all images in memory, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import re
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from archives import arrays_of
from small_training import (
    EVERYTHING,
    SIZE,
    assert_equal_trees,
    engine_of,
    member,
    noise_dataset,
    run,
    small_config,
)
from test_cli import EXP04, WRITTEN, launch, train_args
from test_study import fails, study_args

from fpclass import cli
from fpclass.data import cache
from fpclass.experiment import from_json
from fpclass.models.build import build_model
from fpclass.train.device_engine import epoch_batches
from fpclass.train.inputs import streaming
from fpclass.train.inputs.streaming import is_streamed, put_dataset
from fpclass.train.stream_engine import make_stream_engine, make_stream_predict

STREAM = "--config.data.memory_gb=1e-9"
AUGMENTED = EVERYTHING | {
    "augment__brightness": 0.2,
    "augment__contrast": 0.2,
    "augment__max_rotation_deg": 10.0,
    "augment__mixup_alpha": 0.4,
    "train__ema_decay": 0.9,
}
STOPPED_EARLY = {"train__num_epochs": 6, "train__early_stopping": "patience", "train__patience": 1}
CONVOLUTIONS = {
    "model__name": "blocks",
    "model__conv_features": (4, 4),
    "model__batch_norm": True,
    "model__block_dropout_rate": 0.2,
    "augment__max_rotation_deg": 10.0,
    "train__num_epochs": 2,
}


@pytest.fixture(scope="module")
def dataset():
    return noise_dataset()


@pytest.fixture(scope="module")
def on_disk(dataset):
    """The same data with their images on disk."""

    def fill(stored):
        for row, image in enumerate(np.asarray(dataset.images)):
            stored[row] = image
        return []

    stored, _ = cache.store(None, "", [], dataset.images.shape, fill)
    return put_dataset(dataclasses.replace(dataset, images=stored), None)


TWO_BATCHES, ALL_AT_ONCE = 1, 2**24


@pytest.fixture(params=[TWO_BATCHES, ALL_AT_ONCE], ids=["two batches", "all at once"])
def window_bytes(request, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", request.param)


@functools.cache
def streamed_engine_of_json(text):
    config = from_json(json.loads(text), "test")
    return make_stream_engine(build_model(config.model, 2, SIZE), config)


def streamed_engine_of(config):
    """Engines by config, so that tests of one config compile once."""
    return streamed_engine_of_json(config.to_json())


def run_streamed(config, on_disk, who=None, state=None, until=None):
    """As `run`, with the engine for images on disk."""
    assert is_streamed(on_disk.images)
    return run(config, on_disk, who, state, until, streamed_engine_of(config))


@pytest.mark.parametrize(
    ("changes", "window_bytes"),
    [
        pytest.param({}, TWO_BATCHES, id="plain", marks=pytest.mark.slow),
        pytest.param(AUGMENTED, TWO_BATCHES, id="everything", marks=pytest.mark.promise),
        pytest.param(STOPPED_EARLY, ALL_AT_ONCE, id="stopped early"),
    ],
    indirect=["window_bytes"],
)
@pytest.mark.usefixtures("window_bytes")
def test_streamed_equals_resident_bit_for_bit(dataset, on_disk, changes):
    config = small_config(**changes)
    state, records = run(config, dataset)
    streamed, streamed_records = run_streamed(config, on_disk)
    assert_equal_trees(state, streamed)
    assert_equal_trees(records, streamed_records)


def test_batches_and_their_order_are_the_same(on_disk, monkeypatch):
    """What the windows are made of, in a row, is what `epoch_batches` says."""
    seen, original = [], streaming.read_windows

    def spy(images, parts, mesh):
        seen.append(parts)
        return original(images, parts, mesh)

    monkeypatch.setattr("fpclass.train.stream_engine.read_windows", spy)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    config = small_config(train__num_epochs=1)
    run_streamed(config, on_disk)
    expected = np.asarray(epoch_batches(member(), jnp.asarray(0), 8)).ravel()
    np.testing.assert_array_equal(seen[0].ravel()[: len(expected)], expected)
    np.testing.assert_array_equal(seen[0].ravel()[len(expected) :], expected[-8:], "filled up with the last batch")
    assert seen[0].shape == (2, 16), "three batches in windows of two"


def test_resumed_equals_uninterrupted_bit_for_bit(on_disk, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", TWO_BATCHES)
    config = small_config(**AUGMENTED)
    straight, records = run_streamed(config, on_disk)
    half, first = run_streamed(config, on_disk, until=2)
    resumed, second = run_streamed(config, on_disk, state=jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half))
    assert_equal_trees(straight, resumed)
    assert_equal_trees(records, first + second)


def test_a_run_may_go_on_either_way(dataset, on_disk):
    config = small_config(**AUGMENTED)
    straight, _ = run(config, dataset)
    half, _ = run_streamed(config, on_disk, until=2)
    resumed, _ = run(config, dataset, state=jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half))
    assert_equal_trees(straight, resumed)


@pytest.mark.parametrize("num_rows", [0, 1, 9, 40, 300])
def test_predictions_are_the_same(dataset, on_disk, window_bytes, num_rows, monkeypatch):
    monkeypatch.setattr("fpclass.models.parts.EVAL_BATCH", 16)
    config = small_config(predict__flip=True)
    engine, streamed = engine_of(config), streamed_engine_of(config)
    state = engine.init(member(), dataset)
    rows = np.random.default_rng(0).integers(0, 40, num_rows)
    expected = engine.predict(state.params, state.batch_stats, dataset.images, jnp.asarray(rows))
    found = streamed.predict(state.params, state.batch_stats, on_disk.images, rows)
    assert found.shape == (num_rows, 2)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_convolutions_are_the_same_streamed_resident_and_resumed(dataset, on_disk, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    monkeypatch.setattr("fpclass.models.parts.EVAL_BATCH", 4)
    config = small_config(**CONVOLUTIONS)
    streamed, records = run_streamed(config, on_disk)
    resident, _ = run(config, dataset)
    assert_equal_trees(resident, streamed)
    half, first = run_streamed(config, on_disk, until=1)
    resumed, second = run_streamed(config, on_disk, state=jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half))
    assert_equal_trees(resumed, streamed)
    assert_equal_trees(first + second, records)


def test_prediction_brings_weights_to_the_device_once(on_disk, monkeypatch):
    """And not with every window, as a compiled function does with NumPy arrays."""
    kinds = []

    def spy(params, batch_stats, images, rows):
        kinds.append(type(params["w"]))
        return jnp.zeros((len(rows), 2))

    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", lambda function: function)
        predict = make_stream_predict(spy, None)
    logits = predict({"w": np.ones(3)}, {}, on_disk.images, np.arange(1200) % 40)
    assert logits.shape == (1200, 2)
    assert len(kinds) == 3
    assert all(issubclass(kind, jax.Array) for kind in kinds)


def without_time(folder: pathlib.Path) -> str:
    return re.sub(r'"seconds": [\d.]+', "", (folder / "log.jsonl").read_text())


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    for name in WRITTEN:
        assert (other / name).is_file(), name
        if name.endswith((".csv", ".png", "metrics.json", "audit.json", "report.txt")):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert without_time(one) == without_time(other)
    maps = [arrays_of(folder / "grad_cam_worst.npz")["raw"] for folder in (one, other)]
    np.testing.assert_array_equal(*maps)


@pytest.fixture(scope="module")
def resident_run(tmp_path_factory, blobs):
    """The folder of a finished training with all images in memory; read only."""
    folder = tmp_path_factory.mktemp("runs") / "resident"
    assert cli.main(train_args(blobs, folder)) == 0
    return folder


@pytest.mark.slow
def test_a_whole_run_is_the_same(resident_run, blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    streamed = tmp_path / "streamed"
    assert cli.main(train_args(blobs, streamed, STREAM)) == 0
    assert "streamed from disk" in capsys.readouterr().out
    assert_same_run(resident_run, streamed)
    for command in ("evaluate", "explain", "submit"):
        assert cli.main([command, f"--workdir={streamed}"]) == 0
    assert_same_run(resident_run, streamed)
    inputs = sorted(str(path) for path in (blobs / "processed" / "processed").iterdir())[:5]
    tables = []
    for folder, more in ((resident_run, []), (streamed, []), (streamed, ["--config.data.memory_gb=1"])):
        output = tmp_path / "predicted.csv"
        assert cli.main(["predict", *inputs, f"--workdir={folder}", f"--output={output}", *more]) == 0
        tables.append(pd.read_csv(output))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


@pytest.mark.slow
def test_killed_and_started_again_is_the_same(resident_run, blobs, tmp_path):
    folder = tmp_path / "run"
    process = launch(*train_args(blobs, folder, STREAM))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "log.jsonl").is_file() and len((folder / "log.jsonl").read_text().splitlines()) >= 2:
            break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it must have been killed on the way"
    assert cli.main(train_args(blobs, folder, STREAM)) == 0
    assert_same_run(resident_run, folder)


@pytest.mark.slow
def test_a_study_is_the_same(blobs, tmp_path, capsys):
    tables = []
    for name, more in (("resident", ["--config.hardware.together=sequential"]), ("streamed", [STREAM])):
        folder = tmp_path / name
        assert cli.main(study_args(blobs, folder, *more, configs=(EXP04.partition("=")[2],), folds=2, seeds=1)) == 0
        tables.append([(folder / table).read_bytes() for table in ("out_of_fold.csv", "test_predictions.csv")])
    assert "members train one after the other" in capsys.readouterr().out
    assert tables[0] == tables[1]


def test_a_nonsensical_budget_is_refused(blobs, tmp_path, capsys):
    args = ["train", EXP04, f"--config.data.root={blobs}", f"--workdir={tmp_path / 'run'}"]
    fails(capsys, [*args, "--config.data.memory_gb=-1"], "data.memory_gb", "at least 0")
