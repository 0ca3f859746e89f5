"""Training from Python, and what it leaves: numbers, figures, tables, comparisons; errors that a caller can catch."""

from __future__ import annotations

import inspect
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from conftest import SMALLEST

import fpclass
from fpclass.run import train as trainer

FREE = "import sys, fpclass; assert not {'jax', 'numpy', 'pandas', 'absl', 'sklearn'} & set(sys.modules); "


def test_importing_it_imports_nothing_heavy_and_names_are_there():
    code = FREE + "print(*dir(fpclass)); fpclass.FpclassError; fpclass.load"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) == set(fpclass.__all__)
    assert all(getattr(fpclass, name) is not None for name in fpclass.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = fpclass.trian  # pyright: ignore


def test_the_packages_train_and_study_are_functions_too():
    import fpclass.study.study
    import fpclass.train.engine as engine
    from fpclass.train.engine import fit

    assert engine.fit is fit
    assert next(iter(inspect.signature(fpclass.train).parameters)) == "root"
    assert next(iter(inspect.signature(fpclass.study).parameters)) == "configs"


def test_a_run_shows_what_it_amounts_to(photo_run):
    run = fpclass.load(photo_run)
    assert isinstance(run, fpclass.TrainedRun)
    assert run.folder == photo_run
    assert run.config.data.image_size == (24, 20)
    assert run.config.name == "photos"
    assert run.classes == ("cat", "dog")
    accuracy = run.metrics["validation"]["accuracy"]
    said = f"photos, accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] on "
    assert said in repr(run)
    assert said in run._repr_html_()
    assert run._repr_html_().count("<img") == 1
    assert {"confusion_matrix", "roc"} <= set(run.figures)
    assert run.figures._repr_html_().count("data:image/png;base64,") == len(run.figures)
    table = run.predictions
    rows = table[table["split"] == "validation"]
    assert len(rows) == run.metrics["validation"]["num_images"]
    right = rows["label"] == rows[["logit_cat", "logit_dog"]].to_numpy().argmax(axis=1)
    assert right.mean() == accuracy["value"]
    page = run.predict(np.zeros((24, 20, 3), np.uint8))._repr_html_()
    assert "<b>" in page


def test_a_study_shows_what_it_amounts_to(study):
    opened = fpclass.load(study)
    assert isinstance(opened, fpclass.TrainedStudy)
    assert len(opened.out_of_fold) == 2 * 2 * 32, "configs x seeds x images"
    assert opened.metrics["choice"]["chosen"] in repr(opened)
    assert "the best of 2 configs; of that choice expect accuracy" in opened._repr_html_()
    table = fpclass.compare(opened)
    pd.testing.assert_frame_equal(table, pd.read_csv(study / "study.csv", dtype={"data": str}), check_dtype=False)
    assert table["verdict"][0] == "the baseline"
    assert table["mean"].dtype == np.float64
    with pytest.raises(fpclass.ConfigError, match="has its own"):
        fpclass.compare(study, baseline="x")


def test_runs_on_the_same_images_are_compared_in_pairs(study):
    configs = sorted(folder.name for folder in (study / "members").iterdir())
    members = {name: [study / "members" / name / f"fold-0-seed-{seed}" for seed in (0, 1)] for name in configs}
    table = fpclass.compare([folder for of_one in members.values() for folder in of_one], baseline=configs[1])
    assert table["config"].tolist() == configs
    assert table["num_members"].tolist() == [2, 2]
    other, baseline = table.iloc[0], table.iloc[1]
    assert baseline["verdict"] == "the baseline"
    assert other["difference"] == pytest.approx(other["mean"] - baseline["mean"])
    assert "not tested" not in other["verdict"]
    expected = []
    for folder in members[configs[0]]:
        of_member = fpclass.load(folder)
        assert isinstance(of_member, fpclass.TrainedRun)
        rows = of_member.predictions
        expected.append((rows["label"] == rows[["logit_0", "logit_1"]].to_numpy().argmax(axis=1)).mean())
    assert other["mean"] == pytest.approx(np.mean(expected))
    single = fpclass.compare([members[name][0] for name in configs])
    assert "not tested: that takes two seeds" in single["verdict"][1]
    assert 0 <= single["p_mcnemar_clustered"][1] <= 1
    with pytest.raises(fpclass.DataError, match="judged on other images"):
        fpclass.compare([members[configs[0]][0], study / "members" / configs[1] / "fold-1-seed-0"])
    with pytest.raises(fpclass.ConfigError, match="given twice"):
        fpclass.compare([members[configs[0]][0]] * 2)
    with pytest.raises(fpclass.ConfigError, match="two runs or more"):
        fpclass.compare([members[configs[0]][0]])


def test_the_same_call_trains_nothing_twice(photo_run, photos, capsys, monkeypatch):
    """In a thread, where there are no signals to wait for; and it says nothing."""
    monkeypatch.setattr(trainer, "train", lambda *_: pytest.fail("trained again"))
    capsys.readouterr()
    found = []
    keys = {"size": (24, 20), "workdir": photo_run, "config": SMALLEST, "until": "evaluate"}
    thread = threading.Thread(target=lambda: found.append(fpclass.train(photos, quiet=True, **keys)))
    thread.start()
    thread.join()
    assert capsys.readouterr().out == ""
    fpclass.train(photos, **keys)
    assert "accuracy" in capsys.readouterr().out
    assert found[0].folder == photo_run


def test_it_trains_in_a_thread(photos, tmp_path):
    found = []
    keys = {"size": 8, "workdir": tmp_path / "run", "until": "train", "quiet": True, "config": SMALLEST}
    thread = threading.Thread(target=lambda: found.append(fpclass.train(photos, **keys, **{"train.num_epochs": 1})))
    thread.start()
    thread.join()
    assert found[0].config.train.num_epochs == 1, "a keyword goes before `config`"
    assert "not found" in repr(found[0]) or "metrics.json" in repr(found[0]), "it is not evaluated"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"optim.learning_rat": 1}, "no such key, did you mean optim.learning_rate"),
        ({"config": {"optim": {"learning_rate": "much"}}}, "learning_rate"),
        ({"config": {"optim": {"learning_rate": None}}}, "config.optim.learning_rate is None"),
        ({"config": "nowhere.py"}, "no such file"),
        ({"until": "lunch"}, "expected one of ingest, prepare, train, evaluate"),
        ({"label": "sort"}, "no CSV that names images"),
        ({"model": "cnm"}, "no such network"),
    ],
)
def test_what_can_be_mended_is_an_error_of_one_line(photos, tmp_path, keys, said):
    with pytest.raises(fpclass.FpclassError, match=said) as caught:
        fpclass.train(photos, workdir=tmp_path / "run", quiet=True, **keys)
    assert "\n" not in str(caught.value)


def test_a_study_is_trained_by_its_configs_and_keys(blobs, tmp_path, monkeypatch):
    """What `fpclass.study` makes of its arguments; the trainings themselves are those of the command."""
    planned = []
    monkeypatch.setattr("fpclass.api.training.run_study", lambda plan, **_: planned.append(plan) or 1)
    with pytest.raises(fpclass.RunError, match=r"could not be trained; its row of study\.md says why"):
        fpclass.study(
            ["configs/footprints/baseline.py", "configs/footprints/exp04*.py"],
            blobs,
            folds=3,
            seeds=2,
            workdir=tmp_path / "study",
            config={"train.num_epochs": 3},
            **{"train": {"batch_size": 4}},
        )
    (plan,) = planned
    assert list(plan.configs) == ["baseline", "exp04_early_stopping_dropout"]
    assert (plan.num_folds, plan.num_seeds, plan.folder) == (3, 2, tmp_path / "study")
    for config in plan.configs.values():
        assert (config.train.num_epochs, config.train.batch_size, config.data.root) == (3, 4, str(blobs))
        assert config.data.image_size == (120, 80), "what an experiment says of its images stays"


def test_a_folder_that_is_neither_is_said(tmp_path):
    with pytest.raises(fpclass.RunError, match="not a run folder"):
        fpclass.load(tmp_path)
    with pytest.raises(fpclass.RunError, match="no such folder"):
        fpclass.load(pathlib.Path("~") / "nowhere")
