"""The whole job through the real command line, alone commands, interruptions, and every kind of bad input."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from archives import arrays_of
from ml_collections import ConfigDict
from PIL import Image
from tiny_disk import tiny_disk

import fpclass
from fpclass import cli
from fpclass.augment.intensity import normalise
from fpclass.config import apply_overrides
from fpclass.errors import ConfigError
from fpclass.explain.cam import grad_cam
from fpclass.models.build import explainable_form
from fpclass.run.best import BestModel
from fpclass.run.evaluate import summarise
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare
from fpclass.train.task import build_network

PROJECT = pathlib.Path(__file__).parents[1]
SMALL = [
    "--config.data.image_size=(60,40)",
    "--config.train.batch_size=8",
    "--config.train.num_epochs=4",
    "--config.train.eval_every_epochs=2",
    "--config.train.checkpoint_seconds=0",
    "--config.evaluate.num_resamples=50",
    "--config.explain.num_images=2",
]
EXP04 = "--config=configs/footprints/exp04_early_stopping_dropout.py"
WRITTEN = (
    "config.json", "environment.json", "model.json", "table.csv", "audit.json", "splits.csv", "log.jsonl",
    "predictions.csv", "test_predictions.csv", "metrics.json", "classification_report.txt",
    "submission.csv", "grad_cam_worst.npz",
    *(f"figures/{name}.png" for name in (
        "class_balance", "image_sizes", "mean_images", "sample_grid", "confusion_matrix", "roc", "learning_curves",
        "grad_cam_worst", "feature_maps",
    )),
)  # fmt: skip


def train_args(data: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
    return ["train", EXP04, f"--config.data.root={data}", f"--workdir={workdir}", *SMALL, *more]


def launch(*args: str, **environment: str) -> subprocess.Popen:
    """Starts the real program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "launch.py"), *args],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, blobs):
    """The folder of a finished training; read only."""
    folder = tmp_path_factory.mktemp("runs") / "exp04"
    assert cli.main(train_args(blobs, folder)) == 0
    return folder


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the finished run that a test may change."""
    return pathlib.Path(shutil.copytree(run, tmp_path / "run"))


def fails(capsys, args: list[str], *words: str) -> None:
    """The command ends with exit code 2 and one line that holds these words."""
    assert cli.main(args) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    for word in words:
        assert word in error, f"{word!r} not in {error!r}"


def test_train_leaves_everything_behind(run, blobs):
    assert [name for name in WRITTEN if not (run / name).is_file()] == []
    assert not [f for f in run.rglob("*") if ".tmp" in f.name], "temporary files left"
    submission = pd.read_csv(run / "submission.csv")
    labels = pd.read_csv(blobs / "all_labels.csv")
    assert list(submission.columns) == ["filename", "SEX"]
    assert submission["filename"].tolist() == labels.loc[labels["SEX"].isna(), "filename"].tolist()
    assert submission["SEX"].dtype == np.int64
    assert set(submission["SEX"]) <= {0, 1}
    splits = pd.read_csv(run / "splits.csv")
    assert splits.groupby("group")["role"].nunique().max() == 1
    metrics = json.loads((run / "metrics.json").read_text())
    predictions = pd.read_csv(run / "predictions.csv")
    right = (predictions["logit_1"] > predictions["logit_0"]) == predictions["label"]
    accuracy = metrics["validation"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right.mean())
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert "inner split" in metrics["selected_on"]
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in epochs] == [1, 2, 3, 4]


def test_intervals_are_of_people(run):
    metrics = json.loads((run / "metrics.json").read_text())["validation"]
    splits = pd.read_csv(run / "splits.csv").query("role == 'validation'")
    assert (metrics["num_images"], metrics["num_groups"]) == (len(splits), splits["unit"].nunique())
    assert metrics["num_groups"] == metrics["num_images"] / 2, "two prints each"
    assert f"{metrics['num_groups']} people, 50 resamples" in metrics["interval"]


def test_people_are_people_without_intervals_too(own_run, capsys):
    assert cli.main(["evaluate", f"--workdir={own_run}", "--config.evaluate.num_resamples=0"]) == 0
    metrics = json.loads((own_run / "metrics.json").read_text())["validation"]
    assert (metrics["groups_are"], metrics["interval"]) == ("people", None)
    about = f"{metrics['num_images']} images of {metrics['num_groups']} people"
    assert f"{about}; no intervals\n" in capsys.readouterr().out
    assert f"analysed {about}" in (own_run / "checklist.md").read_text()
    assert "No intervals were computed." in (own_run / "methods.md").read_text()
    opened = fpclass.load(own_run)
    assert isinstance(opened, fpclass.TrainedRun)
    assert f" on {about} that it was not trained on" in opened.verdict


def test_the_summary_says_by_what_an_epoch_was_chosen(run):
    """Where something chose: not where the last epoch is kept, and of a probe it is a strength."""
    metrics = json.loads((run / "metrics.json").read_text())
    epoch, metric = metrics["epoch"], Run.open(run).config.train.selection_metric
    other = {"loss": "accuracy", "accuracy": "loss"}[metric]

    def chosen(setting: str = "", **more: float) -> str:
        flags = [f"--config.{setting}"] if setting else []
        changed = apply_overrides(ConfigDict(Run.open(run).config.to_dict()), flags, {})
        (found,) = re.findall(r"^  (\S.+), selected on ", summarise(Run(run, changed), metrics | more), flags=re.M)
        return found

    assert chosen() == f"best epoch  {epoch} of 4 by {metric}"
    assert chosen(f"train.selection_metric={other}") == f"best epoch  {epoch} of 4 by {other}"
    assert chosen("train.early_stopping=none") == f"best epoch  {epoch} of 4"
    assert chosen("model.head=probe", strength=0.1) == f"strength    C=0.1, {epoch} of 4"


def test_the_worst_images_are_explained_for_the_class_that_they_were_taken_for(run):
    explained = arrays_of(run / "grad_cam_worst.npz")
    said = pd.read_csv(run / "predictions.csv")
    logits = said[["logit_0", "logit_1"]].to_numpy()
    losses = np.logaddexp(*logits.T) - logits[np.arange(len(said)), said["label"]]
    worst = np.argsort(-losses, kind="stable")[:2]
    assert explained["filename"].tolist() == said["filename"].iloc[worst].tolist()
    assert explained["predicted"].tolist() == logits[worst].argmax(axis=1).tolist()
    assert explained["stage"] == "conv2/relu"
    opened = Run.open(run)
    prepared, best = prepare(opened.config), BestModel(opened, 2)
    form = build_network(opened.config, 2, explainable_form(opened.config.model))
    rows = prepared.splits.rows("validation")[worst]
    inputs = normalise(jnp.asarray(prepared.images[rows]), opened.config.data.mean, opened.config.data.std)
    for classes, is_it in ((explained["predicted"], True), (1 - explained["predicted"], False)):
        maps = grad_cam(form, best.variables, inputs, classes, "conv2/relu")
        assert np.allclose(maps, explained["raw"], rtol=1e-3, atol=1e-6) == is_it


def test_class_names_are_words_that_may_change_after_training(own_run, blobs, capsys):
    before = json.loads((own_run / "metrics.json").read_text())
    names = "--config.data.class_names=('woman','man')"
    for command in ("evaluate", "submit"):
        assert cli.main([command, f"--workdir={own_run}", names]) == 0
    after = json.loads((own_run / "metrics.json").read_text())
    assert list(after["validation"]["per_class"]) == ["woman", "man"]
    assert list(before["validation"]["per_class"]) == ["0", "1"]
    assert after["validation"]["accuracy"] == before["validation"]["accuracy"]
    assert set(pd.read_csv(own_run / "submission.csv")["SEX"]) <= {0, 1}
    image = str(blobs / "processed" / "processed" / "img_0000.png")
    assert cli.main(["predict", image, f"--workdir={own_run}", names]) == 0
    assert {"woman", "man"} & set(capsys.readouterr().out.splitlines()[-1].split(","))
    fails(capsys, ["evaluate", f"--workdir={own_run}", "--config.data.class_names=('a','a')"], "every name once")


def test_an_explanation_that_fails_costs_no_submission(own_run, blobs, capsys, monkeypatch):
    def explain(*_):
        raise ConfigError("explain.stage is 'conv9'")

    for name in ("submission.csv", "metrics.json", "grad_cam_worst.npz"):
        (own_run / name).unlink()
    monkeypatch.setattr("fpclass.run.stages.explain", explain)
    assert cli.main(train_args(blobs, own_run)) == 2
    captured = capsys.readouterr()
    assert captured.err == "fpclass: explain.stage is 'conv9'\n"
    assert "accuracy" in captured.out
    assert (own_run / "submission.csv").is_file()
    assert (own_run / "metrics.json").is_file()


def test_figures_that_fail_cost_no_numbers(own_run, capsys, monkeypatch):
    def show_errors(*_):
        raise OSError(28, "No space left on device")

    before = json.loads((own_run / "metrics.json").read_text())
    (own_run / "metrics.json").unlink()
    monkeypatch.setattr("fpclass.run.evaluate.show_errors", show_errors)
    assert cli.main(["evaluate", f"--workdir={own_run}"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert json.loads((own_run / "metrics.json").read_text()) == before | {"findings": []}


LATE = {
    "train.early_stopping=restore-best": "expected none, restore_best or patience",
    "explain.stage=conv9": "explain.stage is 'conv9': the model's stages are conv1/conv, conv1/relu",
    "optim.nesterov=True": "optim.nesterov is True",
    "optim.weight_decay=0.1": "optim.weight_decay is 0.1",
    "finetune.freeze_before=stem": "finetune.freeze_before is 'stem': model.name=cnn has no stages",
    "model.head=moments": "model.head is 'moments'",
    "model.variant=keras": "model.variant is 'keras'",
    "augment.class_probability=(1,1,1)": "augment.class_probability is (1, 1, 1)",
    "data.class_names=('a','a')": "data.class_names",
    "data.image_size=(6,6)": "data.image_size is (6, 6)",
    "study.cost=((0,1),)": "cost matrix ((0, 1),)",
}


@pytest.mark.parametrize("setting", LATE)
def test_what_cannot_be_is_said_before_anything_runs(blobs, tmp_path, capsys, setting):
    """Before there is a folder: by training, and by a study, which would have gone on to the others."""
    key = setting.partition("=")[0]
    fails(capsys, train_args(blobs, tmp_path / "run", f"--config.{setting}"), key.rpartition(".")[2], LATE[setting])
    study = ["study", "--configs", EXP04.removeprefix("--config="), f"--workdir={tmp_path / 'study'}"]
    fails(capsys, [*study, f"--config.data.root={blobs}", f"--config.{setting}"], LATE[setting])
    assert not list(tmp_path.iterdir())


def test_second_start_finds_everything_done(own_run, blobs, capsys, monkeypatch):
    """No stage is begun: no image is opened, no network built, no figure drawn, and no file written."""

    def forbidden(*_, **__):
        raise AssertionError("a stage that is done was begun again")

    for name in ("run.stages.prepare", "run.stages.evaluate", "run.stages.submit", "run.stages.explain"):
        monkeypatch.setattr(f"fpclass.{name}", forbidden)
    for name in ("run.train.place_run", "train.trained.build_network", "train.summary.summarise_model"):
        monkeypatch.setattr(f"fpclass.{name}", forbidden)
    monkeypatch.setattr("fpclass.report.style.save_figure", forbidden)
    written = {path: path.stat().st_mtime_ns for path in own_run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert cli.main(train_args(blobs, own_run)) == 0
    out = capsys.readouterr().out
    for stage in ("ingest", "prepare", "train", "evaluate", "submit", "explain"):
        assert f"{stage:<9} was done" in out
    assert "validation  accuracy" in out
    assert "32 labelled" not in out, "the audit's text is not repeated"
    now = {path: path.stat().st_mtime_ns for path in written}
    assert [path for path in written if now[path] != written[path]] == [own_run / "config.json"]


@pytest.mark.parametrize(
    ("change", "begun"),
    [
        ("--config.evaluate.num_resamples=20", ["evaluate", "submit"]),
        ("--config.explain.num_images=1", ["explain"]),
        ("--config.submit.fill_unreadable=True", ["submit"]),
        ("--strict", ["ingest"]),
        ("audit.json", ["ingest"]),
        ("metrics.json", ["evaluate", "submit"]),
        ("model.txt", ["prepare"]),
        ("stages.json", ["ingest", "prepare", "train", "evaluate", "submit", "explain"]),
    ],
)
def test_a_stage_is_begun_again_where_its_settings_changed_or_what_it_left_is_gone(
    own_run, blobs, capsys, change, begun
):
    more = [change] if change.startswith("--") else []
    if not more:
        (own_run / change).unlink()
    assert cli.main(train_args(blobs, own_run, *more)) == 0
    out = capsys.readouterr().out
    stages = ("ingest", "prepare", "train", "evaluate", "submit", "explain")
    assert [stage for stage in stages if f"{stage:<9} was done" not in out] == begun
    assert cli.main(train_args(blobs, own_run, *(more if "--config" in change else []))) == 0
    assert capsys.readouterr().out.count("was done") == 6


def test_a_finished_run_notices_that_its_data_have_changed(own_run, blobs, tmp_path, capsys):
    data = pathlib.Path(shutil.copytree(blobs, tmp_path / "data"))
    assert cli.main(train_args(data, own_run)) == 0, "the same images in another place"
    shutil.copy(data / "processed/processed/img_0001.png", data / "processed/processed/img_0002.png")
    capsys.readouterr()
    fails(capsys, train_args(data, own_run), "the data have changed")


def test_commands_alone_give_what_the_training_gave(run, own_run):
    for name in ("submission.csv", "metrics.json", "predictions.csv", "grad_cam_worst.npz"):
        (own_run / name).unlink()
    for command in ("evaluate", "explain", "submit"):
        assert cli.main([command, f"--workdir={own_run}"]) == 0
    for name in ("submission.csv", "metrics.json", "predictions.csv"):
        assert (own_run / name).read_bytes() == (run / name).read_bytes(), name
    np.testing.assert_array_equal(
        arrays_of(own_run / "grad_cam_worst.npz")["raw"], arrays_of(run / "grad_cam_worst.npz")["raw"]
    )


def test_what_comes_after_training_may_be_chosen_again(own_run):
    assert cli.main(["evaluate", f"--workdir={own_run}", "--config.evaluate.num_resamples=20"]) == 0
    assert "20 resamples" in json.loads((own_run / "metrics.json").read_text())["validation"]["interval"]
    assert cli.main(["explain", f"--workdir={own_run}", "--config.explain.stage=conv1/pool"]) == 0
    assert arrays_of(own_run / "grad_cam_worst.npz")["raw"].shape == (2, 28, 18)


def test_predict_agrees_with_the_submission(run, blobs, tmp_path, capsys):
    submission = pd.read_csv(run / "submission.csv")
    output = tmp_path / "out.csv"
    images = blobs / "processed" / "processed"
    assert cli.main(["predict", str(images), f"--workdir={run}", f"--output={output}"]) == 0
    predicted = pd.read_csv(output).set_index(pd.read_csv(output)["filename"].map(lambda f: pathlib.Path(f).stem))
    assert len(predicted) == 38
    assert predicted.loc[submission["filename"], "predicted"].tolist() == submission["SEX"].tolist()
    np.testing.assert_allclose(predicted[["probability_0", "probability_1"]].sum(axis=1), 1, atol=1e-5)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    assert cli.main(["predict", str(broken), str(images / "img_0000.png"), f"--workdir={run}"]) == 1
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    assert "img_0000.png" in captured.out
    fails_with = cli.main(["predict", str(broken), f"--workdir={run}"])
    assert fails_with == 2


def test_audit_alone(blobs, tmp_path, capsys):
    data = pathlib.Path(shutil.copytree(blobs, tmp_path / "data"))
    (data / "processed/processed/img_0003.png").write_bytes(b"")
    shutil.copy(data / "processed/processed/img_0004.png", data / "processed/processed/extra.png")
    args = [EXP04, f"--config.data.root={data}", *SMALL]
    assert cli.main(["audit", *args, f"--workdir={tmp_path / 'audit'}"]) == 0
    assert "img_0003" in capsys.readouterr().out
    found = (tmp_path / "audit" / "audit.json").read_text()
    assert "img_0003" in found
    assert "extra.png" in found
    fails(capsys, ["audit", *args, f"--workdir={tmp_path / 'strict'}", "--strict"], "img_0003")
    assert (data / "processed/processed/img_0003.png").is_file(), "quarantine never deletes"


def test_unreadable_image_to_predict(blobs, tmp_path, capsys):
    data = pathlib.Path(shutil.copytree(blobs, tmp_path / "data"))
    (data / "processed/processed/img_0033.png").write_bytes(b"broken")
    folder = tmp_path / "run"
    fails(capsys, train_args(data, folder, "--config.train.num_epochs=1"), "img_0033", "fill_unreadable")
    assert (folder / "metrics.json").is_file()
    assert not (folder / "submission.csv").exists()
    assert cli.main(["submit", f"--workdir={folder}", "--config.submit.fill_unreadable=True"]) == 0
    assert len(pd.read_csv(folder / "submission.csv")) == 6


def log_without_times(folder: pathlib.Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


LONGER = "--config.train.num_epochs=25"


@pytest.fixture(scope="module")
def straight(tmp_path_factory, blobs):
    """The folder of a longer training that nothing stopped; read only."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert cli.main(train_args(blobs, folder, LONGER)) == 0
    return folder


@pytest.mark.promise
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGKILL, -9)])
def test_interrupted_training_goes_on_bit_for_bit(straight, blobs, tmp_path, sent, code):
    """The real program is stopped in the middle, once politely and once by kill -9, and started again."""
    folder = tmp_path / "run"
    process = launch(*train_args(blobs, folder, LONGER))
    log = folder / "log.jsonl"
    deadline = time.monotonic() + 200
    while not (log.is_file() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(sent)
    process.communicate()
    assert process.returncode == code
    reached = log.read_text().count("\n")
    assert 3 <= reached < 25, "stopped in the middle"
    assert cli.main(train_args(blobs, folder, LONGER)) == 0
    assert log_without_times(folder) == log_without_times(straight)
    for name in ("predictions.csv", "test_predictions.csv", "metrics.json"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name


def test_not_a_number_stops_with_the_files_of_the_batch(blobs, tmp_path, capsys):
    args = train_args(blobs, tmp_path / "run", "--config.optim.learning_rate=1e30", "--config.optim.name=sgd")
    fails(capsys, args, "loss is", "epoch 1", "img_", "learning_rate")


def test_another_config_is_refused_with_the_difference(own_run, blobs, capsys):
    args = train_args(blobs, own_run, "--config.optim.learning_rate=0.5")
    fails(capsys, args, "optim.learning_rate: 0.001 there, 0.5 now", "another --workdir")


def test_changed_data_are_refused(own_run, blobs, tmp_path, capsys):
    data = pathlib.Path(shutil.copytree(blobs, tmp_path / "data"))
    text = (data / "all_labels.csv").read_text()
    (data / "all_labels.csv").write_text(text.replace("img_0000,1000,0.0", "img_0000,1000,1.0"))
    fails(capsys, ["evaluate", f"--workdir={own_run}", f"--config.data.root={data}"], "data have changed")
    moved = pathlib.Path(shutil.copytree(blobs, tmp_path / "moved"))
    assert cli.main(["evaluate", f"--workdir={own_run}", f"--config.data.root={moved}"]) == 0


def test_checkpoint_of_another_model(own_run, capsys):
    config = json.loads((own_run / "config.json").read_text())
    config["config"]["model"]["dense_features"] = [7, 5]
    (own_run / "config.json").write_text(json.dumps(config))
    fails(capsys, ["submit", f"--workdir={own_run}"], "checkpoint of another model", "dense")


def test_bad_data_in_one_line(blobs, tmp_path, capsys):
    def args(root: pathlib.Path, *more: str) -> list[str]:
        return train_args(root, tmp_path / "run", *more)

    def changed(name: str, old: str, new: str) -> pathlib.Path:
        folder = pathlib.Path(shutil.copytree(blobs, tmp_path / name))
        path = folder / "all_labels.csv"
        path.write_text(path.read_text().replace(old, new))
        return folder

    fails(capsys, args(tmp_path / "nowhere"), "nowhere")
    fails(capsys, args(blobs, "--config.data.csv=labels.csv"), "labels.csv")
    fails(capsys, args(blobs, "--config.data.label_column=GENDER"), "GENDER", "SEX")
    fails(capsys, args(changed("third", "img_0001,1000,0.0", "img_0001,1000,2.0")), "'2'", "(0, 1)", "img_0001")
    fails(capsys, args(blobs, "--config.split.num_folds=9"), "9", "8 people")
    empty = tmp_path / "folders"
    for name in ("cat", "dog"):
        (empty / name).mkdir(parents=True)
    Image.new("L", (9, 9)).save(empty / "cat" / "a.png")
    fails(capsys, ["train", "--config=configs/base.py", "--config.data.source=folder", f"--config.data.root={empty}",
                   f"--workdir={tmp_path / 'run2'}"], "dog")  # fmt: skip


def test_bad_config_in_one_line(tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'run'}"
    fails(capsys, ["train", "--config.optim.learningrate=1", workdir], "learningrate", "optim.learning_rate")
    fails(capsys, ["train", "--config.train.batch_size=many", workdir], "batch_size", "many")
    fails(capsys, ["train", "--config.train.batch_size=0", workdir], "train.batch_size is 0", "at least 1")
    fails(capsys, ["train", "--config=configs/footprints/exp4.py", workdir], "exp4.py")
    fails(capsys, ["evaluate", workdir], "no such folder")
    assert not (tmp_path / "run").exists(), "nothing half-written"


def test_unwritable_folder(blobs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    fails(capsys, train_args(blobs, tmp_path / "file"), "is a file")
    fails(capsys, train_args(blobs, tmp_path / "file" / "below"), "file")


def test_help_fits_a_screen(capsys):
    for args in (["--help"], *([name, "--help"] for name in cli.COMMANDS)):
        with pytest.raises(SystemExit) as stop:
            cli.main(args)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert len(text.splitlines()) <= (50 if args == ["--help"] else 42)  # a line for each command
    assert cli.main(["fly"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(("command", "flag"), [("tune", "--space=FILE"), ("freeze-sweep", "--config=FILE")])
def test_flags_that_have_to_be_given_are_in_the_usage(command, flag, capsys):
    """In the help, and where they are missing; those of a command that needs none are not."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert text.splitlines()[0].endswith(f" {command} … {flag}")
    assert re.search(rf"^  {flag.replace('=', ' ')} .*; has to be given$", text, flags=re.MULTILINE)
    with pytest.raises(SystemExit):
        cli.main([command])
    assert f"{command} … {flag}\n" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["study", "--help"])
    text = capsys.readouterr().out
    assert text.splitlines()[0].endswith(" study …")
    assert "has to be given" not in text


def test_help_needs_no_heavy_library():
    """It is there at once, however many commands there are."""
    code = "import sys, fpclass.cli; fpclass.cli.make_parser().format_help(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    heavy = {"numpy", "pandas", "jax", "scipy", "sklearn", "matplotlib", "absl", "ml_collections", "PIL", "flax"}
    assert not heavy & set(run.stdout.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["dedupe", "a", "--output=b", "--similarity=2"], "2: expected a correlation in (0, 1]"),
        (["convert", "a", "b", "--size", "0", "5"], "0: expected 1 to 65500"),
        (["convert", "a", "b", "--pad-value=256"], "256: expected 0 to 255"),
        (["convert", "a", "b", "--resize=crop"], "invalid choice: 'crop'"),
        (["convert", "a", "b", "--quality=x"], "invalid number value: 'x'"),
        (["collect", "a", "--per-query=0"], "0: expected at least 1"),
        (["collect", "a", "--delay=-1"], "-1: expected at least 0.0"),
        (["collect", "a", "--delay=inf"], "inf: expected at least 0.0"),
        (["study", "--folds=1"], "1: expected at least 2"),
        (["weights", "convert", "a"], "the following arguments are required: --as"),
    ],
)
def test_a_flag_out_of_range_is_named(flags, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(flags)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["dedupe a --output b", "convert a b", "synthesize a", "collect a", "weights list"])
def test_commands_without_a_config_take_no_keys_of_one(command, capsys):
    where = " ".join(command.split()[: 2 if command.startswith("weights") else 1])
    fails(capsys, [*command.split(), "--config.seed=1"], "'--config.seed=1'", f"see fpclass {where} --help")


@pytest.mark.parametrize("name", ["photos", "mistyped"])
def test_nothing_is_drawn_into_a_folder_of_the_users(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a cat")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for command in ("train", "eda"):
        fails(capsys, [command, "--config=demo", f"--config.data.root={name}"], "draws its own images")
    for command in ("train", "audit"):
        fails(capsys, [command, f"--config.data.root={name}"], f"{name}: ")
        fails(capsys, [command, name], f"{name}: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.promise
def test_synthesize_then_train_marks_every_result(tmp_path, capsys):
    data, folder = tmp_path / "drawn", tmp_path / "run"
    size = ["--height=124", "--width=81"]
    assert cli.main(["synthesize", str(data), "--num-images=60", *size]) == 0
    assert len(pd.read_csv(data / "all_labels.csv")) == 60
    assert cli.main(train_args(data, folder)) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["is_synthetic"] is True
    assert "SYNTHETIC" in (folder / "submission.SYNTHETIC.txt").read_text()
    assert "SYNTHETIC" in (folder / "classification_report.txt").read_text()


def test_disk_full_while_training(blobs, tmp_path, capsys):
    """A real file system of half a megabyte."""
    with tiny_disk(tmp_path / "small", size_kib=512) as small:
        fails(capsys, train_args(blobs, small / "run"), str(small), "space")
        assert not [f for f in (small / "run").glob("*.csv") if f.stat().st_size == 0]


def test_predictions_are_never_put_in_the_place_of_a_pipe_or_a_folder(run, blobs, tmp_path, capsys):
    """And it is known before anything is predicted: here there is no model either."""
    image = str(blobs / "processed" / "processed" / "img_0000.png")
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "far.csv")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    for output in (pipe, link):
        assert cli.main(["predict", image, f"--workdir={run}", f"--output={output}"]) == 0
    reader.join(timeout=20)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert got == [(tmp_path / "far.csv").read_text()]
    assert got[0].startswith("filename,predicted")
    capsys.readouterr()
    fails(capsys, ["predict", image, f"--workdir={tmp_path / 'none'}", f"--output={tmp_path}"], "is a folder")
    assert cli.main(["predict", image, f"--workdir={run}", "--output=/dev/stdout"]) == 0
    assert capsys.readouterr().out == got[0], "nothing else is printed there"


def test_file_names_never_reach_the_terminal_as_they_are(run, blobs, tmp_path, capsys):
    image = blobs / "processed" / "processed" / "img_0000.png"
    for name in ("a\x1b[31mred\x07.png", "b\u202egnp.exe.png", "c\x00d.png".replace("\x00", "\x9b")):
        shutil.copy(image, tmp_path / name)
    (tmp_path / "e\x1b[2J.png").write_bytes(b"broken")
    assert cli.main(["predict", str(tmp_path), f"--workdir={run}"]) == 1
    said = capsys.readouterr()
    for letter in "\x1b\x07\x9b\u202e":
        assert letter not in said.out + said.err
    for words in (r"a\x1b[31mred\x07.png", r"b\u202egnp.exe.png", r"c\x9bd.png"):
        assert words in said.out
    assert r"e\x1b[2J.png" in said.err
    shutil.copy(image, tmp_path / "d\udcff.png")
    fails(capsys, ["predict", str(tmp_path), f"--workdir={run}"], r"'d\udcff.png' is not UTF-8")


def test_not_enough_memory_in_one_line(blobs, tmp_path, capsys):
    too_large = "--config.model.dense_features=(2000000000,)"
    fails(
        capsys, train_args(blobs, tmp_path / "run", too_large), "out of memory", "GB, and there are", "train.batch_size"
    )
    too_large = "--config.data.image_size=(9000000,9000000)"
    fails(capsys, train_args(blobs, tmp_path / "run2", too_large), "decoded images take", "memory_gb")


def test_a_home_folder_of_nobody_in_one_line(blobs, tmp_path, capsys):
    for flag in ("data.root=~nosuchuser/data", "model.weights=~nosuchuser/weights"):
        fails(capsys, train_args(blobs, tmp_path / "run", f"--config.{flag}"), "~nosuchuser")
    fails(capsys, ["convert", "~nosuchuser/a", str(tmp_path / "b")], "~nosuchuser")
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "--workdir=~nosuchuser/run"])
    assert stop.value.code == 2
    assert "~nosuchuser is nobody's home folder" in capsys.readouterr().err


def test_what_a_kill_left_is_swept_at_the_next_start(own_run, blobs):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    left = [own_run / f".metrics.json.{process.pid}.tmp.json", own_run / f"figures/.a.png.{process.pid}.tmp.png"]
    for path in left:
        path.write_text("half")
    assert cli.main(train_args(blobs, own_run)) == 0
    assert not any(path.exists() for path in left)
