"""`fpclass tune` through the command line, by the command of docs/tune.md: what it finds, writes and refuses."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fpclass import cli, parallel
from fpclass.config import differences, flatten
from fpclass.experiment import load_config, load_configs
from fpclass.study.run import accuracy_of
from fpclass.study.study import Study
from fpclass.train import placement
from fpclass.tune import commands, trial
from fpclass.tune.compare import plan_comparison
from fpclass.tune.trial import is_behind

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "tune.md").read_text(encoding="utf-8")
SMALL = [
    "--config.data.image_size=(24,20)", "--config.model.conv_features=(4,)", "--config.model.dense_features=(4,)",
    "--config.train.batch_size=16", "--config.train.num_epochs=20", "--config.evaluate.num_resamples=50", "--folds=3",
]  # fmt: skip
NUM_TRIALS = 5


def arguments(data: pathlib.Path, folder: pathlib.Path, *more: str) -> list[str]:
    """The first command of the page, small."""
    command = re.findall(r"^python launch\.py (tune .*)$", PAGE, flags=re.MULTILINE)[0]
    words = [word.replace("=DIR", f"={data}") for word in shlex.split(command) if not word.startswith("--workdir")]
    return [*words, f"--workdir={folder}", *SMALL, *more]


@pytest.fixture(scope="module")
def ways():
    """One device, so that folds come one by one, and trials that can be stopped from the third on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "member_mesh", lambda _: parallel.member_mesh(1))
        patch.setattr(parallel, "use_all_cores", lambda: None)
        patch.setattr(trial, "MIN_OTHERS", 2)
        render = Figure.savefig  # nobody looks at the figures
        patch.setattr(Figure, "savefig", lambda _, file, **options: render(Figure(figsize=(1, 1)), file, **options))
        yield


@pytest.fixture(scope="module")
def tuned(noisy, ways, tmp_path_factory):
    """The folder of a finished search, what it said, and what the folds of its trials were; read only."""
    folder = tmp_path_factory.mktemp("tuned") / "tune"
    assert cli.main(arguments(noisy, folder, f"--trials={NUM_TRIALS}")) == 0
    return folder


def read(folder: pathlib.Path) -> pd.DataFrame:
    return pd.read_csv(folder / "trials.csv", keep_default_na=False)


def members(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    return sorted((folder / "search" / "members" / name).glob("*/predictions.csv"))


def trained(folder: pathlib.Path) -> dict[pathlib.Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("predictions.csv")}


def test_a_score_is_the_mean_over_the_folds_that_were_trained(tuned):
    frame = read(tuned)
    assert len(frame) == NUM_TRIALS
    assert frame["became"].tolist().count("stopped") == 1, "by the median of those before it"
    table = json.loads((tuned / "tune.json").read_text())
    assert table["folds"] == 3
    for row in frame.to_dict("records"):
        files = members(tuned, row["members"])
        assert len(files) == row["num_folds"] == (3 if row["became"] == "whole" else len(files))
        of_folds = []
        for file in files:
            predictions = pd.read_csv(file)
            of_folds.append(np.mean((predictions["logit_1"] > predictions["logit_0"]) == predictions["label"]))
        assert float(row["accuracy"]) == pytest.approx(np.mean(of_folds))
    assert not list((tuned / "search").rglob("checkpoints")), "of trials the predictions are wanted alone"
    first = frame.iloc[0]
    assert (first["optim.learning_rate"], first["train.num_epochs"]) == (0.001, 20), "the config as it stands"


def test_what_was_found_is_a_config_file(tuned):
    frame = read(tuned)
    whole = frame[frame["became"] == "whole"]
    best = whole.loc[whole["accuracy"].astype(float).idxmax()]
    config = load_config(str(tuned / "tuned.py"))
    (base,) = load_configs(["configs/footprints/exp11_adamw_cosine.py"], [f for f in SMALL if f.startswith("--config")])
    keys = ["optim.learning_rate", "optim.weight_decay", "train.num_epochs", "train.label_smoothing"]
    assert config.name == "exp11_adamw_cosine_tuned"
    assert set(differences(base, config)) - {"data.root", "name"} <= {*keys, "augment.erasing_probability"}
    for key in keys:
        assert flatten(config)[key] == float(best[key])
    text = (tuned / "tuned.py").read_text()
    assert "configs/footprints/exp11_adamw_cosine.py" in text
    assert "it was 0.001" in text


def test_it_is_judged_on_other_folds_with_other_seeds(tuned):
    study = Study.open(tuned / "study")
    assert list(study.configs) == ["baseline", "tuned"]
    assert not list((tuned / "study").glob("*.tmp"))
    of_search = pd.read_csv(members(tuned, read(tuned)["members"][0])[0].with_name("splits.csv"))
    member = study.members("tuned")[0]
    of_study = pd.read_csv(member.run.path("splits.csv"))
    assert of_search["filename"].tolist() == of_study["filename"].tolist()
    assert of_search["fold"].tolist() != of_study["fold"].tolist()
    assert member.seed >= 1000
    assert member.run.config.optim.learning_rate == load_config(str(tuned / "tuned.py")).optim.learning_rate
    score = np.mean([accuracy_of(member) for member in study.members("tuned")])
    page = (tuned / "tune.md").read_text()
    for text in (page, " ".join((tuned / "tuned.py").read_text().split())):
        assert "on the folds that chose it, which is optimistic" in text
        assert "chosen on all folds but one and scored on that one" in text
        assert f"on other folds, with other seeds: {score:.3f}" in text
    assert "| trial | accuracy | optim.learning_rate |" in page


def test_what_is_found_later_joins_the_comparison(tuned):
    """So that nothing of it is lost, and the table knows how many there were."""
    found, names = load_config(str(tuned / "tuned.py")), []
    (base,) = load_configs(["configs/footprints/exp11_adamw_cosine.py"], [f for f in SMALL if f.startswith("--config")])
    for rate in (found.optim.learning_rate, 0.5):
        later = found.copy_and_resolve_references()
        later.optim.learning_rate = rate
        study, name = plan_comparison(tuned / "study", base, later.lock(), 3)
        names.append((name, list(study.configs)))
    assert names == [("tuned", ["baseline", "tuned"]), ("tuned-2", ["baseline", "tuned", "tuned-2"])]
    assert study.configs["tuned-2"].optim.learning_rate == 0.5


def test_the_same_command_trains_nothing_twice_and_more_trials_go_on(tuned, noisy, ways, tmp_path, capsys):
    folder = tmp_path / "tune"
    shutil.copytree(tuned, folder)
    before = trained(folder)
    assert cli.main(arguments(noisy, folder, f"--trials={NUM_TRIALS}")) == 0
    assert trained(folder) == before
    assert len(read(folder)) == NUM_TRIALS
    out = capsys.readouterr().out
    assert "[trial" not in out
    assert "on other folds, with other seeds" in out
    assert cli.main(arguments(noisy, folder, "--trials=5", "--config.optim.warmup_epochs=2")) == 2
    assert "belongs to another search (optim.warmup_epochs" in capsys.readouterr().err


def test_ctrl_c_ends_it_with_what_there_is_and_the_same_command_goes_on(noisy, ways, tmp_path, monkeypatch, capsys):
    folder, seen = tmp_path / "tune", []
    go_on = trial._Trial._after_round

    def stop_in_the_second_trial(self: trial._Trial, num_failed: int) -> bool:
        seen.append(self._name)
        if len(set(seen)) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return go_on(self, num_failed)

    monkeypatch.setattr(trial._Trial, "_after_round", stop_in_the_second_trial)
    assert cli.main(arguments(noisy, folder, "--trials=2")) == 130
    out = capsys.readouterr().out
    assert "about" in out.partition("estimate: a trial takes")[2]
    assert "the same command goes on from there" in out
    assert read(folder)["became"].tolist() == ["whole", "interrupted"]
    assert load_config(str(folder / "tuned.py")).optim.learning_rate == 0.001
    assert not (folder / "study").exists()
    before = trained(folder)
    monkeypatch.setattr(trial._Trial, "_after_round", go_on)
    assert cli.main(arguments(noisy, folder, "--trials=2")) == 0
    frame = read(folder)
    assert frame["became"].tolist() == ["whole", "interrupted", "whole"]
    assert frame["members"][1] == frame["members"][2], "the same values, again"
    assert before.items() <= trained(folder).items(), "what was trained stays as it is"


def test_bad_input_is_one_line(noisy, photos, ways, tmp_path, monkeypatch, capsys):
    def refused(args: list[str], *words: str) -> None:
        assert cli.main(args) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        for word in words:
            assert word in err

    refused(arguments(noisy, tmp_path / "a", "--minutes=0.001"), "--minutes=0.001: a trial takes about", "or more")
    brings = tmp_path / "brings"
    for split in ("train", "validation"):
        shutil.copytree(photos, brings / split)
    folder = ["--config=from_scratch", "--space=configs/spaces/small_cnn.py"]
    refused(["tune", str(brings), *folder, f"--workdir={tmp_path / 'b'}"], "its own validation images", "tuned.py")
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda _: None)
    refused(arguments(noisy, tmp_path / "c"), "pip install 'fpclass[tune]'")


def test_who_is_behind_the_median_is_stopped(monkeypatch):
    monkeypatch.setattr(trial, "MIN_OTHERS", 4)
    assert is_behind(0.5, [0.6, 0.7, 0.5, 0.8], "accuracy")
    assert not is_behind(0.7, [0.6, 0.7, 0.5, 0.8], "accuracy")
    assert is_behind(0.7, [0.6, 0.7, 0.5, 0.6], "log_loss")
    assert not is_behind(0.1, [0.6, 0.7, 0.5], "accuracy"), "too few to tell"
    assert is_behind(float("nan"), [0.6, 0.7, 0.5, 0.8], "accuracy")
