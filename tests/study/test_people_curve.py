"""`learning-curve`: shares of the people of every fold, nested, judged on the same images, resumed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from test_study import fails

from fpclass import cli
from fpclass.data.splits import share_mask
from fpclass.study.study import Study

SMALL = [
    "--config.data.image_size=(24,20)", "--config.model.conv_features=(4,)", "--config.model.dense_features=(4,)",
    "--config.train.num_epochs=2", "--config.evaluate.num_resamples=200",
]  # fmt: skip
CONFIG = "configs/footprints/exp04_early_stopping_dropout.py"


def arguments(blobs, folder, *more):
    shares = "--shares=0.5,0.75,1"
    flags = [f"--config={CONFIG}", "--folds=2", shares, f"--workdir={folder}", f"--config.data.root={blobs}"]
    return ["learning-curve", *flags, *SMALL, *more]


def test_shares_are_nested_and_stratified():
    groups = np.repeat([f"p{i}" for i in range(50)], 3)
    labels = np.repeat(np.arange(50) % 5 == 0, 3).astype(int)
    masks = [share_mask(groups, labels, share, "0/share") for share in (0.1, 0.3, 0.6, 1)]
    for small, large in itertools.pairwise(masks):
        assert (small <= large).all()
    assert masks[-1].all()
    for mask, per_class in zip(masks, ((4, 2), (12, 3), (24, 6), (40, 10)), strict=True):
        assert tuple(len(set(groups[mask & (labels == k)])) for k in (0, 1)) == per_class
        assert all(len(set(mask[groups == group])) == 1 for group in groups)


@pytest.mark.figures
def test_a_curve_over_people(blobs, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "curve"
    assert cli.main(arguments(blobs, folder)) == 0
    out = capsys.readouterr().out
    for words in ("about", "with 2 times as many people", "power law", "learning_curve.csv"):
        assert words in out
    study = Study.open(folder)
    assert [config.split.train_share for config in study.configs.values()] == [1, 0.75, 0.5]
    trained, validated = {}, {}
    for name, config in study.configs.items():
        for member in study.members(name):
            splits = member.run.read_csv("splits.csv")
            key = (config.split.train_share, member.fold)
            trained[key] = set(splits.loc[splits["role"].isin(["train", "selection"]), "unit"])
            validated[key] = splits.loc[splits["role"] == "validation", "filename"].tolist()
            assert len(set(splits.loc[splits["role"].isin(["train", "selection"]), "label"])) == 2
    for fold in (0, 1):
        assert trained[0.5, fold] < trained[0.75, fold] < trained[1, fold]
        assert validated[0.5, fold] == validated[0.75, fold] == validated[1, fold]
    frame = pd.read_csv(folder / "learning_curve.csv")
    points = frame[frame["kind"] == "trained"]
    assert points["num_people"].tolist() == [np.mean([len(trained[s, f]) for f in (0, 1)]) for s in (0.5, 0.75, 1)]
    table = pd.read_csv(folder / "out_of_fold.csv")
    for name, config in study.configs.items():
        of_config = table[table["config"] == name]
        right = (of_config["logit_1"] > of_config["logit_0"]) == of_config["label"]
        score = points.loc[points["share"] == config.split.train_share, "score"].item()
        assert score == pytest.approx(right.groupby(of_config["fold"]).mean().mean())
    assert frame["num_people"].max() == pytest.approx(2 * points["num_people"].max())
    assert (frame["score_low"] <= frame["score_high"]).all()
    assert json.loads((folder / "learning_curve.json").read_text())["gain"]["times"] == 2
    assert (folder / "figures/learning_curve.png").stat().st_size > 5000

    monkeypatch.setattr("fpclass.study.run.train_config", lambda *_: pytest.fail("trained again"))
    assert cli.main(arguments(blobs, folder)) == 0
    assert "2 members were there" in capsys.readouterr().out
    fails(capsys, arguments(blobs, tmp_path / "other", "--shares=0.5,1"), "three different ones")


def test_everybody_trains_by_default(blobs, tmp_path, capsys):
    """A share is a key of any experiment; 1 leaves the splits what they were."""
    for share, folder in ((0.5, "half"), (1, "all")):
        more = [f"--workdir={tmp_path / folder}", f"--config.data.root={blobs}", f"--config.split.train_share={share}"]
        assert cli.main(["train", f"--config={CONFIG}", *SMALL, "--until=ingest", *more]) == 0
    out = capsys.readouterr().out
    assert "split.train_share=0.5: 6 of 12 people" in out
    roles = [pd.read_csv(tmp_path / folder / "splits.csv")["role"].value_counts() for folder in ("half", "all")]
    assert roles[0]["excluded"] == 12
    assert "excluded" not in roles[1]
