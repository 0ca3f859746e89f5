"""The estimate before a study: what is counted, by hand; a line that is said; nothing where nothing is left to do."""

from __future__ import annotations

import dataclasses
import itertools
import re
import types

import pytest
from drawn_recipes import stand_in_weights
from test_study import BASELINE, SMALL, study_args

from fpclass import cli
from fpclass.experiment import load_config
from fpclass.run.prepare import prepare
from fpclass.study import estimate as estimates
from fpclass.study import run as studies
from fpclass.study.plan import assemble
from fpclass.study.scrutiny.learning_curve import with_curves
from fpclass.train.finetune import make_plan
from fpclass.train.task import build_network

BLOCKS = ("--config.model.name=blocks", "--config.model.conv_features=(4,8)", "--config.model.dense_features=()")
MINUTE = 60.0


def config_of(data, *overrides):
    return load_config(BASELINE, [f"--config.data.root={data}", *SMALL, *overrides])


def passes(config, shares_of_phases, num_members=1):
    model, prepared = build_network(config, 2), prepare(config)
    plan = make_plan(model, config)
    shares = dict(zip(plan.num_frozen, shares_of_phases, strict=True))
    once, training = estimates.count_passes(model, config, plan, shares, prepared, num_members)
    assert once == 0
    return training, len(prepared.splits.rows("train")), len(prepared.splits.rows("validation"))


def test_passes_are_those_of_the_plan(blobs):
    """4 epochs, evaluated after the 1st and every 2nd: three passes for what learns, one for what is frozen."""
    plain, num_train, num_judged = passes(config_of(blobs), [0.0], num_members=5)
    assert plain == 5 * (num_train * 4 * 3 + num_judged * 3)
    gradual = ("--config.finetune.freeze_before=head", "--config.finetune.unfreeze=(('block2',3),)")
    found, num_train, num_judged = passes(config_of(blobs, *BLOCKS, *gradual), [1.0, 0.25])
    assert found == num_train * (3 * (1 + 2 * 0) + 1 * (1 + 2 * 0.75)) + num_judged * 3


def test_shares_grow_to_all_of_the_network(blobs):
    config = config_of(blobs, *BLOCKS)
    shares = estimates.shares_of(build_network(config, 2), config, {0, 1, 2})
    assert shares[0] == 0 < shares[1] < shares[2] <= 1
    assert estimates.shares_of(build_network(config_of(blobs), 2), config, {0}) == {0: 0.0}, "it has no stages"


def test_a_study_says_how_long_it_will_take(blobs, tmp_path, monkeypatch):
    by_name = {}
    for name, epochs in (("short", 4), ("long", 40)):
        by_name[name] = config_of(blobs, f"--config.name={name}", f"--config.train.num_epochs={epochs}")
    common = {"num_folds": 3, "num_seeds": 2, "baseline": "short", "compare_splits": False}
    study = assemble(tmp_path, by_name, **common)
    prepared, names = prepare(study.configs["short"]), list(study.configs)
    assert "little to compute for 12 trainings of 2 configs" in estimates.estimate(study, prepared, names).text
    monkeypatch.setattr(estimates, "LITTLE_FLOP", 0)
    timed = []
    monkeypatch.setattr(estimates, "time_forward", lambda *_: timed.append(1) or MINUTE)
    text = estimates.estimate(study, prepared, names).text
    assert len(timed) == 1, "both have the same network"
    said = re.match(r"estimate: about ([\d.]+) days here for 12 trainings of 2 configs", text)
    num_train, num_judged = (len(prepared.splits.rows(role)) for role in ("train", "validation"))
    expected = 6 * sum(num_train * epochs * 3 + num_judged * (1 + epochs / 2) for epochs in (4, 40)) / 1440
    assert said
    assert float(said[1]) == pytest.approx(expected, abs=0.06)
    assert "the longest: long " in text
    assert estimates.estimate(study, prepared, []).text == ""
    # A quarter, a half and three quarters of the people are 1.5 times as many images again.
    text = estimates.estimate(study := with_curves(study, []), prepared, list(study.configs)[2:]).text
    said = re.match(r"estimate: about ([\d.]+) days here for 18 trainings of 3 configs", text)
    assert said, text
    assert float(said[1]) == pytest.approx(6 * (1.5 * num_train * 4 * 3 + 3 * num_judged * 3) / 1440, abs=0.06)


def test_a_batch_is_timed(blobs):
    config = config_of(blobs)
    model = build_network(config, 2)
    flop = estimates.count_flop(model, config)
    assert 24 * 20 * 4 * 25 < flop < 1e6, "a convolution of 5 x 5 and four channels, and three dense layers"
    assert 0 < estimates.time_forward(model, config, flop) < 0.1


def test_features_are_timed_as_every_core_computes_them(blobs, tmp_path, monkeypatch):
    study = assemble(tmp_path, {"a": config_of(blobs)}, num_folds=3, num_seeds=1, baseline="a", compare_splits=False)
    model, alone = build_network(study.configs["a"], 2), []
    monkeypatch.setattr(estimates, "time_forward", lambda *args: alone.append(len(args) == 3) or 3.0 / len(args))
    costs = {"a": estimates.Cost(model, 3, once=100.0, training=10.0, flop=1.0)}
    assert estimates.time_all(study, costs) == {"a": pytest.approx(100 * 0.75 + 10 * 1.0)}
    assert alone == [True, False]
    assert estimates.time_all(study, {"a": dataclasses.replace(costs["a"], once=0.0)}) == {"a": 10.0}


@pytest.mark.promise
def test_features_cost_once_and_nothing_where_they_are_on_disk(blobs, monkeypatch):
    """Of a probe and of a network behind frozen stages; only what is lowered is looked at, nothing is computed."""
    stand_in_weights(monkeypatch)
    size = "--config.data.image_size=(32,32)"
    named = [f"--config.data.{key}" for key in ("source=csv", "label_column=SEX", "group_column=ID", "channels=1")]
    small = [f"--config.data.root={blobs}", *named, size]
    probe = load_config("configs/transfer/probe.py", small)
    linear = load_config("configs/transfer/linear_probe.py", small)
    prepared = prepare(probe)
    model = build_network(probe, 2)
    once, fits = estimates.count_of_probe(model, probe, prepared, 3, flop=1.0)
    assert once == 2 * len(prepared.table), "the image and its mirror image"
    num_train = len(prepared.splits.rows("train"))
    assert fits == 3 * estimates.FIT_FLOP * num_train**2
    for config, num_views in ((probe, 1), (linear, 2)):
        model = build_network(config, 2)
        first = estimates.OnDisk(prepared)
        assert first.missing_share(model, config) == 1
        assert first.missing_share(model, config) == 0, "the one before computes them"
        assert len(first._known) == num_views
        for path in first._known:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        assert estimates.OnDisk(prepared).missing_share(model, config) == 0


class Study:
    """Stands for one of two configs: a probe, and a network that is trained."""

    def __init__(self, data):
        probe = load_config(BASELINE, [f"--config.data.root={data}", *BLOCKS, "--config.model.head=probe"])
        self.configs = {"probe": probe, "long": config_of(data, "--config.name=long", "--config.train.num_epochs=40")}

    def members(self, name):
        return [types.SimpleNamespace(is_done=False)] * 5


def test_the_time_left_goes_by_work_and_not_by_epochs(blobs, capsys, monkeypatch):
    monkeypatch.setattr(studies, "duration", lambda seconds: f"{seconds:.0f}s")
    ticks = itertools.count()
    monkeypatch.setattr(studies.time, "perf_counter", lambda: float(next(ticks)))
    with studies.Progress(Study(blobs), {"probe": 1.0, "long": 100.0}) as progress:
        assert progress._bar.total == 5 + 5 * 40
        with progress.timed("probe"):
            for _ in range(5):
                progress.add(1, ())
    said = re.search(r"5 members in (\d+)s; about (\d+)s left", capsys.readouterr().out)
    assert said
    assert int(said[2]) == 100 * int(said[1])


def test_what_was_stopped_is_told_from_what_was_trained_before(blobs, capsys, monkeypatch):
    monkeypatch.setattr(studies, "accuracy_of", lambda member: 0.75)
    study = Study(blobs)
    with studies.Progress(study, {}) as progress:
        with progress.timed("probe"):
            progress.interrupted()
        monkeypatch.setattr(study, "members", lambda name: [types.SimpleNamespace(is_done=True)] * 5)
        with progress.timed("probe"):
            pass
        monkeypatch.setattr(study, "members", lambda name: [types.SimpleNamespace(is_done=i < 2) for i in range(5)])
        with progress.timed("long"):
            progress.add(2, ())
            progress.interrupted()
        with progress.timed("long"):
            progress.add(2, ())
    lines = [re.sub(r"\d+ s", "1 s", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "[1/2] probe  stopped after 1 s: 0 of 5 members are trained",
        "[1/2] probe  5 members were there",
        "[2/2] long   stopped after 1 s: 2 of 5 members are trained",
        "[2/2] long   2 of 5 members in 1 s; validation accuracy 0.750",
    ]


@pytest.mark.promise
def test_it_is_said_before_the_first_training_and_not_of_a_finished_study(blobs, tmp_path, capsys):
    args = study_args(blobs, tmp_path / "study", configs=(BASELINE,), folds=2, seeds=1)
    assert cli.main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    (position,) = (i for i, line in enumerate(lines) if line.startswith("estimate: "))
    assert "2 trainings of 1 configs" in lines[position]
    assert position < next(i for i, line in enumerate(lines) if line.startswith("[1/1] baseline"))
    assert cli.main(args) == 0
    assert "estimate" not in capsys.readouterr().out
