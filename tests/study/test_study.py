"""The study through the real command line: members, the hub, interruptions, failures, and every kind of bad input."""

from __future__ import annotations

import itertools
import json
import pathlib
import re
import shutil
import signal
import time
import types

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_cli import launch

from fpclass import cli
from fpclass.data import decode
from fpclass.errors import MemoryShortage
from fpclass.run.folder import Run
from fpclass.run.train import make_member
from fpclass.study import run as study_run
from fpclass.study import training
from fpclass.study.plan import plan_study
from fpclass.study.study import Study
from fpclass.study.training import halved

BASELINE, EXP04 = "configs/footprints/baseline.py", "configs/footprints/exp04_early_stopping_dropout.py"
EXP04_NAME = pathlib.Path(EXP04).stem
SMALL = [
    "--config.data.image_size=(24,20)",
    "--config.model.conv_features=(4,)",
    "--config.train.batch_size=8",
    "--config.train.num_epochs=4",
    "--config.train.eval_every_epochs=2",
    "--config.train.checkpoint_seconds=0",
    "--config.evaluate.num_resamples=50",
]


def study_args(data: pathlib.Path, folder: pathlib.Path, *more: str, configs=(BASELINE, EXP04), folds=3, seeds=2):
    return [
        "study", "--configs", *configs, f"--folds={folds}", f"--seeds={seeds}", f"--workdir={folder}",
        f"--config.data.root={data}", *SMALL, *more,
    ]  # fmt: skip


def fails(capsys, args, *said):
    """The command ends with exit code 2 and one line that holds these words."""
    assert cli.main(args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    for word in said:
        assert word in lines[0]


def test_every_labelled_image_is_predicted_by_members_that_never_saw_its_person(study):
    table = pd.read_csv(study / "out_of_fold.csv", dtype={"filename": str})
    assert len(table) == 2 * 2 * 32, "configs x seeds x images"
    assert not table.duplicated(["config", "seed", "filename"]).any()
    assert np.isfinite(table[["logit_0", "logit_1"]]).to_numpy().all()
    for member in Study.open(study).members(EXP04_NAME):
        splits = member.run.read_csv("splits.csv")
        validated = splits[splits["role"] == "validation"]
        others = splits[splits["role"].isin(["train", "selection"])]
        assert not set(validated["group"]) & set(others["group"])
        assert set(member.run.read_csv("predictions.csv")["filename"]) == set(validated["filename"])
    test = pd.read_csv(study / "test_predictions.csv")
    assert test.groupby(["config", "fold", "seed"]).size().tolist() == [6] * 12, "rows to predict by all members"


def test_the_report_is_complete(study):
    frame = pd.read_csv(study / "study.csv").set_index("config")
    assert list(frame.index) == ["baseline", EXP04_NAME]
    assert frame.loc["baseline", "verdict"] == "the baseline"
    for column in ("mean", "sd", "low", "high", "difference", "p_adjusted", "detectable", "mean_log_loss"):
        assert np.isfinite(frame.loc[EXP04_NAME, column]), column
    found = json.loads((study / "results.json").read_text())
    assert found["choice"]["chosen"] in frame.index
    assert len(found["choice"]["chosen_per_fold"]) == 3
    assert sum(found["ensemble"]["weights"].values()) == pytest.approx(1)
    scores = found["ensemble"]["scores"]
    assert (scores["num_images"], scores["num_groups"]) == (32, 16), "two prints each"
    assert scores["interval"] == "95 % bootstrap t over 16 people, 50 resamples; rough: as much as 16 people alike"
    assert found["decisions"]["num_groups"] == 16
    text = (study / "study.md").read_text()
    for word in ("OPTIMISTIC", "ensemble:", "calibration", "for its f1", "conformal"):
        assert word in text
    for word in ("Training beside validation", "| baseline | 24 x 20 |", "Classification reports, out of fold"):
        assert word in text
    for name in ("study", "reliability", "risk_coverage", "class_balance"):
        assert (study / "figures" / f"{name}.png").stat().st_size > 5000
    assert "Errors by original class" not in text, "no classes were put together"


def test_the_mean_of_the_table_is_that_of_the_members(study):
    frame = pd.read_csv(study / "study.csv").set_index("config")
    scores = []
    for member in Study.open(study).members("baseline"):
        said = member.run.read_csv("predictions.csv")
        scores.append((said[["logit_0", "logit_1"]].to_numpy().argmax(1) == said["label"].astype(int)).mean())
    assert frame.loc["baseline", "mean"] == pytest.approx(np.mean(scores))
    assert frame.loc["baseline", "sd"] == pytest.approx(np.std(scores, ddof=1))


def test_training_beside_validation(study):
    """The gap is that of the epoch that was kept, and the parameters are those of the weights."""
    from fpclass.run.best import BestModel
    from fpclass.train import checkpoints

    table = pd.read_csv(study / "training.csv").set_index("config")
    gaps, sizes = [], set()
    for member in Study.open(study).members("baseline"):
        epoch = checkpoints.latest_step(member.run.path("checkpoints/best"))
        kept = next(line for line in member.run.history() if line["epoch"] == epoch)
        said = member.run.read_csv("predictions.csv")
        accuracy = (said[["logit_0", "logit_1"]].to_numpy().argmax(1) == said["label"].astype(int)).mean()
        gaps.append(kept["train_accuracy"] - accuracy)
        sizes.add(sum(leaf.size for leaf in jax.tree.leaves(BestModel(member.run, 2).variables["params"])))
    assert 0 < table.loc["baseline", "train_precision"] <= 1
    assert table.loc["baseline", "gap"] == pytest.approx(np.mean(gaps))
    assert table.loc["baseline", "gap_sd"] == pytest.approx(np.std(gaps, ddof=1))
    assert sizes == {table.loc["baseline", "parameters"]}
    assert (table["seconds_per_epoch"] > 0).all()


@pytest.mark.promise
def test_the_leak_of_folds_that_divide_people(blobs, tmp_path):
    folder = tmp_path / "study"
    assert cli.main(study_args(blobs, folder, "--compare-splits", configs=(BASELINE,), folds=2, seeds=1)) == 0
    assert "the leak:" in (folder / "study.md").read_text()
    found = json.loads((folder / "results.json").read_text())["inflation"]
    assert list(found) == ["baseline"]
    assert found["baseline"]["low"] is not None


def test_members_have_tensorboard_events(study):
    assert list((study / "members" / EXP04_NAME / "fold-1-seed-1" / "tensorboard").glob("events.*"))


def test_the_other_commands_work_on_a_member(study, tmp_path, capsys):
    member = shutil.copytree(study / "members" / EXP04_NAME / "fold-0-seed-0", tmp_path / "member")
    assert cli.main(["evaluate", f"--workdir={member}"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_second_start_trains_nothing_and_says_the_same(study, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    before = {
        name: (folder / name).read_bytes() for name in ("study.csv", "study.md", "out_of_fold.csv", "results.json")
    }
    weights = sorted(folder.glob("members/*/*/checkpoints/best/*"))
    changed = [path.stat().st_mtime_ns for path in weights]
    assert cli.main(["study", "--resume", f"--workdir={folder}"]) == 0
    assert "members were there" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in weights] == changed
    assert {name: (folder / name).read_bytes() for name in before} == before


def long_study_args(blobs, folder):
    return study_args(blobs, folder, "--config.train.num_epochs=20", configs=(EXP04,), seeds=1)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, blobs):
    """The folder of a longer study that nothing stopped; read only."""
    folder = tmp_path_factory.mktemp("studies") / "straight"
    assert cli.main(long_study_args(blobs, folder)) == 0
    return folder


@pytest.mark.promise
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGKILL, -9)])
def test_interrupted_and_resumed_gives_the_same_table(straight, blobs, tmp_path, sent, code):
    """The real program is stopped in the middle of a round, once politely and once by kill -9, and started again."""
    stopped = tmp_path / "stopped"
    process = launch(*long_study_args(blobs, stopped))
    try:
        log, limit = stopped / "members" / EXP04_NAME / "fold-0-seed-0/log.jsonl", time.monotonic() + 120
        while not (log.is_file() and log.read_text().count("\n") >= 7):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(sent)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert not (stopped / "out_of_fold.csv").exists(), "it was stopped before its end"
    saved = [
        int(path.name) for path in (stopped / "members" / EXP04_NAME / "unfinished").iterdir() if path.name.isdigit()
    ]
    assert 0 < max(saved) < 20 * 3, "batches"
    assert cli.main(["study", "--resume", f"--workdir={stopped}"]) == 0
    for name in ("out_of_fold.csv", "test_predictions.csv", "study.csv", "results.json"):
        assert (stopped / name).read_bytes() == (straight / name).read_bytes(), name
    histories = [
        Run.open(folder / "members" / EXP04_NAME / "fold-0-seed-0").history() for folder in (stopped, straight)
    ]
    for history in histories:
        assert all(line.pop("seconds") > 0 for line in history)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("size_of_first", "said"), [(17, ""), (24, "goes on from there")], ids=["first", "later"])
def test_a_signal_while_images_are_decoded_ends_the_study(
    blobs, tmp_path, monkeypatch, capsys, sent, size_of_first, said
):
    decode_row, decoded = decode._decode_row, []
    first = itertools.count()  # rows are decoded in several threads, and a second signal would end pytest itself

    def slowly(table, row, decoding, images):
        if decoding.shape[0] == 17:
            if next(first) == 0:
                signal.raise_signal(sent)
            decoded.append(row)
            time.sleep(0.02)
        return decode_row(table, row, decoding, images)

    configs = []
    for size, config in ((size_of_first, BASELINE), (17, EXP04)):
        changed = f"config.data.image_size = ({size}, 20)\n    return config"
        configs.append(tmp_path / pathlib.Path(config).name)
        configs[-1].write_text(pathlib.Path(config).read_text().replace("return config", changed))
    args = study_args(blobs, tmp_path / "study", configs=map(str, configs))
    args.remove(SMALL[0])
    monkeypatch.setattr(decode, "_decode_row", slowly)
    monkeypatch.setattr(study_run, "train_config", lambda *_: True)  # this is about what comes before
    assert cli.main(args) == 128 + sent
    assert 0 < len(decoded) < 20
    out = capsys.readouterr().out
    assert said in out
    assert bool(re.search(r"\[2/2\] exp04\w+ +stopped after .+: 0 of 6 members are trained", out)) == bool(said)


@pytest.mark.promise
def test_a_config_that_fails_does_not_stop_the_others(blobs, tmp_path, capsys):
    diverging = tmp_path / "diverging.py"
    diverging.write_text(
        "from configs.footprints import baseline\n\n\ndef get_config():\n    config = baseline.get_config()\n"
        "    config.name = 'diverging'\n    config.optim.name = 'sgd'\n    config.optim.learning_rate = 1e30\n"
        "    return config\n"
    )
    folder = tmp_path / "study"
    args = study_args(blobs, folder, configs=(str(diverging), BASELINE, EXP04), seeds=1)
    assert cli.main(args) == 1
    out = capsys.readouterr().out
    assert "FAILED: fold-0-seed-0: loss is" in out
    frame = pd.read_csv(folder / "study.csv").set_index("config")
    assert list(frame.index) == ["baseline", "diverging", EXP04_NAME]
    assert frame.loc["diverging", "verdict"].startswith("FAILED: fold-0-seed-0: loss is not finite in epoch 1")
    assert frame.loc["diverging", "num_members"] != frame.loc["diverging", "num_members"]
    assert np.isfinite(frame.loc[EXP04_NAME, "p_adjusted"])


@pytest.mark.promise
def test_a_member_that_fails_does_not_stop_the_others(blobs, tmp_path, capsys, monkeypatch):
    """Its config is said to have failed, with the files of its batch; what the others learnt is kept."""

    def with_one_that_diverges(config, prepared):
        made = make_member(config, prepared)
        is_one = config.split.fold == 1 and config.name == EXP04_NAME
        return made.replace(class_weights=np.float32([1e38, 1e38])) if is_one else made

    monkeypatch.setattr("fpclass.study.training.make_member", with_one_that_diverges)
    folder = tmp_path / "study"
    assert cli.main(study_args(blobs, folder, seeds=1)) == 1
    said = re.search(r"FAILED: (.*)", capsys.readouterr().out).group(1)
    assert "fold-1-seed-0: loss is not finite in epoch 1, step 1 (batch: img_" in said
    assert [member.is_done for member in Study.open(folder).members(EXP04_NAME)] == [True, False, True]
    assert list(pd.read_csv(folder / "study.csv")["config"]) == ["baseline", EXP04_NAME]


def test_rounds_are_halved():
    assert halved([[0, 1, 2, 3, 4], [5, 6, 7, 8]]) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert halved([[3, 4], [5]]) == [[3], [4], [5]]


@pytest.mark.promise
def test_members_that_do_not_fit_into_memory_train_in_smaller_rounds(blobs, tmp_path, capsys, monkeypatch):
    """Batched ones: a device that ran out of memory gets half of them at a time, and nothing else changes."""
    sizes, original = [], training.train_together

    def with_little_memory(trainees, *args, **kwargs):
        sizes.append(len(trainees))
        if len(trainees) > 2:
            raise MemoryShortage("out of memory")
        return original(trainees, *args, **kwargs)

    monkeypatch.setattr("fpclass.study.training.train_together", with_little_memory)
    folder = tmp_path / "study"
    vmap = "--config.hardware.together=vmap"
    assert cli.main(study_args(blobs, folder, vmap, configs=(BASELINE,), seeds=1)) == 0
    said = capsys.readouterr().out
    assert "baseline: 3 members at a time need more memory than there is; now 2" in said
    assert sizes == [3, 2, 1]


@pytest.mark.promise
def test_a_study_may_grow_but_not_change(blobs, tmp_path, capsys):
    folder = tmp_path / "study"
    assert cli.main(study_args(blobs, folder, configs=(BASELINE,), seeds=1)) == 0
    weights = sorted(folder.glob("members/baseline/*/checkpoints/best/*"))
    changed = [path.stat().st_mtime_ns for path in weights]
    assert cli.main(study_args(blobs, folder, configs=(BASELINE, EXP04), seeds=1)) == 0
    assert "baseline                      3 members were there" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in weights] == changed
    fails(
        capsys,
        study_args(blobs, folder, configs=(BASELINE,), seeds=1),
        "another study",
        f"config only there: {EXP04_NAME}",
    )
    fails(capsys, study_args(blobs, folder, folds=4, seeds=1), "--folds: 3 there, 4 now")
    more = ["--config.optim.learning_rate=0.1"]
    fails(capsys, study_args(blobs, folder, *more, seeds=1), "optim.learning_rate: 0.001 there, 0.1 now")
    fails(capsys, ["study", "--resume", "--folds=3", f"--workdir={folder}"], "leave the rest out")
    other_rules = ["--config.study.margin=0.1", "--config.study.metric=log_loss"]
    assert cli.main(["study", "--resume", f"--workdir={folder}", *other_rules]) == 0
    assert pd.read_csv(folder / "study.csv")["metric"].tolist() == ["log_loss"] * 2


def test_one_study_at_a_time(blobs, tmp_path, capsys):
    """Also before the first member is begun, and the plan of the first one stays what it is."""
    folder = tmp_path / "study"
    plan = plan_study(folder, [BASELINE], [], num_folds=3, num_seeds=1, baseline=None, compare_splits=False)
    with plan.claimed():
        before = (folder / "study.json").read_bytes()
        fails(capsys, study_args(blobs, folder, configs=(EXP04,)), "another training is running in this folder")
        assert (folder / "study.json").read_bytes() == before


def test_what_was_trained_in_part_goes_with_its_settings_and_that_is_said(tmp_path, capsys):
    left = tmp_path / "study/members/baseline/unfinished"
    for flags, is_other in (([], False), ([], False), (["--config.optim.learning_rate=0.5"], True)):
        was_there = left.exists()
        with plan_study(
            tmp_path / "study", [BASELINE], flags, num_folds=3, num_seeds=1, baseline=None, compare_splits=False
        ).claimed():
            assert left.exists() == (was_there and not is_other)
            said = capsys.readouterr().out
            assert ("baseline, trained in part by other settings (baseline optim.learning_rate: " in said) is is_other
        left.mkdir(parents=True, exist_ok=True)


@pytest.mark.slow
def test_a_baseline_that_fails_is_not_replaced_and_may_be_corrected(blobs, tmp_path, capsys):
    folder = tmp_path / "study"
    args = study_args(blobs, folder, seeds=1)
    wrong = tmp_path / "baseline.py"
    text = (
        "from configs.footprints import baseline\n\n\ndef get_config():\n    config = baseline.get_config()\n"
        "    config.optim.name, config.optim.learning_rate = 'sgd', {}\n    return config\n"
    )
    wrong.write_text(text.format("1e30"))
    args = study_args(blobs, folder, configs=(str(wrong), EXP04), seeds=1)
    assert cli.main(args) == 1
    verdicts = pd.read_csv(folder / "study.csv").set_index("config")["verdict"]
    assert verdicts["baseline"].startswith("FAILED")
    assert verdicts[EXP04_NAME] == "not compared: the baseline failed"
    wrong.write_text(text.format("1e-3"))
    assert cli.main(args) == 0, "what failed may be corrected"
    assert f"{EXP04_NAME}  3 members were there" in capsys.readouterr().out
    assert pd.read_csv(folder / "study.csv")["verdict"].iloc[0] == "the baseline"


def test_folds_of_one_seed_start_from_other_weights(study):
    """What chance does to all folds alike, no comparison of folds could see."""
    losses = [member.run.history()[0]["train_loss"] for member in Study.open(study).members("baseline")]
    assert len(set(losses)) == len(losses) == 6
    prepared = types.SimpleNamespace(
        splits=types.SimpleNamespace(rows=lambda role: np.arange(3)),
        table=types.SimpleNamespace(labels=np.zeros(3), num_classes=2),
    )
    seeds = [make_member(member.run.config, prepared).seed for member in Study.open(study).members("baseline")]
    assert len(set(map(int, seeds))) == 6
    assert int(seeds[0]) == 0, "without folds, the seed is that of the config"


@pytest.mark.promise
def test_three_classes_in_folders_without_people(tmp_path, capsys):
    """A study of any data set: vector scaling, three classes, intervals over images, and no leak to show."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("circle", "dark", "light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            grey = rng.integers(80 * k, 80 * k + 60, (24, 20)).astype(np.uint8)
            Image.fromarray(grey).save(tmp_path / "data" / name / f"{i}.png")
    args = [
        "study", "--configs=configs/base.py", "--folds=3", f"--workdir={tmp_path / 'study'}", *SMALL,
        "--config.data.source=folder", f"--config.data.root={tmp_path / 'data'}", "--config.study.calibration=vector",
        "--config.study.metric=macro_f1", "--config.train.early_stopping=patience", "--config.train.ema_decay=0.9",
        "--config.study.cost=((0,1,1),(1,0,1),(2,2,0))", "--config.model.dense_features=(120,84)",
    ]  # fmt: skip
    assert cli.main(args) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "36 images, 3 folds x 1 seeds" in out
    assert "overlapping training sets and the noise of training" in out
    assert "people" not in out.partition("written")[0].replace("docs/evidence.md", "")
    assert "costs: decided by them" in out
    found = json.loads((tmp_path / "study" / "results.json").read_text())
    assert found["ensemble"]["scores"]["accuracy"]["value"] > 0.6
    assert found["calibration"]["method"] == "vector"
    fails(capsys, [*args, "--compare-splits"], "names no people")


def test_a_damaged_or_changed_data_set_is_not_mixed_in(study, blobs, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    data = pathlib.Path(shutil.copytree(blobs, tmp_path / "data"))
    shutil.copy(data / "processed/processed/img_0001.png", data / "processed/processed/img_0002.png")
    shutil.rmtree(folder / "members" / EXP04_NAME / "fold-0-seed-0" / "checkpoints")
    (folder / "members" / EXP04_NAME / "fold-0-seed-0" / "predictions.csv").unlink()
    fails(capsys, ["study", "--resume", f"--workdir={folder}", f"--config.data.root={data}"], "the data have changed")
    fails(
        capsys, ["submit", "--ensemble", f"--workdir={folder}", f"--config.data.root={data}"], "the data have changed"
    )


def test_bad_input(study, blobs, tmp_path, capsys):
    fails(capsys, study_args(blobs, tmp_path / "a", folds=9), "too few for a split into 9 parts")
    fails(capsys, study_args(blobs, tmp_path / "b", configs=("configs/nowhere/*.py",)), "no config file matches")
    fails(capsys, study_args(blobs, tmp_path / "c", configs=("configs/footprints/basline.py",)), "no such file")
    fails(capsys, study_args(blobs, tmp_path / "d", "--baseline=exp99"), "--baseline=exp99", "baseline, exp04")
    fails(capsys, ["study", "--resume", f"--workdir={tmp_path / 'e'}"], "no such folder")
    same = tmp_path / "same.py"
    same.write_text("from configs.footprints.baseline import get_config\n")
    fails(
        capsys, study_args(blobs, tmp_path / "f", configs=(BASELINE, str(same))), "another config is called 'baseline'"
    )
    fails(capsys, study_args(blobs, tmp_path / "g", "--config.split.grouped=False"), "use --compare-splits")
    peeking = "--config.split.selection=validation"
    fails(capsys, study_args(blobs, tmp_path / "g", peeking), "chooses on the people that report")
    fails(capsys, study_args(blobs, tmp_path / "h", "--config.study.cost=((0,1),)"), "cost matrix")
    fails(capsys, ["submit", "--ensemble", f"--workdir={tmp_path}"], "not a study folder")
    with pytest.raises(SystemExit):
        cli.main(study_args(blobs, tmp_path / "g", folds=1))
    assert "expected at least 2" in capsys.readouterr().err


def test_configs_must_divide_people_alike(blobs, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(
        "from configs.footprints import baseline\n\n\ndef get_config():\n    config = baseline.get_config()\n"
        "    config.name, config.split.seed = 'other', 1\n    return config\n"
    )
    fails(capsys, study_args(blobs, tmp_path / "study", configs=(BASELINE, str(other))), "other: split.seed is 1")


def test_submission_from_the_ensemble(study, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}"]) == 0
    submission = pd.read_csv(folder / "submission.csv")
    assert submission.columns.tolist() == ["filename", "SEX"]
    assert submission["SEX"].tolist() == [0, 0, 1, 1, 0, 0], "blobs are told apart"
    words = {"abstain": str, "set": str}
    said = pd.read_csv(folder / "ensemble_predictions.csv", dtype=words).set_index("filename")
    ensemble = json.loads((folder / "ensemble.json").read_text())
    test = pd.read_csv(folder / "test_predictions.csv")
    test["second"] = 1 / (1 + np.exp(test["logit_0"] - test["logit_1"]))
    of_seeds = test.groupby(["config", "fold", "filename"])["second"].mean()
    of_folds = sum(weight * of_seeds.loc[name] for name, weight in ensemble["weights"].items())
    odds = np.log(of_folds / (1 - of_folds)) * ensemble["calibration"]["scale"][0]
    by_hand = (1 / (1 + np.exp(-odds))).groupby("filename").mean()
    scale = ensemble["sharpening"]["scale"]
    assert "the spread of 2 seeds alone" in ensemble["sharpening"]["fitted_on"], "six rows to predict are too few"
    by_hand = 1 / (1 + (1 / by_hand - 1) ** scale)
    found = 1 / (1 + np.exp(said["logit_0"] - said["logit_1"]))
    np.testing.assert_allclose(found, by_hand.loc[said.index], rtol=1e-3)
    assert set(said["abstain"].fillna("")) == {""}, "of 16 people nothing can be promised"
    assert ensemble["promises"]["smallest_confidence"] is None
    quantiles = np.array(ensemble["promises"]["quantiles"])
    inside = np.stack([found, 1 - found], axis=1) <= quantiles  # 1 - p of class 0 is p of class 1
    assert said["set"].fillna("").tolist() == [" | ".join(np.array(["0", "1"])[row]) for row in inside]
    for objective in ("f1", "balanced_accuracy"):
        assert (
            cli.main(["submit", "--ensemble", f"--workdir={folder}", f"--config.submit.threshold_for={objective}"]) == 0
        )
    fails(capsys, ["submit", "--ensemble", f"--workdir={folder}", "--config.submit.threshold_for=cost"], "study.cost")
    (folder / "ensemble.json").unlink()
    fails(capsys, ["submit", "--ensemble", f"--workdir={folder}"], "ensemble.json: not found")
