"""The estimate before a study: what is counted, by hand; a line that is said; nothing where nothing is left to do."""

from __future__ import annotations

import re

import pytest
from test_study import BASELINE, SMALL, study_args

from fpclass import cli
from fpclass.experiment import load_config
from fpclass.run.prepare import prepare
from fpclass.study import estimate as estimates
from fpclass.study.scrutiny.learning_curve import with_curves
from fpclass.study.study import assemble
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
    count = estimates.count_passes(model, config, plan, shares, prepared, num_members)
    return count, len(prepared.splits.rows("train")), len(prepared.splits.rows("validation"))


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
    assert "little to compute for 12 trainings of 2 configs" in estimates.estimate(study, prepared, names)
    monkeypatch.setattr(estimates, "LITTLE_FLOP", 0)
    timed = []
    monkeypatch.setattr(estimates, "time_forward", lambda *_: timed.append(1) or MINUTE)
    text = estimates.estimate(study, prepared, names)
    assert len(timed) == 1, "both have the same network"
    said = re.match(r"estimate: about ([\d.]+) days here for 12 trainings of 2 configs", text)
    num_train, num_judged = (len(prepared.splits.rows(role)) for role in ("train", "validation"))
    expected = 6 * sum(num_train * epochs * 3 + num_judged * (1 + epochs / 2) for epochs in (4, 40)) / 1440
    assert said
    assert float(said[1]) == pytest.approx(expected, abs=0.06)
    assert "the longest: long " in text
    assert estimates.estimate(study, prepared, []) == ""
    # A quarter, a half and three quarters of the people are 1.5 times as many images again.
    text = estimates.estimate(study := with_curves(study, []), prepared, list(study.configs)[2:])
    said = re.match(r"estimate: about ([\d.]+) days here for 18 trainings of 3 configs", text)
    assert said, text
    assert float(said[1]) == pytest.approx(6 * (1.5 * num_train * 4 * 3 + 3 * num_judged * 3) / 1440, abs=0.06)


def test_a_batch_is_timed(blobs):
    config = config_of(blobs)
    model = build_network(config, 2)
    flop = estimates.count_flop(model, config)
    assert 24 * 20 * 4 * 25 < flop < 1e6, "a convolution of 5 x 5 and four channels, and three dense layers"
    assert 0 < estimates.time_forward(model, config, flop) < 0.1


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
