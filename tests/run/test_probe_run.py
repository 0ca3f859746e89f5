"""A probe as a run and in a study: restored is what was fitted, on all training rows, and calibrated out of fold."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fpclass import cli
from fpclass.augment.intensity import normalise
from fpclass.common.console import Interruption
from fpclass.data.splits import TRAIN, VALIDATION
from fpclass.run import probe as probes
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare
from fpclass.run.train import make_member
from fpclass.stats.cohort import group_codes
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling, fit_pooling
from fpclass.stats.probabilities.calibration import fit_temperature
from fpclass.study.study import Study
from fpclass.train.inputs.feature_cache import FrozenStages
from fpclass.train.probes import self_training
from fpclass.train.probes.features import pooled_features
from fpclass.train.probes.fit import logits_of

pytestmark = pytest.mark.promise

FLAGS = (
    "--config.data.label_column=SEX",
    "--config.data.group_column=ID",
    "--config.model.name=blocks",
    "--config.model.conv_features=(4,8)",
    "--config.model.head=probe",
    "--config.data.image_size=(24,20)",
    "--config.predict.flip=True",
    "--config.evaluate.num_resamples=20",
    "--config.explain.num_images=1",
)


@pytest.fixture(scope="module")
def run(noisy, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "probe"
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *FLAGS, f"--workdir={folder}"]
    assert cli.main(args) == 0
    return folder


def test_the_restored_network_is_the_regression_on_its_features(run):
    best = BestModel(Run.open(run), 2)
    config, prepared = best.run.config, prepare(Run.open(run).config)
    rows = np.flatnonzero(prepared.table.labelled_mask)
    train, labels = prepared.splits.rows(TRAIN), prepared.table.labels
    assert set(train) | set(prepared.splits.rows(VALIDATION)) == set(rows), "nothing is set aside to choose on"
    features = pooled_features(prepared.images, best.model, best.variables, config, None)
    metrics = json.loads((run / "metrics.json").read_text())
    factors = np.repeat((24 / (2 * np.array([8, 16]))) ** (metrics["balance"] / 2), [8, 16])
    regression = LogisticRegression(C=metrics["strength"], tol=1e-8, max_iter=10_000)
    pipeline = make_pipeline(StandardScaler(), FunctionTransformer(lambda x: x * factors), regression)
    pipeline.fit(features[train], labels[train])
    logits = best.predict(prepared.images, rows)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], pipeline.decision_function(features[rows]), atol=0.02)


def test_a_probe_of_covariances_is_a_run_like_any_other_and_another_network(run, noisy, tmp_path):
    folder, pooling = tmp_path / "covariances", "--config.model.probe_pooling=covariances"
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *FLAGS, pooling, f"--workdir={folder}"]
    assert cli.main(args) == 0, "maps for explanations, which go back through them, among it"
    best, of_moments = (BestModel(Run.open(each), 2) for each in (folder, run))
    prepared = prepare(best.run.config)
    rows = np.flatnonzero(prepared.table.labelled_mask)
    features = pooled_features(prepared.images, best.model, best.variables, best.run.config, None)
    assert features.shape[1] == 4 * 5 // 2 + 8 * 9 // 2
    logits = best.predict(prepared.images, rows)
    np.testing.assert_allclose(
        logits, logits_of(best.model.head, best.variables["params"]["head"], features[rows]), atol=1e-3
    )
    assert np.abs(logits - of_moments.predict(prepared.images, rows)).max() > 0.1
    pooled = "matrix roots of the covariances of channels of its stages"
    assert f"fitted to {pooled}" in " ".join((folder / "methods.md").read_text(encoding="utf-8").split())
    assert f"standardised {pooled}" in (folder / "checklist.md").read_text(encoding="utf-8")


def test_its_strength_is_that_of_the_lowest_loss_and_it_is_calibrated_out_of_fold(run):
    history, metrics = Run.open(run).history(), json.loads((run / "metrics.json").read_text())
    lowest = min(history, key=lambda line: line["selection_loss"])
    assert (lowest["epoch"], lowest["strength"]) == (metrics["epoch"], metrics["strength"])
    assert lowest["validation_accuracy"] == pytest.approx(metrics["validation"]["accuracy"]["value"])
    inner = probes.Predictions.read(Run.open(run), probes.INNER, ("0", "1"))
    splits = Run.open(run).read_csv("splits.csv")
    assert set(inner.frame["filename"]) == set(splits.loc[splits["role"] == TRAIN, "filename"])
    losses = inner.losses.mean()
    assert losses == pytest.approx(lowest["selection_loss"], abs=1e-5)
    calibration = json.loads((run / "calibration.json").read_text())
    assert calibration["fitted_on"] == "the inner cross-validation (80 images, out of fold)"
    temperature = fit_temperature(inner.logits, inner.labels)
    assert calibration["calibration"]["scale"] == pytest.approx([1 / temperature] * 2, rel=1e-4)


def test_a_persons_images_are_pooled_by_what_it_said_out_of_fold(run, noisy, tmp_path, capsys):
    own, said = shutil.copytree(run, tmp_path / "own"), "fitted on the inner cross-validation (40 people, out of fold)"
    pooled, output = "--config.predict.pool=calibrated", tmp_path / "out.csv"
    assert cli.main(["evaluate", f"--workdir={own}", pooled]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    inner = probes.Predictions.read(Run.open(own), probes.INNER, ("0", "1"))
    rule = DecisionRule.from_json(json.loads((own / "calibration.json").read_text()), "")
    pooling = Pooling.from_json(json.loads((own / "pooling.json").read_text()), "")
    expected = fit_pooling(rule.calibration.apply(inner.logits), inner.labels, group_codes(inner.frame["group"]))
    assert (pooling.scale, pooling.correlation) == pytest.approx((expected.scale, expected.correlation), rel=1e-4)
    validation = json.loads((own / "metrics.json").read_text())["validation"]
    assert validation["person"]["pooling"]["fitted_on"] == said.removeprefix("fitted on ")
    assert cli.main(["submit", f"--workdir={own}", pooled]) == 0
    frame = pd.read_csv(own / "test_predictions.csv", dtype={"group": str})
    people = group_codes(frame["group"])
    log_p = rule.calibration.apply(frame[["logit_0", "logit_1"]].to_numpy())
    handed_in, of_mean = (np.exp(each.apply(log_p, people))[:, 1] for each in (pooling, Pooling("mean")))
    np.testing.assert_allclose(frame["probability_1"], handed_in, atol=1e-6)
    assert np.abs(handed_in - of_mean).max() > 0.01
    image = noisy / "processed" / "processed" / "img_0000.png"
    predict = ["predict", str(image), f"--workdir={own}", f"--output={output}", pooled, "--group-pattern=^(img)_"]
    assert cli.main(predict) == 0
    assert pd.read_csv(output)["pooling"][0] == f"calibrated by person, {said}"


def test_what_is_done_is_not_done_again(run, noisy, tmp_path, capsys, monkeypatch):
    own = shutil.copytree(run, tmp_path / "own")
    monkeypatch.setattr(self_training, "fit_probe", None)
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *FLAGS, f"--workdir={own}"]
    assert cli.main(args) == 0
    assert "train     was done" in capsys.readouterr().out


@pytest.fixture
def counted(monkeypatch):
    """Weights that all members share, as published ones are, and how often features and fits were computed."""
    calls = {"pooled_features": 0, "fit_probe": 0}
    random = probes._random_variables

    def shared(config, network):
        return random(network, config, make_shared())

    def make_shared():
        return type("Shared", (), {"seed": np.uint32(7)})()

    def count(module, name):
        function = getattr(module, name)

        def counting(*args, **options):
            calls[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, counting)

    monkeypatch.setattr(probes, "pretrained_variables", shared)
    count(probes, "pooled_features")
    count(self_training, "fit_probe")
    return calls


def test_a_study_computes_features_once_and_members_are_run_folders(noisy, tmp_path, counted):
    args = [
        "study", "--configs", "configs/base.py", "--folds=2", "--seeds=2", f"--workdir={tmp_path / 'study'}",
        f"--config.data.root={noisy}", *FLAGS[:-1],
    ]  # fmt: skip
    assert cli.main(args) == 0
    assert counted == {"pooled_features": 1, "fit_probe": 4}
    trainings = pd.read_csv(tmp_path / "study" / "training.csv")
    assert trainings[["seconds_per_epoch", "epoch"]].isna().all(axis=None), "it has no epochs"
    members = Study.open(tmp_path / "study").members("base")
    for member in members[1:3]:
        prepared = prepare(member.run.config)
        logits = BestModel(member.run, 2).predict(prepared.images, prepared.splits.rows(VALIDATION))
        written = probes.Predictions.read(member.run, "predictions.csv", ("0", "1")).logits
        np.testing.assert_allclose(logits, written, atol=1e-4)
    (members[1].run.folder / "predictions.csv").unlink()
    assert cli.main(args) == 0
    assert counted == {"pooled_features": 2, "fit_probe": 5}


def test_features_are_kept_for_every_later_start(noisy, tmp_path, counted, monkeypatch, capsys):
    """Of published weights: for another fold and seed, a refit, a resumed run, what is predicted and handed in."""
    images = []
    compute = FrozenStages.compute
    monkeypatch.setattr(
        FrozenStages, "compute", lambda self, view, rows, _: images.append(len(rows)) or compute(self, view, rows, _)
    )
    monkeypatch.setattr(probes, "keeps_features", lambda config: True)  # as if its weights were published
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *FLAGS, "--config.submit.refit=True"]
    assert cli.main([*args, f"--workdir={tmp_path / 'first'}", "--until=evaluate"]) == 0
    num_images = len(Run.open(tmp_path / "first").read_csv("table.csv"))
    assert images == [num_images]
    other = [*args, "--config.seed=4", "--config.split.num_folds=3", "--config.split.fold=1"]
    assert cli.main([*other, f"--workdir={tmp_path / 'second'}"]) == 0
    assert sum(images) == num_images, "nothing again"
    assert "of block1, block2, 0.0 MB: from the cache" in capsys.readouterr().out
    assert counted["fit_probe"] == 3


def test_who_is_asked_to_stop_stops_between_members(run, tmp_path):
    config, interruption = Run.open(run).config, Interruption()
    prepared = prepare(config)
    member = make_member(config, prepared)
    of_each = [(Run(tmp_path / name, config), prepared, member) for name in ("first", "second")]
    fitting = probes.fit_probes(of_each, config, interruption)
    first = next(fitting)
    assert first.logits.shape == (len(prepared.table), 2)
    interruption.signal_number = 2
    assert list(fitting) == []
    assert (tmp_path / "first" / "checkpoints" / "best").is_dir()
    assert not (tmp_path / "second").exists()


def test_its_report_says_that_it_has_strengths_and_no_epochs(run):
    page = (run / "report.html").read_text()
    assert "Strength of the penalty" in page
    assert "which is fitted and has no epochs, over the strengths of its penalty" in page
    assert "Loss and accuracy over the epochs" not in page


def test_a_probe_is_not_warned_about_epochs_that_it_has_not(run):
    warnings = json.loads((run / "metrics.json").read_text())["warnings"]
    assert not [line for line in warnings if "learning rate" in line or "by heart" in line]


TUNED = (*FLAGS, "--config.finetune.from_probe=True", "--config.train.num_epochs=1", "--config.train.ema_decay=0.5",
         "--config.finetune.batch_norm=frozen_stats")  # fmt: skip
STILL, MOVED = "--config.optim.learning_rate=1e-30", "--config.optim.learning_rate=0.01"


@pytest.fixture(scope="module")
def moved(noisy, tmp_path_factory) -> pathlib.Path:
    """A study of two networks that were trained on from their probe."""
    return _study(noisy, tmp_path_factory.mktemp("studies") / "moved", *TUNED, MOVED)


def _study(root: pathlib.Path, folder: pathlib.Path, *flags: str) -> pathlib.Path:
    args = ["study", "--configs=configs/base.py", f"--config.data.root={root}", *flags, "--folds=2"]
    assert cli.main([*args, f"--workdir={folder}"]) == 0
    return folder


def test_a_network_is_trained_on_from_a_probe(run, noisy, tmp_path, moved):
    """With a rate of nothing it stays the probe, for each of two members side by side; with a rate it does not."""
    args = ["train", "--config=configs/base.py", f"--config.data.root={noisy}", *TUNED, STILL]
    assert cli.main([*args, f"--workdir={tmp_path / 'run'}"]) == 0
    assert _logits(tmp_path / "run") == pytest.approx(_logits(run), abs=2e-3)

    probe, still = _study(noisy, tmp_path / "probe", *FLAGS), _study(noisy, tmp_path / "still", *TUNED, STILL)
    for folder, is_same in ((still, True), (moved, False)):
        for fold in range(2):
            member = pathlib.Path("members/base") / f"fold-{fold}-seed-0"
            assert (_logits(folder / member) == pytest.approx(_logits(probe / member), abs=2e-3)) == is_same


def test_trained_on_from_a_probe_it_averages_what_it_says_of_an_image_and_its_mirror_image(moved):
    run = Study.open(moved).members("base")[0].run
    best, prepared = BestModel(run, 2), prepare(run.config)
    written = probes.Predictions.read(run, "predictions.csv", ("0", "1"))
    rows = [prepared.table.rows["filename"].tolist().index(name) for name in written.frame["filename"]]
    images = normalise(np.asarray(prepared.images)[rows], run.config.data.mean, run.config.data.std)
    plain, mirrored = (best.model.apply(best.variables, view, train=False) for view in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(written.logits, (plain + mirrored) / 2, atol=1e-4)
    assert np.abs(written.logits - plain).max() > 0.01


def _logits(folder: pathlib.Path) -> np.ndarray:
    frame = Run.open(folder).read_csv("predictions.csv", (), ("logit_",))
    return frame.sort_values("filename")[["logit_0", "logit_1"]].to_numpy(float)
