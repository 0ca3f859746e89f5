"""Experiments that learn from rows to predict: what they see, what they begin with, and that everybody is told."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from fpclass import cli
from fpclass.common.console import Interruption
from fpclass.data.splits import PREDICT, TRAIN, VALIDATION
from fpclass.errors import ConfigError
from fpclass.experiment import load_config
from fpclass.models.network import HEAD
from fpclass.run import probe as probes
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare
from fpclass.run.train import make_member
from fpclass.study.estimate import passes_of_pretraining
from fpclass.study.quick import shortened
from fpclass.study.study import Study
from fpclass.train.probes.self_training import ProbeData

FLAGS = (
    "--config.data.label_column=SEX",
    "--config.data.group_column=ID",
    "--config.model.name=blocks",
    "--config.model.conv_features=(4,8)",
    "--config.model.batch_norm=True",
    "--config.data.image_size=(24,20)",
    "--config.evaluate.num_resamples=20",
)
PROBE = "--config.model.head=probe"
PRETRAINED = "--config.unlabelled.pretrain_epochs=2"
SELF_TRAINED = "--config.unlabelled.self_training=images"
STILL = ("--config.train.num_epochs=1", "--config.optim.learning_rate=1e-30", "--config.train.ema_decay=0.5")
"""One epoch that changes nothing but statistics of batch norm, which stay too where these are frozen."""


def train(root: pathlib.Path, folder: pathlib.Path, *flags: str) -> Run:
    args = ["train", "--config=configs/base.py", f"--config.data.root={root}", *FLAGS, *flags, "--until=evaluate"]
    assert cli.main([*args, f"--workdir={folder}"]) == 0
    return Run.open(folder)


@pytest.fixture(scope="module")
def study(noisy, tmp_path_factory) -> pathlib.Path:
    """A probe, the same self-trained, and the same of a network that was pretrained without labels; two folds."""
    folder = tmp_path_factory.mktemp("transductive")
    for name, change in {
        "plain": "",
        "self_trained": "config.unlabelled.self_training, config.unlabelled.confidence = 'people', 0.6",
        "pretrained": "config.unlabelled.pretrain_epochs = 2",
    }.items():
        lines = ["from configs import base", "def get_config():", "    config = base.get_config()"]
        lines += [
            "    config.model.head = 'probe'",
            f"    config.name = '{name}'",
            f"    {change}",
            "    return config",
        ]
        (folder / f"{name}.py").write_text("\n".join(lines) + "\n")
    files = [str(folder / f"{name}.py") for name in ("plain", "self_trained", "pretrained")]
    args = ["study", "--configs", *files, f"--config.data.root={noisy}", *FLAGS, "--folds=2"]
    assert cli.main([*args, f"--workdir={folder / 'study'}"]) == 0
    return folder / "study"


@pytest.mark.promise
def test_a_study_marks_them_wherever_it_speaks_of_them(study):
    table = pd.read_csv(study / "study.csv").set_index("config")["verdict"]
    assert "TRANSDUCTIVE" not in table["plain"]
    assert table["self_trained"].endswith("; TRANSDUCTIVE")
    assert table["pretrained"].endswith("; TRANSDUCTIVE")
    marks = json.loads((study / "results.json").read_text())["transductive"]
    assert marks.keys() == {"self_trained", "pretrained"}
    assert "learns from labels that it makes up for some rows to predict, of which" in marks["self_trained"]
    assert "learns from the pixels of rows to predict, of which" in marks["pretrained"]
    for name in ("study.md", "report.html", "methods.md", "checklist.md"):
        text = " ".join((study / name).read_text().split())
        assert "learns from the pixels of rows to predict, of which" in text, name
    assert "took no part" not in (study / "methods.md").read_text()
    assert cli.main(["bundle", str(study), f"--output={study / 'bundle'}"]) == 0
    assert "TRANSDUCTIVE: pretrained" in (study / "bundle" / "README.md").read_text()


@pytest.mark.promise
def test_each_of_them_predicts_something_else(study):
    logits = {}
    for name in ("plain", "self_trained", "pretrained"):
        frame = Study.open(study).members(name)[0].run.read_csv("predictions.csv", (), ("logit_",))
        logits[name] = frame.sort_values("filename")["logit_0"].to_numpy(float)
    assert np.abs(logits["plain"] - logits["self_trained"]).max() > 0.01
    assert np.abs(logits["plain"] - logits["pretrained"]).max() > 0.01


@pytest.mark.promise
def test_a_run_says_so_and_a_plain_one_does_not(noisy, tmp_path):
    marked = train(noisy, tmp_path / "marked", PROBE, SELF_TRAINED)
    metrics = json.loads(marked.path("metrics.json").read_text())
    assert list(metrics["transductive"]) == ["base"]
    assert metrics["transductive"]["base"] in metrics["warnings"]
    plain = json.loads(train(noisy, tmp_path / "plain", PROBE).path("metrics.json").read_text())
    assert plain["transductive"] == {}
    assert not [line for line in plain["warnings"] if "TRANSDUCTIVE" in line]


@pytest.mark.promise
@pytest.mark.parametrize("head", [(), (PROBE, "--config.finetune.from_probe=True")], ids=["own head", "probe"])
def test_training_begins_with_the_pretrained_stages(noisy, tmp_path, head):
    frozen = ("--config.finetune.batch_norm=frozen_stats",)
    run = train(noisy, tmp_path / "run", *head, PRETRAINED, *STILL, *frozen)
    best = BestModel(run, 2).variables
    seen: dict = {kind: {k: v for k, v in best[kind].items() if k != HEAD} for kind in ("params", "batch_stats")}
    found = probes.checkpoints.restore(run.path(probes.PRETRAINED), seen)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, seen)
    random = BestModel(train(noisy, tmp_path / "random", *head, *STILL, *frozen), 2).variables
    kernel = jax.tree.leaves({k: v for k, v in random["params"].items() if k != HEAD})
    assert max(np.abs(x - y).max() for x, y in zip(kernel, jax.tree.leaves(seen["params"]), strict=True)) > 1e-3


def prepared_of(root: pathlib.Path, *flags: str):
    config = load_config("configs/base.py", [f"--config.data.root={root}", *FLAGS, PROBE, *flags])
    return config, prepare(config)


def with_known(noisy: pathlib.Path, root: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """The same data where a row to predict is of a person who is judged, one of who trains, and one a copy of an image.

    And the files of the rows to predict that are left: the other picture of the copy's person is none of them.
    """
    splits = prepared_of(noisy)[1].splits
    names = [splits.frame["filename"].iloc[splits.rows(role)[0]] for role in (VALIDATION, TRAIN)]
    judged, trained = (pathlib.Path(name).stem for name in names)
    table = pd.read_csv(noisy / "all_labels.csv", dtype=str, keep_default_na=False).set_index("filename")
    *_, a, b, copy, of_copys_person, e, f = table.index
    assert table.loc[copy, "ID"] == table.loc[of_copys_person, "ID"]
    table.loc[a, "ID"], table.loc[b, "ID"] = table.loc[judged, "ID"], table.loc[trained, "ID"]
    shutil.copytree(noisy / "processed", root / "processed")
    images = root / "processed" / "processed"
    shutil.copy(images / f"{judged}.png", images / f"{copy}.png")
    table.reset_index().to_csv(root / "all_labels.csv", index=False)
    return root, [e, f]


def files_of(prepared, rows) -> set[str]:
    return {pathlib.Path(name).stem for name in prepared.table.rows["filename"].iloc[rows]}


def test_pretraining_sees_training_images_and_rows_of_nobody_with_a_label(noisy, tmp_path, monkeypatch):
    root, left = with_known(noisy, tmp_path / "data")
    config, prepared = prepared_of(root, PRETRAINED)
    seen = []
    monkeypatch.setattr(probes, "pretrain_once", lambda *args: seen.append(args[4]) or args[2])
    padded = dataclasses.replace(
        member := make_member(config, prepared), train_rows=np.pad(member.train_rows, (0, 3), constant_values=-1)
    )
    of_each = [(Run(tmp_path / "run", config), prepared, padded)]
    assert len(list(probes.fit_probes(of_each, config, Interruption()))) == 1
    train = prepared.splits.rows(TRAIN)
    assert len(prepared.splits.rows(PREDICT)) == 6
    assert files_of(prepared, seen[0]) == files_of(prepared, train) | set(left)
    assert len(seen[0]) == len(train) + 2


def test_labels_are_made_up_for_rows_of_nobody_with_a_label(noisy, tmp_path, monkeypatch):
    root, left = with_known(noisy, tmp_path / "data")
    config, prepared = prepared_of(root, SELF_TRAINED, "--config.unlabelled.confidence=0.0")
    asked = []
    make_up = ProbeData.make_up
    monkeypatch.setattr(ProbeData, "make_up", lambda *args: asked.append(args[3]) or make_up(*args))
    of_each = [(Run(tmp_path / "run", config), prepared, make_member(config, prepared))]
    (fitted,) = probes.fit_probes(of_each, config, Interruption())
    assert files_of(prepared, asked[0]) == set(left)
    assert fitted.num_made_up == 2
    assert "made up for 2 rows to predict" in str(fitted)


def test_a_quick_look_is_quick_here_too():
    config = load_config("configs/transductive/pretrained.py")
    assert shortened(config).unlabelled.pretrain_epochs == 20
    assert shortened(load_config("configs/from_scratch.py")).unlabelled.pretrain_epochs == 0


def test_an_estimate_counts_pretraining(noisy):
    config, prepared = prepared_of(noisy, PRETRAINED)
    num_images = len(prepared.splits.rows(TRAIN)) + 6
    assert passes_of_pretraining(config, prepared) == pytest.approx(2 * num_images * 2 * 0.65**2 * 3)
    assert passes_of_pretraining(prepared_of(noisy)[0], prepared) == 0


@pytest.mark.parametrize(
    ("flags", "change", "said"),
    [
        ((SELF_TRAINED,), lambda table: table[table["SEX"] != ""], "there are no rows to predict"),
        (
            ("--config.unlabelled.self_training=people",),
            lambda table: table.assign(SEX=np.where(table["SEX"] != "", np.arange(len(table)) % 2, "")),
            "50 people have images of several classes; 'images'",
        ),
        ((SELF_TRAINED,), lambda table: table.assign(ID="1000"), "every row to predict is of a person"),
    ],
    ids=["nothing to learn from", "people of several classes", "people with labels"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(noisy, tmp_path, flags, change, said):
    table = pd.read_csv(noisy / "all_labels.csv", dtype=str, keep_default_na=False)
    (tmp_path / "processed").symlink_to(noisy / "processed")
    change(table).to_csv(tmp_path / "all_labels.csv", index=False)
    with pytest.raises(ConfigError, match=said):
        prepared_of(tmp_path, *flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--config.model.name=cnn", "--config.model.batch_norm=False"), "networks of stages of maps"),
        (("--config.data.image_size=4",), "its views have 3 x 3 pixels"),
    ],
)
def test_a_network_that_cannot_be_pretrained_is_refused(noisy, tmp_path, capsys, flags, said):
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *FLAGS, *flags, PRETRAINED]
    assert cli.main([*args, f"--workdir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
