"""A first look: what `--quick` leaves of a study, that it is said; and a stopped study, submitted with what is done."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from test_study import BASELINE, EXP04_NAME, fails, study_args

from fpclass import cli
from fpclass.experiment import load_config
from fpclass.study.plan import assemble, describe_plan
from fpclass.study.quick import ABOUT, quick_look, quick_share, shortened
from fpclass.study.study import Study


def test_a_quick_look_is_a_share_of_the_study(tmp_path):
    configs = {name: load_config(BASELINE, [f"--config.name={name}"]) for name in ("a", "b")}
    common = {"num_seeds": 3, "baseline": "a", "compare_splits": False}
    study = assemble(tmp_path, dict(configs), num_folds=5, **common)
    quick = quick_look(study)
    assert describe_plan(study).startswith("study: 2 configs x 5 folds x 3 seeds = 30 trainings")
    assert describe_plan(quick).startswith("study: 2 configs x 3 folds x 1 seed = 6 trainings")
    before, now = (sum(c.train.num_epochs for c in s.configs.values()) for s in (study, quick))
    assert now * 6 / (before * 30) == pytest.approx(quick_share(study))
    assert quick_look(assemble(tmp_path, configs, num_folds=0, **common)).num_folds == 0, "the split of the data"
    assert Study.open(_written(quick)).is_quick


def _written(study: Study):
    study.folder.mkdir(exist_ok=True)
    study.path("study.json").write_text(json.dumps(study.to_json()))
    return study.folder


@pytest.mark.parametrize(
    ("settings", "epochs", "short"),
    [
        (("optim.schedule=cosine", "optim.warmup_epochs=3"), 30, ("warmup_epochs", 1)),
        (("train.early_stopping=patience", "train.patience=10"), 30, ("patience", 2)),
        (("optim.schedule=plateau", "optim.plateau_patience=2"), 30, ("plateau_patience", 1)),
        (("model.name=blocks", "finetune.freeze_before=head", "finetune.unfreeze=(('block3',3),('block2',4))"), 5, ()),
    ],
)
def test_what_is_counted_in_epochs_is_shortened_with_them(settings, epochs, short):
    flags = [f"--config.{setting}" for setting in (*settings, f"train.num_epochs={epochs}")]
    config = shortened(load_config(BASELINE, flags))
    if short:
        key, value = short
        assert config.train.num_epochs == epochs / 5
        assert {**config.train, **config.optim}[key] == value
    else:  # each stage after the one before it, and an epoch for the last
        assert config.finetune.unfreeze == (("block3", 1), ("block2", 2))
        assert config.train.num_epochs == 3


def test_a_quick_study_says_that_it_is_one(blobs, tmp_path, capsys):
    args = study_args(blobs, tmp_path / "study", "--quick", configs=(BASELINE,), folds=5, seeds=1)
    assert cli.main(args) == 0
    said = capsys.readouterr().out
    assert "study: 1 configs x 3 folds x 1 seed = 3 trainings" in said
    assert "3 members in " in said
    assert "; validation accuracy 0." in said or "; validation accuracy 1." in said
    assert ABOUT in (tmp_path / "study" / "study.md").read_text()
    assert len(list((tmp_path / "study" / "members" / "baseline").iterdir())) == 3
    fails(capsys, [*args, "--seeds=2"], "--quick trains by one seed")


def test_a_stopped_study_is_submitted_with_what_is_done(study, tmp_path, capsys):
    folder = shutil.copytree(study, tmp_path / "study")
    for name in ("ensemble.json", "study.md", "study.txt"):
        (folder / name).unlink()
    (folder / "members" / EXP04_NAME / "fold-0-seed-0" / "predictions.csv").unlink()
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}"]) == 0
    assert "by 1 of its 2 configs, those that are trained whole, 6 of 12 trainings" in capsys.readouterr().out
    assert set(json.loads((folder / "ensemble.json").read_text())["weights"]) == {"baseline"}
    assert len(pd.read_csv(folder / "submission.csv")) == 6
    judged = (folder / "study.md").stat().st_mtime_ns
    assert cli.main(["submit", f"--workdir={folder}"]) == 0
    assert (folder / "study.md").stat().st_mtime_ns == judged, "once is enough"
    for member in (folder / "members" / "baseline").iterdir():
        (member / "predictions.csv").unlink()
    fails(capsys, ["submit", f"--workdir={folder}"], "no config is trained whole yet", "study --resume")
