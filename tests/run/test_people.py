"""A run with `predict.pool`: fitted on the inner split, said, and one answer for all images of a person."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import draw_noisy_blobs

from fpclass import cli
from fpclass.data.splits import SELECTION
from fpclass.errors import ConfigError, DataError
from fpclass.experiment import load_config
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import check_judgement, prepare
from fpclass.stats.cohort import group_codes
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling, fit_pooling
from fpclass.stats.metrics import log_softmax

CONFIG = "configs/footprints/exp04_early_stopping_dropout.py"
SMALL = (
    "--config.data.image_size=(24,20)",
    "--config.model.conv_features=(4,)",
    "--config.train.num_epochs=2",
    "--config.train.eval_every_epochs=1",
    "--config.split.selection_fraction=0.5",
    "--config.evaluate.num_resamples=20",
    "--config.explain.num_images=1",
)
POOLED = "--config.predict.pool=calibrated"
BY_PERSON = "--config.predict.pool=submission"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    """Blobs of 60 people with two images each, every sixth of whom has the other's label."""
    folder = tmp_path_factory.mktemp("people") / "data"
    draw_noisy_blobs(folder, num_people=60)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    args = ["train", f"--config={CONFIG}", f"--config.data.root={data}", *SMALL, POOLED, f"--workdir={folder}"]
    assert cli.main(args) == 0
    return folder


@pytest.fixture
def own_run(run, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(run, tmp_path / "own"))


@pytest.fixture
def torn_apart(monkeypatch):
    """The network is of two minds about a person's images."""
    plain = BestModel.predict

    def predict(self, images, rows):
        return plain(self, images, rows) + 9 * np.random.default_rng(len(rows)).normal(size=(len(rows), 2))

    monkeypatch.setattr(BestModel, "predict", predict)


def test_it_is_fitted_on_the_people_of_the_inner_split_and_said(run):
    prepared = prepare(Run.open(run).config)
    rows = prepared.splits.rows(SELECTION)
    people = group_codes(prepared.splits.frame["group"].to_numpy(str)[rows])
    assert people.max() + 1 >= 20
    rule = DecisionRule.from_json(json.loads((run / "calibration.json").read_text()), "calibration.json")
    logits = rule.calibration.apply(BestModel(Run.open(run), 2).predict(prepared.images, rows))
    expected = fit_pooling(logits, prepared.table.labels[rows], people)
    found = Pooling.from_json(json.loads((run / "pooling.json").read_text()), "pooling.json")
    assert [found.scale, *found.bias] == pytest.approx([expected.scale, *expected.bias], rel=1e-4)
    assert found.fitted_on == f"the inner split ({people.max() + 1} people)"
    assert set(found.thresholds) == {"accuracy", "f1", "balanced_accuracy"}
    metrics = json.loads((run / "metrics.json").read_text())
    person, evidence = (metrics["validation"][name] for name in ("person", "evidence"))
    assert person["num_people"] * 2 == person["num_images"] == metrics["validation"]["num_images"]
    assert person["per_image"]["accuracy"]["value"] == metrics["validation"]["accuracy"]["value"]
    assert "too few to calibrate on" in evidence["why_not"]  # 12 people validate
    assert metrics["validation"]["diagnostics"]["per_image"]["is_stated"] is False
    assert any(line.startswith("pooling     pooled over") for line in metrics["calibration"]["summary"])


def test_a_submission_has_one_class_for_a_person(own_run, torn_apart, capsys):
    del torn_apart
    assert cli.main(["submit", f"--workdir={own_run}", "--config.predict.pool=none"]) == 0
    plain = pd.read_csv(own_run / "submission.csv")["SEX"].to_numpy()
    assert re.search(r"learnt from \d+ of \d+ labelled images", capsys.readouterr().out)
    assert cli.main(["submit", f"--workdir={own_run}"]) == 0
    pooled = pd.read_csv(own_run / "submission.csv")["SEX"].to_numpy()
    frame = pd.read_csv(own_run / "test_predictions.csv")
    people = group_codes(frame["group"].to_numpy(str))
    rule = DecisionRule.from_json(json.loads((own_run / "calibration.json").read_text()), "")
    logits = rule.calibration.apply(frame[["logit_0", "logit_1"]].to_numpy())
    pooling = Pooling.from_json(json.loads((own_run / "pooling.json").read_text()), "")
    np.testing.assert_array_equal(pooled, pooling.apply(logits, people).argmax(axis=1))
    np.testing.assert_array_equal(pooled, pooled[::2].repeat(2))
    said = frame[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(said, np.exp(log_softmax(pooling.apply(logits, people))), atol=1e-6)
    assert (plain != plain[::2].repeat(2)).any(), "the images of somebody have to disagree, or nothing is shown"


def test_a_pooling_that_was_not_fitted_is_asked_for(own_run, capsys):
    (own_run / "pooling.json").unlink()
    assert cli.main(["submit", f"--workdir={own_run}"]) == 2
    assert f"evaluate --workdir={own_run} {POOLED}" in capsys.readouterr().err
    assert cli.main(["submit", f"--workdir={own_run}", "--config.predict.pool=mean"]) == 0


def test_a_submission_may_be_pooled_where_files_are_not(own_run, data, torn_apart, tmp_path, capsys):
    del torn_apart
    assert cli.main(["submit", f"--workdir={own_run}"]) == 0
    pooled = (own_run / "submission.csv").read_bytes()
    assert cli.main(["evaluate", f"--workdir={own_run}", BY_PERSON]) == 0
    assert cli.main(["submit", f"--workdir={own_run}", BY_PERSON]) == 0
    assert "one class for all images of a person; pooled over a person's images, calibrated" in capsys.readouterr().out
    assert (own_run / "submission.csv").read_bytes() == pooled
    metrics = json.loads((own_run / "metrics.json").read_text())["validation"]
    assert metrics["person"]["pool"] == "submission"
    image, output = data / "processed" / "processed" / "img_0000.png", tmp_path / "out.csv"
    assert cli.main(["predict", str(image), f"--workdir={own_run}", f"--output={output}", BY_PERSON]) == 0
    assert not {"person", "pooling"} & set(pd.read_csv(output).columns)
    (own_run / "pooling.json").unlink()  # as of a network that nothing was fitted for
    assert cli.main(["submit", f"--workdir={own_run}", BY_PERSON]) == 0
    assert "the mean of their log-probabilities (not calibrated: nothing was" in capsys.readouterr().out


def test_a_submission_is_of_images_where_people_are_unknown_or_of_two_classes(data, tmp_path, torn_apart, capsys):
    del torn_apart
    labels = pd.read_csv(data / "all_labels.csv", dtype=str, keep_default_na=False)
    to_predict = labels.index[labels["SEX"] == ""]
    unknown, torn = labels.copy(), labels.copy()
    unknown.loc[to_predict[:3], "ID"] = ""
    torn.loc[torn.index[labels["SEX"] != ""][0], "SEX"] = {"0": "1", "1": "0"}[
        torn.loc[torn.index[labels["SEX"] != ""][0], "SEX"][0]
    ]
    for name, table, why in (("unknown", unknown, "rows to predict have no person"), ("torn", torn, "several classes")):
        own = tmp_path / name
        shutil.copytree(data, own / "data")
        table.to_csv(own / "data" / "all_labels.csv", index=False)
        train = ["train", f"--config={CONFIG}", f"--config.data.root={own / 'data'}", *SMALL, BY_PERSON]
        assert cli.main([*train, f"--workdir={own / 'run'}"]) == 0
        assert f"submission: each image by itself, since {'3 of' if name == 'unknown' else '1 of'}" in (
            said := capsys.readouterr().out
        )
        assert why in said
        submission = pd.read_csv(own / "run" / "submission.csv")["SEX"].to_numpy()
        assert (submission != submission[::2].repeat(2)).any()


def test_files_are_pooled_by_a_pattern_or_a_table(own_run, data, torn_apart, tmp_path, capsys):
    del torn_apart
    images, output = data / "processed" / "processed", tmp_path / "out.csv"
    few = tmp_path / "few"
    few.mkdir()
    for name, number in (("a_1", 0), ("a_2", 1), ("b_1", 2), ("b_2", 3)):
        shutil.copy(images / f"img_{number:04d}.png", few / f"{name}.png")
    predict = ["predict", str(few), f"--workdir={own_run}", f"--output={output}"]
    assert cli.main(predict) == 2
    error = capsys.readouterr().err
    assert "nothing says whose images these files are" in error
    assert error.count("\n") == 1
    (few / "b_3.png").write_bytes(b"no image")
    assert cli.main([*predict, "--group-pattern=^(.)_"]) == 1
    frame = pd.read_csv(output, keep_default_na=False)
    assert frame["person"].tolist() == ["a", "a", "b", "b", "b"]
    assert frame["probability_1"].iloc[:4].nunique() == 2
    assert "calibrated by person, fitted on the inner split" in frame["pooling"][0]
    assert frame["pooling"][4] == frame["predicted"][4] == ""
    (few / "b_3.png").unlink()
    whose = tmp_path / "whose.csv"
    whose.write_text("filename,ID\na_1,x\na_2.png,x\nb_1,y\nb_2,y\n")
    assert cli.main([*predict, f"--groups={whose}"]) == 0
    by_table = pd.read_csv(output)
    assert by_table["person"].tolist() == ["x", "x", "y", "y"]
    assert by_table["probability_1"].nunique() == 2
    whose.write_text("filename,ID\na_1,x\n")
    assert cli.main([*predict, f"--groups={whose}"]) == 2
    assert "names no person of" in capsys.readouterr().err
    assert cli.main([*predict, "--group-pattern=^(.)_", "--config.predict.pool=none"]) == 2
    assert "read only where they are pooled" in capsys.readouterr().err


def test_a_stated_prevalence_is_that_of_the_predictive_values(own_run):
    assert cli.main(["evaluate", f"--workdir={own_run}", "--config.evaluate.prevalence=0.02"]) == 0
    measured = json.loads((own_run / "metrics.json").read_text())["validation"]["diagnostics"]["per_image"]
    assert (measured["prevalence"], measured["is_stated"]) == (0.02, True)
    sensitivity, specificity = (measured[name]["value"] for name in ("sensitivity", "specificity"))
    expected = sensitivity * 0.02 / (sensitivity * 0.02 + (1 - specificity) * 0.98)
    assert measured["ppv"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("prevalence", ["1", "-0.1", "1.5"])
def test_a_prevalence_is_a_share(prevalence):
    with pytest.raises(ConfigError, match=r"evaluate.prevalence is .*: expected in \(0, 1\), or 0"):
        load_config(CONFIG, [f"--config.evaluate.prevalence={prevalence}"])


def test_pooling_that_cannot_be_is_refused_before_anything_is_trained(data):
    config = load_config(CONFIG, [f"--config.data.root={data}", "--config.data.image_size=(24,20)", POOLED])
    table = prepare(config).table
    check_judgement(config, table)
    groups = table.rows["group"].where(~table.to_predict_mask, "")
    with pytest.raises(DataError, match=r"6 of 6 rows to predict have no person, first img_0120"):
        check_judgement(config, table.with_columns(group=groups))
    with pytest.raises(ConfigError, match=r"60 of 60 people have images of several classes"):
        check_judgement(config, table.with_columns(label=np.where(table.labels < 0, -1, np.arange(len(table)) % 2)))
    with pytest.raises(ConfigError, match=r"no person has more than one image"):
        check_judgement(config, table.with_columns(group=""))
    with pytest.raises(ConfigError, match=r"predict.pool is 'mean', but it is read only where people are known"):
        load_config("configs/base.py", ["--config.predict.pool=mean"])
