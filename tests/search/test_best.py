"""`best`: ways are tried within a budget, judged, and what comes of it can be used."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictures import draw_picture
from tiny_network import list_tiny

import fpclass
from fpclass import cli
from fpclass.common.console import Interrupted, Interruption, interruptible
from fpclass.common.threads import Background
from fpclass.data.recognise import recognise
from fpclass.errors import WeightsError
from fpclass.experiment import load_config, override, propose
from fpclass.experiment.propose import PRETRAINED, Short
from fpclass.models.pretrained import source
from fpclass.search import final, halving
from fpclass.search.commands import plan
from fpclass.search.final import chosen_by_others, chosen_of
from fpclass.search.halving import Budget, is_clearly_worse, left_out
from fpclass.search.portfolio import load_ways, make_portfolio
from fpclass.stats.cohort import Cohort
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.ensembling import Ensemble
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study

FLAGS = ("--label=SEX", "--group=ID", "--folds=2", "--config.evaluate.num_resamples=50")
SMALL = ("--config.data.image_size=(24,20)", "--config.model.conv_features=(4,8)", "--config.train.num_epochs=1")

SMALL_IMAGES = ["probe", "tuned_probe"]
"""The ways of a named network for images that are smaller than those of its weights."""
WITHOUT_WEIGHTS = ["random_probe", "scratch", "scratch_wide"]


@pytest.fixture
def no_weights(monkeypatch):
    def refuse(name: str) -> None:
        raise WeightsError(f"{name}: no network")

    monkeypatch.setattr(source, "require", refuse)


@pytest.mark.promise
def test_the_whole_way_without_weights_and_once_more(noisy, tmp_path, no_weights, capsys):
    folder = tmp_path / "best"
    args = ["best", str(noisy), "--minutes=10", *FLAGS, *SMALL, f"--workdir={folder}"]
    assert cli.main(args) == 0
    said = capsys.readouterr().out
    assert "a small network from random weights, because pretrained ones cannot be had" in said
    study = Study.open(folder)
    assert study.names == WITHOUT_WEIGHTS
    assert set(study.configs) == set(WITHOUT_WEIGHTS), "no learning curve of random weights"
    assert "best so far: random_probe" in said
    drawn = study.configs["random_probe"].model
    assert (drawn.head, drawn.probe_pooling, drawn.weights) == ("probe", "both", "")
    weights = json.loads((folder / "ensemble.json").read_text())["weights"]
    assert weights.keys() <= set(WITHOUT_WEIGHTS)
    assert "expect of new people: accuracy" in said
    assert "- labels: " in said
    table = (folder / "study.csv").stat().st_mtime_ns, (folder / "final/log.jsonl").stat().st_mtime_ns

    assert cli.main(args) == 0, "nothing is trained or judged again"
    assert "is trained" in capsys.readouterr().out
    assert table == ((folder / "study.csv").stat().st_mtime_ns, (folder / "final/log.jsonl").stat().st_mtime_ns)

    keys = {"data.image_size": (24, 20), "model.conv_features": (4, 8), "train.num_epochs": 1}
    keys["evaluate.num_resamples"] = 50
    again = fpclass.best(noisy, minutes=10, label="SEX", group="ID", folds=2, workdir=folder, quiet=True, **keys)
    assert again.folder == folder
    assert table[0] == (folder / "study.csv").stat().st_mtime_ns

    image = str(next(noisy.rglob("*.png")))
    for each in (folder, folder / "final"):
        assert cli.main(["predict", image, f"--workdir={each}", f"--output={tmp_path / 'new.csv'}"]) == 0
        row = pd.read_csv(tmp_path / "new.csv").iloc[0]
        assert row["probability_0"] + row["probability_1"] == pytest.approx(1, abs=1e-5)
        assert "fitted on" in row["calibration"]


@pytest.mark.promise
@pytest.mark.slow
def test_probes_on_weights_that_are_at_hand_with_their_learning_curve(noisy, tmp_path, monkeypatch, capsys):
    list_tiny(tmp_path / "cache", monkeypatch)
    folder = tmp_path / "best"
    small = ("--model=tiny", "--size=32", "--config.train.num_epochs=1")
    assert cli.main(["best", str(noisy), "--minutes=10", *FLAGS, *small, f"--workdir={folder}"]) == 0
    said = capsys.readouterr().out
    study = Study.open(folder)
    assert study.names == SMALL_IMAGES
    assert {"probe@people-0250", "probe@people-0500", "probe@people-0750"} < set(study.configs)
    assert study.configs["tuned_probe"].finetune.freeze_before == "layer2_0", "behind the second stage that is read"
    assert "- more people? " in said
    weights = json.loads((folder / "ensemble.json").read_text())["weights"]
    assert weights[chosen_of(study)]
    beside = re.search(
        r"out of fold, accuracy: ensemble (\S+), one way chosen by the other folds 0\.\d+; the one", said
    )
    if sum(weight > 0 for weight in weights.values()) == 1:
        assert f"the ensemble is of {chosen_of(study)} alone" in said
    else:
        assert re.search(rf"^ensemble +{re.escape(beside[1])} ", said, re.MULTILINE), "the table has it by folds, too"


@pytest.mark.promise
def test_ctrl_c_ends_the_program_with_what_is_trained(noisy, tmp_path):
    """The real program: the first way is trained, and the second one has begun."""
    folder = tmp_path / "best"
    args = ["best", str(noisy), "--minutes=30", *FLAGS, *SMALL[:2], "--config.train.num_epochs=40"]
    command = [sys.executable, "-m", "fpclass", *args, f"--workdir={folder}"]
    nothing = {"FPCLASS_CACHE": str(tmp_path / "cache"), "FPCLASS_OFFLINE": "1"}
    lines = []
    with subprocess.Popen(command, env={**os.environ, **nothing}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if re.search(r"\] scratch +2 members", line):
                process.send_signal(signal.SIGINT)
    said = "".join(lines)
    assert process.returncode == 0, said
    assert re.search("scratch_wide +- +left out: stopped before its end; the same command goes on", said)
    assert json.loads((folder / "ensemble.json").read_text())["weights"].keys() <= {"random_probe", "scratch"}
    assert not (folder / "final").exists(), "nothing more is begun"


@pytest.mark.promise
def test_the_commands_of_the_page(noisy, tmp_path, no_weights, monkeypatch, capsys):
    """Word for word, but for the smallest network; the second one goes on where the first one ended."""
    shutil.copytree(noisy, tmp_path / "photos")
    csv = next((tmp_path / "photos").glob("*.csv"))
    table = pd.read_csv(csv, dtype=str).rename(columns={"SEX": "species", "ID": "animal"})
    table.to_csv(csv, index=False)
    monkeypatch.chdir(tmp_path)
    page = (pathlib.Path(__file__).parents[2] / "docs" / "best.md").read_text(encoding="utf-8")
    commands = [line.split()[1:] for line in page.split("```")[1].split("\n") if line.startswith("fpclass best")]
    assert len(commands) == 2
    for command in commands:
        assert cli.main([*command, "--folds=2", *SMALL, FLAGS[-1]]) == 0
    assert "is trained" in capsys.readouterr().out
    assert pathlib.Path("runs/best-photos/final/NOTE.txt").is_file()


@pytest.mark.promise
def test_a_budget_that_ends_leaves_what_is_trained(noisy, tmp_path, no_weights, monkeypatch, capsys):
    """The second way has its first folds when time is over: it is left out, and no later command calls it a failure."""
    train, names = halving.train_config, []

    def train_and_be_late(study, name, *arguments) -> bool:
        names.append(name)
        if len(names) == 4:  # the other fold of the one that is better on the first two
            monkeypatch.setattr(Budget, "left", property(lambda _: 0.0))
        return train(study, name, *arguments)

    monkeypatch.setattr(halving, "train_config", train_and_be_late)
    monkeypatch.setattr(halving, "left_out", lambda *arguments: {})  # though one epoch is worse than no training
    folder = tmp_path / "best"
    args = ["best", str(noisy), "--minutes=10", *FLAGS, "--folds=3", *SMALL, f"--workdir={folder}"]
    assert cli.main(args) == 0
    assert names[:3] == WITHOUT_WEIGHTS
    whole, other = (names[3], "scratch" if names[3] == "scratch_wide" else "scratch_wide")
    said = capsys.readouterr().out
    assert f"more time? left out for want of it: {other}" in said
    assert cli.main(["evaluate", str(folder)]) == 0
    report = (folder / "study.md").read_text()
    assert "left out: no time, it takes about" in report
    assert "FAILED" not in report
    assert json.loads((folder / "ensemble.json").read_text())["weights"].keys() <= {"random_probe", whole}
    assert cli.main(["evaluate", str(folder / "final")]) == 2
    assert "learnt from all labelled images" in capsys.readouterr().err


@pytest.mark.parametrize("is_decoding", [False, True])
def test_what_time_was_over_for_is_said_to_be_stopped(study, tmp_path, monkeypatch, capsys, is_decoding):
    """And not that its members were there, be it as they train or as their images are decoded."""

    def stop(*_: Any) -> bool:
        if is_decoding:
            raise Interrupted(143)
        return False

    there = Study.open(shutil.copytree(study, tmp_path / "study"))
    name, budget = there.names[1], Budget(1)
    there.members(name)[0].run.path("predictions.csv").unlink()
    monkeypatch.setattr(halving, "train_config", stop)
    data: Any = SimpleNamespace(of=lambda name: None)
    with halving.BudgetProgress(there, budget) as progress, Background() as background:
        state = halving._Search(there, data, budget, Interruption(), progress, background, {name: 1.0}, {})
        assert not state.train(name, range(3))
        assert state.pace == 1, "nothing was learnt of how long it takes"
    out = capsys.readouterr().out
    assert re.fullmatch(rf"\[2/2\] {name} +stopped after .+: 5 of 6 members are trained\n", out)


def test_too_small_a_budget_says_what_it_takes(noisy, tmp_path, no_weights, monkeypatch, capsys):
    monkeypatch.setattr(halving, "time_all", lambda study, costs: dict.fromkeys(costs, 600.0))
    args = ["best", str(noisy), "--minutes=1", *FLAGS, *SMALL, f"--workdir={tmp_path / 'best'}"]
    assert cli.main(args) == 2
    assert "--minutes=1 is too little: the quickest way, random_probe, takes about 10 min here; give --minutes=12" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("arguments", "words"), [((), "which images?"), (("nowhere",), "nowhere")])
def test_without_images_it_says_so(arguments, words, capsys):
    assert cli.main(["best", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_ways_that_suit_images(noisy, monkeypatch):
    monkeypatch.setattr(source, "require", lambda name: None)
    monkeypatch.setattr(source, "in_cache", lambda entry: "there" if entry.name == "vgg16.caffe_notop" else None)
    flags = [f"--config.data.root={noisy}", "--config.data.label_column=SEX"]
    portfolio = make_portfolio(flags, Short())
    names = [way.name for way in portfolio.ways]
    assert names[0] == "probe"
    assert "random_probe" not in names, "weights are better than none"
    assert portfolio.ways[0].file == PRETRAINED
    assert names[-2:] == ["tuned_probe", "scratch"]
    assert "cut_and_tuned" in names
    assert "probe_centre" not in names, "grey scans are of what fills them"
    assert [way.name for way in make_portfolio(flags, Short(model="resnet50")).ways] == SMALL_IMAGES
    assert portfolio.ways[0].values["data.image_size"] == (224, 224), "small images are enlarged"


def test_of_many_images_nearly_all_of_the_network_is_tuned_on_three_folds(noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "require", lambda name: None)
    flags = [f"--config.data.root={noisy}", "--config.data.label_column=SEX"]
    table = recognise(load_config("configs/base.py", flags).data, {"root", "label_column"})
    monkeypatch.setattr(propose, "MANY", table.num_labelled)
    ways = make_portfolio(flags, Short())
    names = [way.name for way in ways.ways]
    assert "tuned_many" in names
    assert not {"cut_and_tuned", "probe_centre", "probe_larger"} & set(names)
    assert ways.is_of_many
    assert plan(ways, tmp_path, None).num_folds == 3
    assert plan(ways, tmp_path, 4).num_folds == 4
    tuned = load_ways(ways)["tuned_many"]
    assert (tuned.finetune.freeze_before, tuned.train.num_epochs) == ("block3", 2)
    assert (tuned.data.image_size, load_ways(ways)["probe"].data.image_size) == ((144, 144), (224, 224))
    assert next(way.about for way in ways.ways if way.name == "tuned_many").endswith("at 144 x 144 pixels")
    sized = make_portfolio(flags, Short(size="64"))
    assert load_ways(sized)["tuned_many"].data.image_size == (64, 64)
    assert not next(way.about for way in sized.ways if way.name == "tuned_many").endswith("pixels")
    monkeypatch.setattr(propose, "MANY", table.num_labelled + 1)
    fewer = make_portfolio(flags, Short())
    assert "tuned_many" not in {way.name for way in fewer.ways}
    assert plan(fewer, tmp_path, None).num_folds == 5
    poolings = [load_ways(each)["probe"].model.probe_pooling for each in (ways, fewer)]
    assert poolings == ["moments", "both"], "covariances of many would not fit into memory"
    monkeypatch.setattr(propose, "MANY", 1)
    other = make_portfolio(flags, Short(model="resnet18", size="64"))
    assert [way.name for way in other.ways] == SMALL_IMAGES, "nobody knows what to tune of another network"


@pytest.mark.parametrize(("splits", "num_folds"), [(("train", "val"), 0), (("",), 2)])
def test_of_many_images_there_are_no_more_folds_than_suit_them(tmp_path, monkeypatch, capsys, splits, num_folds):
    """None where the data bring their validation images; and no more than a class has people or images."""
    monkeypatch.setattr(source, "require", lambda name: None)
    monkeypatch.setattr(propose, "MANY", 2)
    for split, (name, count) in itertools.product(splits, {"cat": 2, "dog": 6}.items()):
        folder = tmp_path / "pets" / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            draw_picture(zlib.crc32(f"{split} {name} {i}".encode()), (40, 50)).save(folder / f"{i}.png")
    portfolio = make_portfolio([f"--config.data.root={tmp_path / 'pets'}"], Short())
    assert portfolio.is_of_many
    assert plan(portfolio, tmp_path / "study", None).num_folds == num_folds
    assert ("2 folds in place of 3: class 'cat' has no more to divide" in capsys.readouterr().out) == bool(num_folds)


def test_another_head_is_none_to_train_on_from(noisy, monkeypatch, capsys):
    monkeypatch.setattr(source, "require", lambda name: None)
    flags = [f"--config.data.root={noisy}", "--config.data.label_column=SEX", "--config.model.head=gap"]
    assert "tuned_probe" not in load_ways(make_portfolio(flags, Short()))
    assert "tuned_probe is none here: model.head is 'gap'" in capsys.readouterr().out


def test_photographs_have_a_second_look_at_their_middle(noisy, monkeypatch):
    monkeypatch.setattr(source, "require", lambda name: None)
    monkeypatch.setattr("fpclass.search.portfolio.recognise", lambda *args: replace(recognise(*args), is_colour=True))
    flags = [f"--config.data.root={noisy}", "--config.data.label_column=SEX"]
    ways = make_portfolio(flags, Short())
    assert [way.name for way in ways.ways][:2] == ["probe", "probe_centre"]
    configs = load_ways(ways)
    assert (configs["probe_centre"].data.crop, configs["probe_centre"].data.image_size) == ("centre", (224, 224))
    assert {config.predict.averaging for config in configs.values()} == {"logits"}
    given = make_portfolio(
        [*flags, "--config.predict.averaging=probabilities", "--config.data.crop=foreground"], Short()
    )
    assert load_ways(given)["probe"].predict.averaging == "probabilities"
    assert "probe_centre" not in {way.name for way in given.ways}, "what was given holds for all"
    assert configs["probe"].model.probe_pooling == "both"
    given = make_portfolio([*flags, "--config.model.probe_pooling=covariances"], Short())
    assert load_ways(given)["probe"].model.probe_pooling == "covariances"


@pytest.mark.parametrize("model", ["resnet18", "vit_b_16"])
def test_every_way_fits_the_network(noisy, monkeypatch, model):
    monkeypatch.setattr(source, "require", lambda name: None)
    portfolio = make_portfolio([f"--config.data.root={noisy}", "--config.data.label_column=SEX"], Short(model=model))
    configs = load_ways(portfolio)
    assert list(configs) == SMALL_IMAGES
    assert configs["tuned_probe"].finetune.freeze_before in {"layer3_0", "block_9"}


def test_a_given_size_is_that_of_all_ways(noisy, monkeypatch):
    monkeypatch.setattr(source, "require", lambda name: None)
    flags = [f"--config.data.root={noisy}", "--config.data.label_column=SEX"]
    ways = make_portfolio(flags, Short(size="64")).ways
    assert "probe_larger" not in {way.name for way in ways}
    assert {way.name for way in ways} >= {"probe", "cut_and_tuned"}


def test_who_is_clearly_worse_is_a_matter_of_people():
    rng = np.random.default_rng(0)
    groups = np.repeat([f"p{i}" for i in range(40)], 10)
    best = rng.random(400) < 0.8
    same, worse = rng.random(400) < 0.79, rng.random(400) < 0.5
    assert not is_clearly_worse(same, best, groups)
    assert is_clearly_worse(worse, best, groups)
    of_two = np.where(np.isin(groups, ["p0", "p1", "p2"]), False, best)  # all of the loss is three people's
    assert is_clearly_worse(of_two, best, np.arange(400)), "were each image somebody else's"
    assert not is_clearly_worse(of_two, best, groups)


def test_it_is_left_out_only_where_an_ensemble_has_no_use_for_it(study, monkeypatch):
    there = Study.open(study)
    first, second = there.names
    labels = np.arange(200) % 2
    images = pd.DataFrame({"filename": map(str, range(200)), "label": labels, "unit": map(str, range(200))})
    good = np.where(np.eye(2)[labels] > 0, -0.1, -2.35)

    def judged(study, name, folds):
        return images, good if name == first else others

    monkeypatch.setattr(halving, "judged_images", judged)
    others = good[:, ::-1]
    assert left_out(there, [second], {}).keys() == {second}
    # The best is sure and wrong of the first 60, where the other is right; of the last 120 that is a little wrong.
    rows = np.arange(200)[:, None]
    good = np.where(rows < 60, good[:, ::-1], good)
    others = np.where(rows < 80, good[:, ::-1], good)
    others = np.where(rows < 60, others, np.where(rows >= 80, good[:, ::-1] / 3, good))
    assert is_clearly_worse(others.argmax(1) == labels, good.argmax(1) == labels, images["unit"].to_numpy(str))
    assert not left_out(there, [second], {})


def _saying(labels: np.ndarray, right: np.ndarray, sure: float = 2.0) -> np.ndarray:
    """Log-probabilities [N, 2] that are right where they should be, and as sure everywhere."""
    logits = np.where((labels[:, None] == np.arange(2)) == right[:, None], sure, 0.0)
    return log_softmax(logits)


def test_the_one_network_is_the_best_of_those_in_the_ensemble_of_all_folds_and_calibrated(study, monkeypatch):
    """The second is better, but not in the first fold, and far too sure; one without a weight has no say."""
    there = Study.open(study)
    first, second, *_ = there.names
    rows, labels = np.arange(200), np.arange(200) // 2 % 2
    cohort = Cohort(labels, rows, rows % 2)
    said = {
        first: _saying(labels, rows // 2 % 10 < 7),
        second: _saying(labels, rows // 2 % 25 < np.where(rows % 2 == 0, 17, 20), sure=30.0),
        "neither": _saying(labels, rows >= 0),
    }

    def found(study: Study, names: Iterable[str]) -> OutOfFold:
        return OutOfFold([], cohort, {name: said[name][None] for name in names}, cohort)

    monkeypatch.setattr("fpclass.search.final.collect", found)
    for metric in ("accuracy", "log_loss"):
        settings = {
            name: override(config, [f"--config.study.metric={metric}"], is_study=True)
            for name, config in there.configs.items()
        }
        scored = replace(there, configs=settings)
        for weights, chosen in (
            ({first: 0.5, second: 0.5, "neither": 0.0}, second),
            ({first: 0.7, second: 0.3}, second),
            ({first: 1.0, second: 0.0}, first),
        ):
            read = {"weights": weights, "classes": ["0", "1"], "class_names": ["0", "1"]}
            monkeypatch.setattr("fpclass.search.final.files.read_object", lambda path, read=read, **keys: read)
            assert chosen_of(scored) == chosen, metric


def test_beside_the_ensemble_stands_what_the_other_folds_would_have_chosen(study, monkeypatch):
    """Each of two is right in one fold alone, which its own images must not tell."""
    rows, labels = np.arange(300), np.arange(300) % 2
    cohort = Cohort(labels, rows, rows // 100)
    said = {
        "a": _saying(labels, np.where(rows < 100, rows % 10 < 9, rows % 10 < 6)),
        "b": _saying(labels, np.where(rows < 100, rows % 10 < 5, rows % 10 < 7)),
        "neither": _saying(labels, rows >= 0),
    }
    halves = {"a": 0.5, "b": 0.5, "neither": 0.0}
    ensemble = Ensemble(halves, (halves, halves, {"a": 1.0, "b": 0.0}), said["a"])
    by_others = chosen_by_others(ensemble, said, cohort, "accuracy")
    np.testing.assert_array_equal(by_others, np.where((rows < 100)[:, None], said["b"], said["a"]))

    there = Study.open(study)
    found = OutOfFold([], cohort, {name: values[None] for name, values in said.items()}, cohort)
    monkeypatch.setattr(final, "collect", lambda *_: found)
    monkeypatch.setattr(final, "cross_fitted_ensemble", lambda *_, **__: ensemble)
    monkeypatch.setattr(final.files, "read_object", lambda *_, **__: {"ensemble": {"weights": halves}})
    judged, of_whom, *_ = final._by_members(there, "accuracy")
    assert of_whom is cohort
    np.testing.assert_array_equal(judged[final.ONE][0].argmax(1), by_others.argmax(1))


def test_time_that_is_over_asks_to_stop_until_the_end_of_it():
    interruption = Interruption()
    with interruption.expiring(0.01):
        time.sleep(0.2)
        assert interruption.signal_number
    assert not interruption.signal_number
    with interruption.expiring(60):
        interruption.signal_number = signal.SIGINT
    assert interruption.signal_number == signal.SIGINT, "somebody did ask"


def test_ctrl_c_after_the_time_is_over_ends_nothing_at_once():
    with interruptible() as interruption, interruption.expiring(0.01):
        time.sleep(0.2)
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal_number == signal.SIGINT
