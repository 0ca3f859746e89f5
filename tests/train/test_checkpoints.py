"""Checkpoints: what comes back is what went in, or one line says why not."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_disk import fill, tiny_disk

from configs import base
from fpclass.errors import RunError
from fpclass.models.architectures.cnn import CNN
from fpclass.train import checkpoints
from fpclass.train.device_engine import make_engine
from fpclass.train.state import Dataset, Member, TrainState

ROOT = pathlib.Path(checkpoints.__file__).parents[2]


def tree(value: float, width: int = 4) -> dict[str, Any]:
    """A small tree with what trees of a training have: nesting, scalars of several types, an empty branch."""
    return {
        "params": {"dense": {"kernel": jnp.full((3, width), value), "bias": jnp.arange(float(width))}},
        "batch_stats": {},
        "epoch": jnp.asarray(int(value), jnp.int32),
        "is_stopped": jnp.asarray(True),
        "score": jnp.asarray(-jnp.inf),
    }


def assert_bit_equal(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def one_line(caught: pytest.ExceptionInfo[RunError], folder: pathlib.Path) -> str:
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    return message


def train_state(**optim: object) -> TrainState:
    """The state of a training, filled with numbers of no pattern."""
    config = base.get_config()
    config.optim.update(optim)
    model = CNN(2, (16, 16), conv_features=(2,), dense_features=(3,), batch_norm=True)
    rows = jnp.arange(4)
    member = Member(jnp.asarray(0, jnp.uint32), rows, rows, rows, jnp.ones(2))
    dataset = Dataset(jnp.zeros((4, 16, 16, 1), jnp.uint8), rows % 2)
    state = jax.eval_shape(make_engine(model, config).init, member, dataset)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 100, leaf.dtype), state)


@pytest.mark.parametrize(
    "optim",
    [
        {"name": "adam", "gradient_clip_norm": 1.0, "schedule": "plateau"},
        {"name": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 1.0},
        {"name": "sgd"},
        {"name": "rmsprop"},
    ],
    ids=lambda optim: optim["name"],
)
def test_a_training_state_comes_back_bit_for_bit(tmp_path: pathlib.Path, optim: dict[str, object]) -> None:
    """With every kind of optimiser state, also those with empty parts in them."""
    state = train_state(**optim)
    checkpoints.save(tmp_path / "last", 1, state)
    assert checkpoints.latest_step(tmp_path / "last") == 1
    assert_bit_equal(checkpoints.restore(tmp_path / "last", state), state)
    shapes = jax.eval_shape(lambda: state)
    restored = checkpoints.restore(tmp_path / "last", shapes)
    assert isinstance(restored, TrainState)
    assert_bit_equal(restored, state)


def test_the_newest_one_is_restored_and_the_only_one_kept(tmp_path: pathlib.Path) -> None:
    for epoch in (1, 2, 10):
        checkpoints.save(tmp_path, epoch, tree(epoch))
        assert checkpoints.latest_step(tmp_path) == epoch
        assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(epoch))
    assert os.listdir(tmp_path) == ["10"]


def test_an_earlier_epoch_replaces_a_later_one(tmp_path: pathlib.Path) -> None:
    """`best` may stand at an epoch that a killed training reached after its `last`, where the resumed one starts."""
    checkpoints.save(tmp_path, 10, tree(10))
    checkpoints.save(tmp_path, 7, tree(7))
    assert checkpoints.latest_step(tmp_path) == 7
    assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(7))


def test_a_kill_before_the_earlier_one_is_removed(tmp_path: pathlib.Path) -> None:
    """Both stand there then, and the resumed training saves the earlier one once more."""
    checkpoints.save(tmp_path, 1, tree(1))
    shutil.copytree(tmp_path / "1", tmp_path.parent / "kept")
    checkpoints.save(tmp_path, 2, tree(2))
    shutil.move(tmp_path.parent / "kept", tmp_path / "1")
    for epoch in (1, 2):
        checkpoints.save(tmp_path, epoch, tree(epoch))
        assert os.listdir(tmp_path) == [str(epoch)]
        assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(epoch))


def test_the_same_epoch_again_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    checkpoints.save(tmp_path, 3, tree(3))
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    checkpoints.save(tmp_path, 3, tree(3))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == written


def test_a_relative_folder_will_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints.save(pathlib.Path("runs/last"), 1, tree(1))
    assert_bit_equal(checkpoints.restore(pathlib.Path("runs/last"), tree(0)), tree(1))


def test_no_checkpoint_is_one_line_and_makes_no_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run" / "best"
    assert checkpoints.latest_step(folder) is None
    with pytest.raises(RunError) as caught:
        checkpoints.restore(folder, tree(0))
    assert "no checkpoint; run `fpclass train`" in one_line(caught, folder)
    assert not folder.exists()
    folder.mkdir(parents=True)
    with pytest.raises(RunError, match="no checkpoint"):
        checkpoints.restore(folder, tree(0))


def test_a_checkpoint_of_another_model_names_an_array_and_both_shapes(tmp_path: pathlib.Path) -> None:
    checkpoints.save(tmp_path, 1, tree(1, width=4))
    with pytest.raises(RunError) as caught:
        checkpoints.restore(tmp_path, tree(1, width=5))
    message = one_line(caught, tmp_path)
    assert "checkpoint of another model: 2 arrays differ" in message
    assert "params/dense/bias is (4,) float32 there and (5,) float32 in the config" in message
    assert "use the config, and the version of fpclass, that it was trained with" in message


def test_a_checkpoint_with_other_layers_names_the_one_that_is_missing(tmp_path: pathlib.Path) -> None:
    checkpoints.save(tmp_path, 1, tree(1))
    with pytest.raises(RunError, match=r"batch_stats/mean is absent there and \(2,\) float32 in the config"):
        checkpoints.restore(tmp_path, tree(1) | {"batch_stats": {"mean": jnp.zeros(2)}})
    fewer = {key: value for key, value in tree(1).items() if key != "epoch"}
    with pytest.raises(RunError, match=r"epoch is \(\) int32 there and absent in the config"):
        checkpoints.restore(tmp_path, fewer)


def leave_interrupted_save(folder: pathlib.Path, epoch: int) -> pathlib.Path:
    """What a kill leaves of a save: Orbax's temporary folder, with half of the files in it."""
    left = folder / f"{epoch}.orbax-checkpoint-tmp"
    (left / "default.orbax-checkpoint-tmp").mkdir(parents=True)
    (left / "default.orbax-checkpoint-tmp" / "_METADATA").write_text('{"tree_meta')
    return left


def test_after_an_interrupted_save_the_one_before_is_restored(tmp_path: pathlib.Path) -> None:
    checkpoints.save(tmp_path, 5, tree(5))
    left = leave_interrupted_save(tmp_path, 8)
    assert checkpoints.latest_step(tmp_path) == 5
    assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(5))
    assert left.exists(), "who only reads must not tidy up: the file may be being written"
    checkpoints.save(tmp_path, 10, tree(10))
    assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(10))
    assert os.listdir(tmp_path) == ["10"], "the next save tidies up"


def test_an_interrupted_first_save_is_no_checkpoint(tmp_path: pathlib.Path) -> None:
    leave_interrupted_save(tmp_path, 5)
    assert checkpoints.latest_step(tmp_path) is None


RESTORER = """
import pathlib, sys
import jax.numpy as jnp
from fpclass.train import checkpoints
from fpclass.errors import RunError
like = {"a": jnp.zeros((64, 64)), "b": jnp.zeros(3)}
checkpoints.save(pathlib.Path("last"), 5, like)
for name in ("_METADATA", "_sharding", "manifest.ocdbt", "array_metadatas/process_0"):
    file = pathlib.Path("last/5/default") / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    try:
        checkpoints.restore(pathlib.Path("last"), like)
    except RunError as error:
        print(error)
    file.write_bytes(whole)
checkpoints.restore(pathlib.Path("last"), like)
print("whole again")
"""


def python(code: str, *arguments: str, folder: pathlib.Path) -> list[str]:
    """What a program prints; in a process of its own, because Orbax leaves threads behind when a file is broken."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def test_a_damaged_checkpoint_is_one_line(tmp_path: pathlib.Path) -> None:
    *errors, last = python(RESTORER, folder=tmp_path)
    assert len(errors) == 4
    for error in errors:
        assert re.fullmatch(
            rf"{tmp_path}/last/5/default: cannot be restored \(.+\); copy it back .+, or delete last and .+", error
        )
    assert last == "whole again"


FLIPPER = """
import pathlib, random, sys
import jax
import jax.numpy as jnp
import numpy as np
from fpclass.train import checkpoints
from fpclass.errors import RunError
rng, numbers = random.Random(0), np.random.default_rng(0)
state = {"kernel": jnp.asarray(numbers.normal(size=(70, 60)), jnp.float32), "half": jnp.ones(3, jnp.bfloat16),
         "epoch": jnp.asarray(7)}
folder = pathlib.Path("last")
checkpoints.save(folder, 7, state)
files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "commit_success.txt")
sizes = [path.stat().st_size for path in files]
said = same = wrong = long = 0
for i in range(int(sys.argv[1])):
    (file,) = rng.choices(files, sizes if i % 2 else None)
    whole = file.read_bytes()
    at = rng.randrange(len(whole))
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
    try:
        restored = checkpoints.restore(folder, state)
        is_same = all(np.asarray(restored[name]).tobytes() == np.asarray(state[name]).tobytes() for name in state)
        same, wrong = same + is_same, wrong + (not is_same)
    except RunError as error:
        said += 1
        long += len(str(error).splitlines()) != 1 or str(folder) not in str(error)
    file.write_bytes(whole)
checkpoints.restore(folder, state)
print(said, same, wrong, long)
"""


def test_a_flipped_bit_is_never_restored(tmp_path: pathlib.Path) -> None:
    """In any file of a checkpoint: arrays, their index, names, shapes, the digest."""
    said, same, wrong, not_one_line = map(int, python(FLIPPER, "30", folder=tmp_path)[0].split())
    assert wrong == not_one_line == 0
    assert said > 10, "most of the bytes matter"
    assert same + said == 30


def test_a_checkpoint_without_a_digest_still_opens(tmp_path: pathlib.Path) -> None:
    """As versions before it wrote them; and one whose digest is of other arrays does not."""
    checkpoints.save(tmp_path, 3, tree(3))
    metadata = tmp_path / "3" / checkpoints.METADATA
    known = json.loads(metadata.read_text())
    assert known["custom_metadata"] == {checkpoints.DIGEST: checkpoints.digest(tree(3))}
    metadata.write_text(json.dumps(known | {"custom_metadata": {checkpoints.DIGEST: checkpoints.digest(tree(4))}}))
    with pytest.raises(RunError) as caught:
        checkpoints.restore(tmp_path, tree(0))
    assert "its arrays are not those that were saved" in one_line(caught, tmp_path)
    for without in (known | {"custom_metadata": {}}, {k: v for k, v in known.items() if k != "custom_metadata"}):
        metadata.write_text(json.dumps(without))
        assert_bit_equal(checkpoints.restore(tmp_path, tree(0)), tree(3))


def test_metadata_of_another_shape_are_one_line(tmp_path: pathlib.Path) -> None:
    checkpoints.save(tmp_path, 3, tree(3))
    for text in ("{", "", "[1]", '{"custom_metadata": 3}', "\x00" * 200):
        (tmp_path / "3" / checkpoints.METADATA).write_text(text)
        with pytest.raises(RunError) as caught:
            checkpoints.restore(tmp_path, tree(0))
        assert "cannot be restored" in one_line(caught, tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros(3, np.float32), "c": np.ones(2, np.int32)},
        {"a": np.zeros(3, np.float32), "b": np.ones(2, np.uint32)},
        {"a": np.zeros((1, 3), np.float32), "b": np.ones(2, np.int32)},
        {"a": np.array([0, 0, -0.0], np.float32), "b": np.ones(2, np.int32)},
        {"a": np.zeros(3, np.float32)},
    ],
    ids=["name", "type", "shape", "bit", "number"],
)
def test_the_digest_is_of_names_types_shapes_and_bytes(other: dict[str, np.ndarray]) -> None:
    arrays = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.int32)}
    assert checkpoints.digest(other) != checkpoints.digest(arrays)
    turned = {"b": jnp.ones(2, jnp.int32), "a": jnp.zeros(3)}
    assert checkpoints.digest(turned) == checkpoints.digest(arrays), "of the arrays, wherever they are"


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "last"
    with pytest.raises(RunError) as caught:
        checkpoints.save(folder, 1, tree(1))
    assert "cannot save a checkpoint" in one_line(caught, folder)


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path: pathlib.Path) -> None:
    with tiny_disk(tmp_path / "disk", size_kib=4096) as disk:
        folder = disk / "last"
        checkpoints.save(folder, 5, tree(5))
        filler = fill(disk, leave_kib=16)
        with pytest.raises(RunError) as caught:
            checkpoints.save(folder, 10, tree(10))
        message = one_line(caught, folder)
        assert "cannot save a checkpoint (No space left on device: 0.0 MiB free, 1.0 MiB needed)" in message
        assert "free space or choose another --workdir" in message
        assert_bit_equal(checkpoints.restore(folder, tree(0)), tree(5))
        # With room again, the same folder goes on.
        filler.unlink()
        checkpoints.save(folder, 10, tree(10))
        assert_bit_equal(checkpoints.restore(folder, tree(0)), tree(10))
        assert os.listdir(folder) == ["10"]


CUT_OFF_SAVER = """
import pathlib, resource, signal, sys
import jax
from fpclass.train import checkpoints
from fpclass.errors import RunError
state = {"a": jax.random.normal(jax.random.key(0), (64, 1024))}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    checkpoints.save(pathlib.Path(sys.argv[1]), 10, state)
except RunError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
def test_a_disk_that_fills_up_in_the_middle_leaves_the_checkpoint_before(tmp_path: pathlib.Path) -> None:
    """Stands for it: a process that may write 64 KiB into a file, where an array needs 256."""
    folder = tmp_path / "last"
    checkpoints.save(folder, 5, tree(5))
    (said,) = python(CUT_OFF_SAVER, str(folder), folder=tmp_path)
    assert re.fullmatch(rf"{folder}: cannot save a checkpoint \(.+\); free space .+", said)
    assert_bit_equal(checkpoints.restore(folder, tree(0)), tree(5))
    checkpoints.save(folder, 10, tree(10))
    assert os.listdir(folder) == ["10"]


SAVER = """
import pathlib, sys
import jax.numpy as jnp
from fpclass.train import checkpoints
epoch = (checkpoints.latest_step(pathlib.Path(sys.argv[1])) or 0)
while True:
    epoch += 1
    state = {name: jnp.full((300, 400), float(epoch)) for name in "abc"}
    checkpoints.save(pathlib.Path(sys.argv[1]), epoch, state)
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("delay_seconds", [0.0, 0.03])
def test_a_kill_in_the_middle_of_saving_costs_at_most_that_save(tmp_path: pathlib.Path, delay_seconds: float) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        time.sleep(delay_seconds)
        os.kill(process.pid, signal.SIGKILL)
        finished = max([3, *(int(line) for line in process.stdout)])
    epoch = checkpoints.latest_step(tmp_path)
    assert epoch in (finished, finished + 1)
    like = {name: jnp.zeros((300, 400)) for name in "abc"}
    state = checkpoints.restore(tmp_path, like)
    assert all(bool((state[name] == epoch).all()) for name in "abc")
    checkpoints.save(tmp_path, epoch + 1, like)
    assert_bit_equal(checkpoints.restore(tmp_path, like), like)
    assert os.listdir(tmp_path) == [str(epoch + 1)]


def test_orbax_says_nothing(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """It logs warnings about files that it expects itself; a person could do nothing about them."""
    checkpoints.save(tmp_path, 1, tree(1))
    checkpoints.restore(tmp_path, tree(0))
    with pytest.raises(RunError):
        checkpoints.restore(tmp_path, tree(0, width=7))
    assert not caplog.records
