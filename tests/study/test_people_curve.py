"""Shares of the people of every fold, nested, judged on the same images, resumed: as a command and in a study."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import draw_blobs
from test_study import fails

from fpclass import cli
from fpclass.data.splits import share_mask
from fpclass.errors import ConfigError
from fpclass.run.prepare import prepare
from fpclass.study.evidence.referee import Referee
from fpclass.study.plan import plan_study
from fpclass.study.run import too_small_shares
from fpclass.study.scrutiny.learning_curve import add_curves, curve_cells, with_curves
from fpclass.study.study import Study

SMALL = [
    "--config.data.image_size=(24,20)", "--config.model.conv_features=(4,)", "--config.model.dense_features=(4,)",
    "--config.train.num_epochs=2", "--config.evaluate.num_resamples=200",
]  # fmt: skip
CONFIG = "configs/footprints/exp04_early_stopping_dropout.py"


NAME = pathlib.Path(CONFIG).stem


def arguments(people, folder, *more):
    flags = [f"--config={CONFIG}", "--folds=2", f"--workdir={folder}", f"--config.data.root={people}"]
    return ["learning-curve", *flags, *SMALL, *more]


def of_study(people, folder, *more):
    flags = ["--configs", CONFIG, "--folds=2", f"--workdir={folder}", f"--config.data.root={people}"]
    return ["study", *flags, *SMALL, *more]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> pathlib.Path:
    """64 prints of 32 people; read only."""
    folder = tmp_path_factory.mktemp("people")
    draw_blobs(folder, 32, 0)
    return folder


@pytest.fixture(scope="module")
def curve(people, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The folder that the command made, and what it said; read only."""
    folder, said = tmp_path_factory.mktemp("curves") / "curve", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(arguments(people, folder)) == 0
    return folder, said.getvalue()


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


@pytest.mark.promise
def test_a_curve_over_people(people, curve, tmp_path, capsys, monkeypatch):
    folder, out = curve
    for words in ("about", "with 2 times as many people", "power law", "learning_curve.csv"):
        assert words in out
    study = Study.open(folder)
    assert [config.split.train_share for config in study.configs.values()] == [1, 0.75, 0.5, 0.25]
    trained, validated = {}, {}
    for name, config in study.configs.items():
        for member in study.members(name):
            splits = member.run.read_csv("splits.csv")
            key = (config.split.train_share, member.fold)
            trained[key] = set(splits.loc[splits["role"].isin(["train", "selection"]), "unit"])
            validated[key] = splits.loc[splits["role"] == "validation", "filename"].tolist()
            assert len(set(splits.loc[splits["role"].isin(["train", "selection"]), "label"])) == 2
    for fold in (0, 1):
        assert trained[0.25, fold] < trained[0.5, fold] < trained[0.75, fold] < trained[1, fold]
        assert validated[0.5, fold] == validated[0.75, fold] == validated[1, fold]
    frame = pd.read_csv(folder / "learning_curve.csv")
    points = frame[frame["kind"] == "trained"]
    assert points["num_people"].tolist() == [
        np.mean([len(trained[s, f]) for f in (0, 1)]) for s in (0.25, 0.5, 0.75, 1)
    ]
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
    again = shutil.copytree(folder, tmp_path / "again")
    assert cli.main(arguments(people, again)) == 0
    assert "2 members were there" in capsys.readouterr().out
    fails(capsys, arguments(people, tmp_path / "other", "--shares=0.5,1"), "three different ones")


@pytest.mark.promise
@pytest.mark.figures
def test_a_study_draws_the_curve_of_a_config(people, curve, tmp_path, capsys):
    """Of the members that are there; only the one that is missing is trained. All shares are those of the command."""
    folder, (of_command, _) = tmp_path / "study", curve
    for share in (1000, 750, 500, 250):
        twin = NAME + ("" if share == 1000 else f"@people-{share:04d}")
        shutil.copytree(of_command / f"members/{NAME}-people-{share:04d}", folder / "members" / twin)
    missing = folder / f"members/{NAME}@people-0250/fold-1-seed-0"
    there = pd.read_csv(missing / "splits.csv")
    shutil.rmtree(missing)
    assert cli.main(of_study(people, tmp_path / "new", "--learning-curve", "nobody")) == 2
    assert f"--learning-curve nobody: no config of that name; there are {NAME}" in capsys.readouterr().err
    (folder / "study.json").write_text(json.dumps(planned(people, folder).to_json()))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("members/*/*/predictions.csv")}
    assert cli.main(of_study(people, folder, "--learning-curve")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 trainings of 1 configs" in out
    assert f"learning curve of {NAME}: with 2 times as many people" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before, "trained twice"
    pd.testing.assert_frame_equal(pd.read_csv(missing / "splits.csv"), there)
    found, expected = json.loads((folder / "results.json").read_text()), of_command / "learning_curve.json"
    assert found["learning_curve"][NAME]["points"] == json.loads(expected.read_text())["points"]
    text = (folder / "study.md").read_text()
    for words in ("## Learning curve", f"(figures/learning_curve_{NAME}.png)", "| 25% | 4 | 8 |"):
        assert words in text
    assert (folder / f"figures/learning_curve_{NAME}.png").stat().st_size > 5000
    assert pd.read_csv(folder / "learning_curve.csv")["config"].unique().tolist() == [NAME]
    assert pd.read_csv(folder / "study.csv")["config"].tolist() == [NAME], "twins are in no table"
    assert f"learning curve of {NAME}: accuracy by the people" in (folder / "checklist.md").read_text()


@pytest.mark.parametrize("units", ["people", "independent images", "images"])
def test_the_table_of_a_curve_calls_people_what_they_are(units):
    row = {"kind": "trained", "metric": "roc_auc", "share": 0.5, "num_people": 24.0, "num_images": 25.0}
    frame = pd.DataFrame([row | {"score": 0.8, "score_low": 0.7, "score_high": 0.9}])
    header, cells = curve_cells(frame, units)
    assert header[0] == f"share of the {units}"
    assert "people" not in " ".join(header) or units == "people"
    assert len(set(header)) == len(header) == len(cells)
    assert cells[:2] == ["50%", "24"]


def test_too_few_people_for_a_curve_are_named_before_anything_is_trained(blobs, people, tmp_path):
    """16 people in two folds: a quarter of the four of a class who train is one. Then the reason is in its place."""
    study = planned(blobs, tmp_path)
    failures = too_small_shares(study, prepare(study.members(NAME)[0].run.config))
    assert failures == {
        f"{NAME}@people-0250": "25% of the 4 people of class '1' who train in a fold are fewer than 2; such a "
        "share takes 8 of each class"
    }
    enough = planned(people, tmp_path)
    assert not too_small_shares(enough, prepare(enough.members(NAME)[0].run.config))
    found = Referee({}, {}, [])
    add_curves(found, study, dict.fromkeys(set(study.configs) - {NAME}, "too few"), {}, NAME)
    assert found.findings[0].startswith(f"learning curve of {NAME}: no curve: {NAME}@people-0750 FAILED: too few")
    assert "- no curve: " in found.sections["Learning curve"]
    assert "why_not" in found.values["learning_curve"][NAME]
    with pytest.raises(ConfigError, match="--learning-curve: this study has one split"):
        with_curves(dataclasses.replace(study, num_folds=0), [])


def planned(root, folder) -> Study:
    """A study of one config, with its curve."""
    data = [f"--config.data.root={root}", *SMALL]
    options = {"num_folds": 2, "num_seeds": 1, "baseline": None, "compare_splits": False}
    return with_curves(plan_study(folder, [CONFIG], data, **options), [])


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
