"""Calibration and thresholds of a run: fitted on its inner split alone, said, and used where asked for."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

from fpclass import cli
from fpclass.data.splits import SELECTION, VALIDATION
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare
from fpclass.stats.decisions.thresholds import fit_threshold
from fpclass.stats.metrics import image_log_losses, log_softmax
from fpclass.stats.probabilities.calibration import fit_temperature

CONFIG = "--config=configs/footprints/exp04_early_stopping_dropout.py"
SMALL = (
    "--config.data.image_size=(24,20)",
    "--config.model.conv_features=(4,)",
    "--config.train.num_epochs=3",
    "--config.train.eval_every_epochs=1",
    "--config.split.selection_fraction=0.3",
    "--config.evaluate.num_resamples=20",
    "--config.explain.num_images=1",
)


@pytest.fixture(scope="module")
def run(noisy, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["train", CONFIG, f"--config.data.root={noisy}", *SMALL, f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture
def own_run(run, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(run, tmp_path / "own"))


def by_hand(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the inner split."""
    prepared = prepare(Run.open(folder).config)
    rows = prepared.splits.rows(SELECTION)
    assert not set(rows) & set(prepared.splits.rows(VALIDATION))
    return BestModel(Run.open(folder), 2).predict(prepared.images, rows), prepared.table.labels[rows]


def test_it_is_fitted_on_the_inner_split_and_on_nothing_else(run):
    logits, labels = by_hand(run)
    found = json.loads((run / "calibration.json").read_text())
    temperature = fit_temperature(logits, labels)
    assert temperature != pytest.approx(1)
    assert found["calibration"]["scale"] == pytest.approx([1 / temperature] * 2)
    calibrated = log_softmax(logits.astype(np.float64) / temperature)
    for objective in ("accuracy", "f1", "balanced_accuracy"):
        assert found["thresholds"][objective] == pytest.approx(fit_threshold(calibrated, labels, objective))
    assert found["fitted_on"].startswith(f"the inner split ({len(labels)} images of ")


def test_metrics_and_terminal_say_what_it_is_and_what_it_does_to_the_images_that_are_reported(own_run, capsys):
    assert cli.main(["evaluate", f"--workdir={own_run}"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    metrics = json.loads((own_run / "metrics.json").read_text())
    said, temperature = metrics["calibration"], 1 / metrics["calibration"]["calibration"]["scale"][0]
    assert f"calibration temperature {temperature:.2f}, fitted on the inner split (" in out
    assert "thresholds of '1': " in out
    frame = pd.read_csv(own_run / "predictions.csv")
    logits, labels = frame[["logit_0", "logit_1"]].to_numpy(), frame["label"].to_numpy()
    after = image_log_losses(log_softmax(logits / temperature), labels).mean()
    assert said["validation"]["before"]["log_loss"]["value"] == metrics["validation"]["log_loss"]["value"]
    assert said["validation"]["after"]["log_loss"]["value"] == pytest.approx(after)
    decided = np.exp(log_softmax(logits / temperature)[:, 1]) > said["thresholds"]["accuracy"]
    at_threshold = said["validation"]["thresholds"]["accuracy"]["score"]["value"]
    assert at_threshold == pytest.approx((decided == labels).mean())


def test_new_images_get_calibrated_probabilities_and_a_decision_that_is_named(own_run, noisy, capsys, tmp_path):
    images, output = noisy / "processed" / "processed", tmp_path / "out.csv"
    path = own_run / "calibration.json"
    rule = json.loads(path.read_text())
    rule["thresholds"]["f1"] = 0.0  # everything is class 1 then
    path.write_text(json.dumps(rule))
    logits, _ = by_hand(own_run)
    prepared = prepare(Run.open(own_run).config)
    names = prepared.table.rows["filename"].iloc[prepared.splits.rows(SELECTION)]
    predict = ["predict", str(images), f"--workdir={own_run}", f"--output={output}"]
    assert cli.main(predict) == 0
    temperature = 1 / rule["calibration"]["scale"][0]
    assert f"probabilities: temperature {temperature:.2f}, fitted on the inner split" in capsys.readouterr().err
    frame = pd.read_csv(output).assign(stem=lambda f: f["filename"].map(lambda name: pathlib.Path(name).stem))
    frame = frame.set_index("stem").loc[names]
    expected = np.exp(log_softmax(logits.astype(np.float64) / temperature))
    np.testing.assert_allclose(frame[["probability_0", "probability_1"]], expected, atol=2e-6)
    assert set(frame["calibration"]) == {f"temperature {temperature:.2f}, fitted on {rule['fitted_on']}"}
    assert set(frame["decision"]) == {"most probable"}
    assert set(frame["predicted"]) == {0, 1}
    by_threshold = "--config.submit.threshold_for=f1"
    assert cli.main([*predict, by_threshold]) == 0
    assert set(pd.read_csv(output)["predicted"]) == {1}
    assert set(pd.read_csv(output)["decision"]) == {"probability_1 > 0 (f1)"}
    assert cli.main(["submit", f"--workdir={own_run}", by_threshold]) == 0
    assert pd.read_csv(own_run / "submission.csv")["SEX"].tolist() == [1] * 6
    assert cli.main(["submit", f"--workdir={own_run}"]) == 0
    assert set(pd.read_csv(own_run / "submission.csv")["SEX"]) == {0, 1}


def test_without_an_inner_split_nothing_is_fitted_and_it_says_why(own_run, noisy, capsys):
    """The images that chose the epoch are those that are reported: a temperature of theirs would flatter them."""
    config = json.loads((own_run / "config.json").read_text())
    config["config"]["split"]["selection"] = "validation"
    (own_run / "config.json").write_text(json.dumps(config))
    assert cli.main(["evaluate", f"--workdir={own_run}"]) == 0
    why = "not calibrated: the images that chose the epoch are those that are reported"
    assert why in capsys.readouterr().out
    metrics = json.loads((own_run / "metrics.json").read_text())["calibration"]
    assert metrics["calibration"]["scale"] == [1, 1]
    assert "after" not in metrics["validation"]
    image = str(noisy / "processed/processed/img_0000.png")
    assert cli.main(["predict", image, f"--workdir={own_run}"]) == 0
    captured = capsys.readouterr()
    assert why in captured.err
    assert ",none,most probable," in captured.out
    assert cli.main(["predict", image, f"--workdir={own_run}", "--config.submit.threshold_for=f1"]) == 2
    assert "what was fitted is argmax; the images that chose the epoch" in capsys.readouterr().err


def test_a_rule_of_other_weights_is_not_used(own_run, noisy, capsys):
    path = own_run / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epoch": 99}))
    image = str(noisy / "processed/processed/img_0000.png")
    for said in ("calibration.json is of other weights", "fpclass evaluate --workdir="):
        assert cli.main(["predict", image, f"--workdir={own_run}"]) == 0
        assert f"not calibrated: {said}" in capsys.readouterr().err.replace("run `", "")
        path.unlink(missing_ok=True)
