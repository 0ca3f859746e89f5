"""`fpclass tune` through the command line, by the command of docs/tune.md: what it finds, writes and refuses."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from fpclass import cli
from fpclass.common import parallel
from fpclass.common.files import write_json
from fpclass.config import differences, flatten
from fpclass.errors import DataError, RunError
from fpclass.experiment import load_config, load_configs
from fpclass.study.run import accuracy_of
from fpclass.study.study import Study
from fpclass.study.training import train_config
from fpclass.train import placement
from fpclass.tune import commands, run, trial
from fpclass.tune.compare import plan_comparison
from fpclass.tune.search import Limits, Search
from fpclass.tune.trial import is_behind

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "tune.md").read_text(encoding="utf-8")
SMALL = [
    "--config.data.image_size=(24,20)", "--config.model.conv_features=(4,)", "--config.model.dense_features=(4,)",
    "--config.train.batch_size=16", "--config.train.num_epochs=20", "--config.evaluate.num_resamples=50", "--folds=3",
]  # fmt: skip
CONFIG = "configs/footprints/exp11_adamw_cosine.py"
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


@pytest.mark.promise
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


@pytest.mark.promise
def test_what_was_found_is_a_config_file(tuned):
    frame = read(tuned)
    whole = frame[frame["became"] == "whole"]
    best = whole.loc[whole["accuracy"].astype(float).idxmax()]
    config = load_config(str(tuned / "tuned.py"))
    (base,) = load_configs([CONFIG], [f for f in SMALL if f.startswith("--config")])
    keys = ["optim.learning_rate", "optim.weight_decay", "train.num_epochs", "train.label_smoothing"]
    assert config.name == "exp11_adamw_cosine_tuned"
    assert set(differences(base, config)) - {"data.root", "name"} <= {*keys, "augment.erasing_probability"}
    for key in keys:
        assert flatten(config)[key] == float(best[key])
    text = (tuned / "tuned.py").read_text()
    assert "configs/footprints/exp11_adamw_cosine.py" in text
    assert "it was 0.001" in text


@pytest.mark.promise
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


def test_what_is_found_later_joins_the_comparison(tmp_path):
    """So that nothing of it is lost; what was never trained leaves no trace, and seeds and rules are those there."""

    def found(rate: float) -> tuple[str, Study]:
        study, name = plan_comparison(
            tmp_path, base, load_configs([CONFIG], [f"--config.optim.learning_rate={rate}"])[0], 3
        )
        write_json(tmp_path / "study.json", study.to_json())
        return name, study

    (base,) = load_configs([CONFIG], [])
    assert found(0.1)[0] == "tuned"
    name, study = found(0.2)
    assert (name, study.configs["tuned"].optim.learning_rate) == ("tuned", 0.2), "the first one was never trained"
    done = study.members("tuned")[0].run.path("predictions.csv")
    done.parent.mkdir(parents=True)
    done.touch()
    resumed = study.changed(["--config.study.margin=0.07"], num_seeds=3)
    write_json(tmp_path / "study.json", resumed.to_json())
    assert found(0.2)[0] == "tuned"
    name, study = found(0.5)
    assert (name, list(study.configs)) == ("tuned-2", ["baseline", "tuned", "tuned-2"])
    assert study.configs[name].optim.learning_rate == 0.5
    assert (study.configs[name].study.margin, study.num_seeds) == (0.07, 3)


@pytest.mark.promise
def test_the_same_command_trains_nothing_twice(tuned, noisy, ways, tmp_path, capsys):
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


@pytest.mark.promise
def test_more_trials_go_on_and_what_they_find_is_compared(tuned, noisy, ways, tmp_path, monkeypatch):
    """Beside what an earlier start found, with the seeds that the comparison has meanwhile, even if that one fails."""
    folder = tmp_path / "tune"
    shutil.copytree(tuned, folder)
    assert cli.main(["study", "--resume", f"--workdir={folder / 'study'}", "--seeds=2"]) == 0
    found = load_config(str(folder / "tuned.py")).optim.learning_rate
    next((folder / "study" / "members" / "tuned").glob("*/predictions.csv")).unlink()

    def fail(study: Study, name: str, *args: Any, **options: Any) -> bool:
        if name == "tuned":
            raise ValueError("broken")
        return train_config(study, name, *args, **options)

    def another(self: Search) -> FrozenTrial:
        rates = {t.number: self.values_of(t)["optim.learning_rate"] for t in self.whole}
        return next(t for t in self.whole if rates[t.number] not in (found, self.base.optim.learning_rate))

    monkeypatch.setattr("fpclass.study.run.train_config", fail)
    monkeypatch.setattr(Search, "best", property(another))
    assert cli.main(arguments(noisy, folder, f"--trials={NUM_TRIALS + 1}")) == 0
    assert len(read(folder)) == NUM_TRIALS + 1
    study = Study.open(folder / "study")
    assert (list(study.configs), study.num_seeds) == (["baseline", "tuned", "tuned-2"], 2)
    assert all(member.is_done for member in study.members("tuned-2"))
    score = np.mean([accuracy_of(member) for member in study.members("tuned-2")])
    assert f"on other folds, with other seeds: {score:.3f}" in (folder / "tune.md").read_text()


@pytest.mark.promise
def test_trials_that_break_are_told_and_the_search_goes_on(noisy, ways, tmp_path, monkeypatch, capsys):
    """By another metric, the lowest of which is best; until every choice was there, or all that is tried breaks."""
    folder, space = tmp_path / "tune", tmp_path / "space.py"
    space.write_text('SPACE = {"optim.learning_rate": [0.001, 1e30]}\n')
    flags = arguments(noisy, folder, f"--space={space}", "--config.study.metric=log_loss")
    assert cli.main(flags) == 0
    out = capsys.readouterr().out
    assert "proposals were there before: the space is searched" in out
    assert "nothing was better" in out
    assert "Traceback" not in out
    frame = read(folder)
    assert set(frame["became"]) == {"whole", "failed"}
    failed = frame[frame["became"] == "failed"]
    assert failed["failure"].str.contains("loss").all()
    assert not failed["failure"].str.contains("more of").any(), "one fold is enough"
    (whole,) = set(frame["log_loss"][frame["became"] == "whole"].astype(float))
    assert 0 < whole < 2
    assert cli.main([*flags, "--config.study.metric=accuracy"]) == 2
    assert "belongs to another search (study.metric differs)" in capsys.readouterr().err

    def fail(*_: Any, **__: Any) -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(trial, "train_config", fail)
    assert cli.main(flags) == 0
    out = capsys.readouterr().out
    assert "FAILED: ValueError: broken" in out
    assert "the last 10 trials failed: the search ends here" in out
    assert len(read(folder)) == len(frame) + 10
    assert cli.main(arguments(noisy, tmp_path / "other")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_metric_that_is_defined_on_no_fold_is_a_failure(noisy, ways, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "score_of", lambda *_: float("nan"))
    assert cli.main(arguments(noisy, tmp_path / "tune", "--trials=1")) == 1
    assert "FAILED: accuracy is defined on none of its folds" in capsys.readouterr().out
    assert read(tmp_path / "tune")["became"].tolist() == ["failed"]


def test_a_search_has_the_folds_that_its_people_allow(noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "default_folds", lambda _: 3)
    (base,) = load_configs([CONFIG], [f"--config.data.root={noisy}"])
    assert [run.plan_search(tmp_path, base, {}, folds, "").num_folds for folds in (None, 4)] == [3, 4]


@pytest.mark.promise
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
    (folder / "search" / "journal.log.lock").symlink_to("nowhere")  # as a kill may leave it
    assert cli.main(arguments(noisy, folder, "--trials=2")) == 0
    frame = read(folder)
    assert frame["became"].tolist() == ["whole", "interrupted", "whole"]
    assert frame["members"][1] == frame["members"][2], "the same values, again"
    assert before.items() <= trained(folder).items(), "what was trained stays as it is"


@pytest.fixture
def begin(monkeypatch):
    """Begins a search in a folder, up to its images, which cannot be listed."""

    def fail(*_: Any) -> None:
        raise DataError("no images")

    def start(folder: pathlib.Path, *overrides: str) -> None:
        (base,) = load_configs([CONFIG], overrides)
        run.run_search(run.Plan(folder, base, {}, 3, ""), Limits(60))

    monkeypatch.setattr(run, "Search", fail)
    return start


def test_a_folder_in_which_nothing_was_trained_takes_other_settings(begin, tmp_path, capsys):
    """What stood in the way may be what is corrected; it is said what goes, and of the same settings nothing does."""
    journal = tmp_path / "search" / "journal.log"
    with pytest.raises(DataError, match="no images"):
        begin(tmp_path)
    journal.write_text("of trials that failed")
    with pytest.raises(DataError):
        begin(tmp_path)
    assert journal.is_file()
    assert not capsys.readouterr().out
    with pytest.raises(DataError):
        begin(tmp_path, "--config.optim.learning_rate=0.5")
    assert not journal.exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"removed: {tmp_path / 'search'}, of another search (optim.learning_rate differs)")
    assert json.loads((tmp_path / "tune.json").read_text())["config"]["optim"]["learning_rate"] == 0.5


def test_a_damaged_search_is_refused_and_nothing_of_it_deleted(begin, tmp_path):
    """Nobody knows whose it is; whatever is in it."""
    with pytest.raises(DataError):
        begin(tmp_path)
    (tmp_path / "search" / "journal.log").write_text("of trials")
    path = tmp_path / "tune.json"
    whole = json.loads(path.read_text())
    for text in ('{"folds": 3', "[]", json.dumps(whole | {"folds": "3"}), json.dumps(whole | {"format": 999})):
        path.write_text(text)
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        with pytest.raises(RunError, match=r"tune\.json"):
            begin(tmp_path, "--config.optim.learning_rate=0.5")
        assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before, text


@pytest.mark.parametrize("name", ["fold-0-seed-0/predictions.csv", "fold-0-seed-0/checkpoints", "unfinished"])
def test_what_was_trained_is_kept(begin, tmp_path, name):
    left = tmp_path / "search" / "members" / "trial-0" / name
    with pytest.raises(DataError):
        begin(tmp_path)
    left.mkdir(parents=True)
    with pytest.raises(RunError, match=r"belongs to another search \(optim\.learning_rate differs\)"):
        begin(tmp_path, "--config.optim.learning_rate=0.5")
    assert left.exists()


def test_the_checkpoint_of_a_first_trial_is_kept(noisy, ways, tmp_path, monkeypatch, capsys):
    """The real one: stopped in its first round, of which no predictions are there."""
    folder, asked = tmp_path / "tune", []

    def stop(*_: Any) -> None:
        if not asked:  # a second time would be the end at once
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(trial._Trial, "_on_epoch", stop)
    assert cli.main(arguments(noisy, folder, "--trials=1")) == 130
    assert not trained(folder)
    before = {path for path in folder.rglob("unfinished/*") if path.is_dir()}
    assert before
    assert cli.main(arguments(noisy, folder, "--trials=1", "--config.optim.warmup_epochs=2")) == 2
    assert "belongs to another search (optim.warmup_epochs" in capsys.readouterr().err
    assert {path for path in folder.rglob("unfinished/*") if path.is_dir()} == before


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
    refused(arguments(noisy, tmp_path / "c"), "pip install optuna")


def test_who_is_behind_the_median_is_stopped(monkeypatch):
    monkeypatch.setattr(trial, "MIN_OTHERS", 4)
    assert is_behind(0.5, [0.6, 0.7, 0.5, 0.8], "accuracy")
    assert not is_behind(0.7, [0.6, 0.7, 0.5, 0.8], "accuracy")
    assert is_behind(0.7, [0.6, 0.7, 0.5, 0.6], "log_loss")
    assert not is_behind(0.1, [0.6, 0.7, 0.5], "accuracy"), "too few to tell"
    assert is_behind(float("nan"), [0.6, 0.7, 0.5, 0.8], "accuracy")
    assert not is_behind(0.5, [float("nan")] * 4, "accuracy")
