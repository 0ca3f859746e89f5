"""The run folder: one config, one training at a time, tables that come back as they went."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

import fpclass.run.folder
from configs import demo
from configs.footprints import baseline
from fpclass.config import differences
from fpclass.errors import FpclassError, RunError
from fpclass.experiment import load_config
from fpclass.run.folder import Run
from fpclass.study.study import Study

ROOT = pathlib.Path(fpclass.__file__).parents[1]


def config_with(*overrides: str) -> ConfigDict:
    return load_config("configs/footprints/baseline.py", overrides)


def trained(folder: pathlib.Path, config: ConfigDict) -> Run:
    """A run folder in which a training has saved something."""
    run = Run.create(folder, config)
    run.path("checkpoints/best").mkdir(parents=True)
    run.path("environment.json").write_text("{}")
    return run


def refused(folder: pathlib.Path, config: ConfigDict) -> str:
    before = snapshot(folder) if folder.is_dir() else None
    with pytest.raises(RunError) as caught:
        Run.create(folder, config)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)
    if before is not None:
        assert snapshot(folder) == before, "a refused folder must stay as it is"
    return str(caught.value)


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b""
        for file in sorted(folder.rglob("*"))
        if file.name != ".lock"
    }


def test_a_new_folder_holds_its_config(tmp_path: pathlib.Path) -> None:
    config = config_with("--config.data.image_size=60,40")
    run = Run.create(tmp_path / "runs" / "first", config)
    assert differences(config, Run.open(run.folder).config) == {}
    assert json.loads((run.folder / "config.json").read_text())["config"]["data"]["image_size"] == [60, 40]
    assert run.path("a/b") == run.folder / "a" / "b"


def test_an_empty_folder_will_do(tmp_path: pathlib.Path) -> None:
    assert Run.create(tmp_path, config_with()).folder == tmp_path


def test_what_trains_nothing_goes_beside_a_training_by_another_config(tmp_path, monkeypatch) -> None:
    """Where no folder was named; its own it may use, as it may one in which nothing is trained."""
    monkeypatch.chdir(tmp_path)
    config, other = config_with("--config.name=prints"), config_with("--config.name=prints", "--config.seed=1")
    assert Run.beside(None, config, "eda").folder == pathlib.Path("runs/prints")
    assert Run.beside("", other, "eda").folder == pathlib.Path("runs/prints")
    trained(pathlib.Path("runs/prints"), config)
    assert Run.beside(None, config, "eda").folder == pathlib.Path("runs/prints")
    assert Run.beside(None, other, "eda").folder == pathlib.Path("runs/prints-eda")
    with pytest.raises(RunError, match="belongs to another config"):
        Run.beside("runs/prints", other, "eda")
    pathlib.Path("runs/prints/study.json").write_text("{}")
    assert Run.beside(None, config, "audit").folder == pathlib.Path("runs/prints-audit")


def test_the_same_config_goes_on(tmp_path: pathlib.Path) -> None:
    run = trained(tmp_path, config_with())
    before = snapshot(tmp_path)
    again = Run.create(tmp_path, config_with())
    assert differences(run.config, again.config) == {}
    assert snapshot(tmp_path) == before


def test_another_config_is_refused_with_every_key_its_old_and_new_value(tmp_path: pathlib.Path) -> None:
    trained(tmp_path, config_with())
    message = refused(tmp_path, config_with("--config.optim.learning_rate=0.5", "--config.data.image_size=60,40"))
    assert "optim.learning_rate: 0.001 there, 0.5 now" in message
    assert "data.image_size: (120, 80) there, (60, 40) now" in message
    assert "choose another --workdir" in message
    assert "train.num_epochs" not in message
    assert "name: 'baseline' there, 'demo' now" in refused(tmp_path, demo.get_config())


def test_what_does_not_touch_the_training_may_change_and_is_kept(tmp_path: pathlib.Path) -> None:
    trained(tmp_path, config_with())
    other = config_with(
        "--config.evaluate.num_resamples=10",
        "--config.explain.num_images=2",
        "--config.submit.fill_unreadable=True",
        "--config.data.root=/elsewhere",
    )
    run = Run.create(tmp_path, other)
    assert differences(run.config, other) == {}
    assert differences(Run.open(tmp_path).config, other) == {}


def test_a_first_attempt_that_trained_nothing_does_not_stand_in_the_way(tmp_path: pathlib.Path) -> None:
    first = Run.create(tmp_path, config_with("--config.data.csv=mistyped.csv"))
    first.path("environment.json").write_text("of the first attempt")
    run = Run.create(tmp_path, config_with())
    assert Run.open(tmp_path).config.data.csv == run.config.data.csv == ""
    assert not run.path("environment.json").exists(), "the data of the first attempt must not bind the second"


def test_a_best_checkpoint_alone_binds_the_folder(tmp_path: pathlib.Path) -> None:
    """A kill between `best` and `last`: weights of another config must never be taken for one's own."""
    run = Run.create(tmp_path, config_with())
    run.path("checkpoints/best").mkdir(parents=True)
    assert "seed: 0 there, 1 now" in refused(tmp_path, config_with("--config.seed=1"))


def test_somebody_elses_folder_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8")
    assert "not empty and not a run folder" in refused(tmp_path, config_with())
    assert os.listdir(tmp_path) == ["holiday.jpg"], "not even a lock is left there"


def test_what_a_kill_left_before_the_first_write_does_not_stand_in_the_way(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.4194399.tmp.json").write_text('{"na')
    Run.create(tmp_path, config_with())
    assert Run.open(tmp_path).config.name == "baseline"


def test_a_file_or_a_path_below_a_file_is_no_folder(tmp_path: pathlib.Path) -> None:
    """Nobody can write below a file, root included."""
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(tmp_path / "file", config_with())
    assert "cannot write" in refused(tmp_path / "file" / "run", config_with())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")
def test_a_folder_that_cannot_be_written_to_is_one_line() -> None:
    """/proc takes no new folders, whoever asks."""
    assert "cannot write" in refused(pathlib.Path("/proc/fpclass-run"), config_with())


def test_a_name_that_no_file_system_takes_is_one_line(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        Run.create(tmp_path / ("x" * 5000), config_with())


def test_opening_what_is_not_a_run_is_one_line(tmp_path: pathlib.Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=r"not a run folder|no such folder"):
            Run.open(folder)
    for text, said in (("{", "cannot be read"), ('{"seed": 3}', "written by fpclass 0.1.0")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(FpclassError, match=said) as caught:
            Run.open(tmp_path)
        assert str(tmp_path / "config.json") in str(caught.value)


def hold_lock(folder: pathlib.Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of a run folder until its standard input ends."""
    code = """
import pathlib, sys
from fpclass.experiment import load_config
from fpclass.run.folder import Run
from fpclass.study.study import Study
run = Run(pathlib.Path(sys.argv[1]), load_config("configs/footprints/baseline.py"))
with run.lock():
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_training_at_a_time(tmp_path: pathlib.Path) -> None:
    run = Run.create(tmp_path, config_with())
    before = snapshot(tmp_path)
    with hold_lock(tmp_path) as other:
        with pytest.raises(RunError, match="another training is running in this folder") as caught:
            run.lock()
        assert str(tmp_path) in str(caught.value)
        # Another config must not even be written into the folder of a training that has saved nothing yet.
        with pytest.raises(RunError, match="another training is running"):
            Run.create(tmp_path, config_with("--config.seed=1"))
        assert snapshot(tmp_path) == before
        other.kill()
    with run.lock():  # who was killed holds nothing
        pass


def test_the_lock_ends_with_its_block(tmp_path: pathlib.Path) -> None:
    run = Run.create(tmp_path, config_with())
    with run.lock() as lock, pytest.raises(RunError, match="another training"):
        run.lock()
    again = run.lock()
    with again, pytest.raises(RunError, match="another training"):
        run.lock()
    assert lock is not None
    with hold_lock(tmp_path) as other:
        other.communicate()
    with run.lock():
        pass


HISTORY = [{"epoch": epoch, "train_loss": 1 / epoch, "seconds": 0.1} for epoch in (1, 2, 3)]


def written_history(run: Run) -> None:
    with run.appending_history() as append:
        for record in HISTORY:
            append(record)


def test_history_comes_back_as_it_went(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    assert run.history() == []
    written_history(run)
    assert run.history() == HISTORY


def test_a_line_is_on_the_disk_when_append_returns(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    with run.appending_history() as append:
        for number, record in enumerate(HISTORY, start=1):
            append(record)
            assert run.history() == HISTORY[:number]
        with pytest.raises(ValueError, match="JSON"):
            append({"loss": np.nan})


def test_a_log_on_a_full_disk_is_an_error_in_one_line(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    run.path("log.jsonl").symlink_to("/dev/full")
    with run.appending_history() as append, pytest.raises(RunError, match=r"log\.jsonl.*No space left.*--workdir"):
        append(HISTORY[0])


def test_what_goes_wrong_beside_an_open_log_is_not_said_of_it(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="of somebody else's"), Run(tmp_path, config_with()).appending_history():
        raise OSError("of somebody else's")


def test_a_last_line_that_a_kill_cut_short_does_not_count(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    written_history(run)
    with run.path("log.jsonl").open("a") as stream:
        stream.write('{"epoch": 4, "train_lo')
    assert run.history() == HISTORY
    run.truncate_history(3)
    with run.appending_history() as append:
        append({"epoch": 4})
    assert run.history() == [*HISTORY, {"epoch": 4}]


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 7])
def test_a_resume_drops_what_came_after_its_checkpoint(tmp_path: pathlib.Path, epoch: int) -> None:
    run = Run(tmp_path, config_with())
    written_history(run)
    whole = run.path("log.jsonl").read_text().splitlines()
    run.truncate_history(epoch)
    assert run.history() == HISTORY[:epoch]
    assert run.path("log.jsonl").read_text().splitlines() == whole[:epoch], "not one digit may change"


def test_a_first_training_has_no_history_to_drop(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    run.truncate_history(0)
    assert run.history() == []


def test_a_history_damaged_in_the_middle_is_named(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    run.path("log.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    for read in (run.history, lambda: run.truncate_history(1)):
        with pytest.raises(RunError, match=r"log\.jsonl: cannot be read"):
            read()


def test_a_table_comes_back_as_it_went(tmp_path: pathlib.Path) -> None:
    """Names of people and files are text, also where they look like numbers or like missing values."""
    run = Run(tmp_path, config_with())
    frame = pd.DataFrame(
        {
            "filename": ["007", "NA", "1e5", 'with "quotes", commas', "ü", "null", "nan"],
            "group": ["012", "NA", "", "None", "1.0", "N/A", " padded "],
            "label": ["0", "00", "NA", "", "1.50", "True", "-"],
            "unit": ["1", "02", "x", "", "NaN", "5", "6"],
            "fold": [0, 1, -1, 2, 3, 4, 5],
            "logit_0": [0.1, -1e-30, 1 / 3, 1e300, 0.0, -2.5, 7.0],
            "role": ["train", "", "excluded", "test", "predict", "validation", "selection"],
        }
    )
    run.write_csv("table.csv", frame)
    again = run.read_csv("table.csv")
    for column in frame:
        expected: object = frame[column].tolist()
        if column == "logit_0":  # float32 is what is needed; pandas 2 rounds float64
            expected = pytest.approx(expected, rel=1e-14, abs=0)
        assert again[column].tolist() == expected, column
    assert b"\r" not in run.path("table.csv").read_bytes()


def test_a_table_that_is_missing_or_damaged_is_named(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    with pytest.raises(RunError, match=r"splits\.csv: not found"):
        run.read_csv("splits.csv")
    run.path("splits.csv").write_text('a,b\n1,2,3\n"')
    with pytest.raises(RunError, match=r"splits\.csv: cannot be read") as caught:
        run.read_csv("splits.csv")
    assert len(str(caught.value).splitlines()) == 1


def test_environment_says_what_a_result_depends_on(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path, config_with())
    run.write_environment("abc")
    environment = json.loads(run.path("environment.json").read_text())
    assert environment["data_sha256"] == "abc"
    assert environment["python"] == sys.version.split()[0]
    assert {"jax", "flax", "optax", "numpy"} <= environment["versions"].keys()
    assert environment["devices"]
    assert time.strptime(environment["started"], "%Y-%m-%dT%H:%M:%S%z")


def git(folder: pathlib.Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_this_source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "checkout" / "fpclass"
    (package / "run").mkdir(parents=True)
    monkeypatch.setattr(fpclass.run.folder, "__file__", str(package / "run/folder.py"))
    assert fpclass.run.folder._git_commit() is None
    (package / "run/folder.py").write_text("")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "-m", "first")
    commit = git(package.parent, "rev-parse", "HEAD")
    assert fpclass.run.folder._git_commit() == commit
    git(package.parent, "tag", "-a", "v1", "-m", "v1")
    (package / "run/folder.py").write_text("changed")
    assert fpclass.run.folder._git_commit() == f"{commit}-dirty"
    # Installed into an environment inside of somebody else's repository: their commit says nothing about this code.
    installed = package.parent / "venv" / "site-packages" / "fpclass"
    (installed / "run").mkdir(parents=True)
    monkeypatch.setattr(fpclass.run.folder, "__file__", str(installed / "run/folder.py"))
    assert fpclass.run.folder._git_commit() is None


def test_baseline_is_what_these_tests_take_it_for() -> None:
    assert differences(config_with(), baseline.get_config()) == {}


def test_who_names_no_run_is_told_of_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"^runs/fotos: no such folder; give the --workdir of a training$"):
        Run.open("runs/fotos")
    for when, name in enumerate(("photos/config.json", "animals/config.json", "best-photos/study.json")):
        (tmp_path / "runs" / name).parent.mkdir(parents=True)
        (tmp_path / "runs" / name).write_text("{}")
        os.utime(tmp_path / "runs" / name, (when, when))
        os.utime((tmp_path / "runs" / name).parent, (when, when))
    with pytest.raises(RunError, match=r"no such folder.*, did you mean runs/photos\?"):
        Run.open("runs/fotos")
    with pytest.raises(RunError, match=r"^\.: not a run folder.*, as runs/best-photos, runs/animals, runs/photos$"):
        Run.open(".")
    with pytest.raises(RunError, match=r"runs/photos: not a study folder.*, did you mean runs/best-photos\?"):
        Study.open(pathlib.Path("runs/photos"))


def test_of_many_other_settings_a_few_are_named(tmp_path: pathlib.Path) -> None:
    Run.create(tmp_path, config_with()).path("checkpoints").mkdir()
    others = config_with()
    others.train.batch_size, others.train.num_epochs = 3, 7
    others.seed, others.optim.learning_rate, others.data.image_size = 5, 0.5, (8, 8)
    said = refused(tmp_path, others)
    assert said.count(" there, ") == 3
    assert re.search(r" now and \d+ more\); choose another --workdir", said)
