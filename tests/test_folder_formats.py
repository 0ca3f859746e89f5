"""Folders of earlier and later versions, and keys that have another name now.

golden/format_1_config.json is the config.json of a run folder of fpclass 0.1.0 (commit 5757b58), made by
`launch.py train --config=configs/footprints/exp04_early_stopping_dropout.py --config.data.root=data
--config.data.image_size='(60,40)' --until=ingest`.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import pytest

import fpclass
from configs import base
from fpclass import cli, experiment
from fpclass.common import files
from fpclass.config import differences, flatten
from fpclass.errors import ConfigError, RunError
from fpclass.experiment import formats, load_config
from fpclass.run.folder import Run
from fpclass.study.plan import assemble
from fpclass.study.study import Study

GOLDEN = pathlib.Path(__file__).parent / "golden" / "format_1_config.json"
BASELINE = "configs/footprints/baseline.py"


@pytest.fixture
def old_run(tmp_path: pathlib.Path) -> pathlib.Path:
    """A run folder of format 1."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(GOLDEN, folder / "config.json")
    return folder


def change(folder: pathlib.Path, old: str, new: str, value: Any = None) -> None:
    """Renames a key of a section in config.json, as if a format before had called it so."""
    values = json.loads((folder / "config.json").read_text())
    (section, name), (new_section, new_name) = old.split("."), new.split(".")
    was = values[section].pop(name)
    values.setdefault(new_section, {})[new_name] = was if value is None else value
    (folder / "config.json").write_text(json.dumps(values))


def test_the_tables_fit_the_keys_of_today() -> None:
    today = set(flatten(base.get_config()))
    before = set(flatten(json.loads(GOLDEN.read_text())))
    assert not today & set(formats.RENAMED)
    assert set(formats.RENAMED.values()) <= today
    assert set(formats.RENAMED) | set(formats.CONVERTED) <= before
    assert set(formats.ADDED) <= today
    assert today == {formats.RENAMED.get(key, key) for key in before} | set(formats.ADDED)


def test_a_run_of_the_first_format_opens(old_run: pathlib.Path) -> None:
    config = Run.open(old_run).config
    changes = ["--config.data.root=data", "--config.data.image_size=(60,40)"]
    now = load_config("configs/footprints/exp04_early_stopping_dropout.py", changes)
    assert differences(now, config) == {}
    assert {key: type(value) for key, value in flatten(now).items()} == {
        key: type(value) for key, value in flatten(config).items()
    }


def test_a_run_says_which_format_it_has(tmp_path: pathlib.Path) -> None:
    config = load_config(BASELINE)
    Run.create(tmp_path, config)
    values = json.loads((tmp_path / "config.json").read_text())
    assert list(values) == ["format", "fpclass", "config"]
    assert (values["format"], values["fpclass"]) == (3, fpclass.__version__)
    assert differences(config, Run.open(tmp_path).config) == {}


def test_a_run_that_goes_on_takes_the_format_of_today(old_run: pathlib.Path) -> None:
    (old_run / "checkpoints").mkdir()
    config = Run.open(old_run).config
    Run.create(old_run, config)
    assert json.loads((old_run / "config.json").read_text())["format"] == 3
    assert differences(config, Run.open(old_run).config) == {}


def test_keys_that_have_another_name_now_are_taken_over(old_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Run.open(old_run).config
    change(old_run, "predict.flip", "predict.mirrored")
    change(old_run, "explain.num_images", "gone.keep", value=7)
    change(old_run, "train.remat", "train.remat", value=[1, 2])
    monkeypatch.setattr(
        formats,
        "RENAMED",
        formats.RENAMED | {"predict.mirrored": "predict.flip", "gone.keep": "explain.num_images"},
    )
    monkeypatch.setattr(
        formats, "CONVERTED", formats.CONVERTED | {"gone.keep": lambda value: value - 1, "train.remat": bool}
    )
    found = differences(before, Run.open(old_run).config)
    assert found == {"train.remat": (False, True), "explain.num_images": (5, 6)}


def test_a_value_that_cannot_be_converted_is_named(old_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(old_run, "evaluate.confidence", "evaluate.confidence", value="high")
    monkeypatch.setattr(formats, "CONVERTED", {"evaluate.confidence": lambda value: 1 - value})
    with pytest.raises(ConfigError, match=r"evaluate\.confidence is 'high', expected a value of type float"):
        Run.open(old_run)


@pytest.mark.parametrize(
    ("old", "new", "expected"), [(0.05, 0.95, 0.95), (0.1, 0.95, 0.9), (0.05, 0.8, 0.8), (0.1, 0.8, 0.8)]
)
def test_of_two_keys_that_became_one_the_one_that_was_set_counts(
    old_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch, old: float, new: float, expected: float
) -> None:
    values = json.loads((old_run / "config.json").read_text())
    values["evaluate"] |= {"uncertainty": old, "confidence": new}
    (old_run / "config.json").write_text(json.dumps(values))
    if "study.alpha" in formats.RENAMED:
        del values["study"]["alpha"]
        (old_run / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr(formats, "RENAMED", formats.RENAMED | {"evaluate.uncertainty": "evaluate.confidence"})
    monkeypatch.setattr(formats, "CONVERTED", formats.CONVERTED | {"evaluate.uncertainty": lambda value: 1 - value})
    assert Run.open(old_run).config.evaluate.confidence == expected


def test_keys_that_the_first_format_lacked_take_their_default(
    old_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = json.loads((old_run / "config.json").read_text())
    del values["data"]["pad_value"]
    (old_run / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"data\.pad_value is missing; it was written by fpclass 0\.1\.0"):
        Run.open(old_run)
    monkeypatch.setattr(formats, "ADDED", (*formats.ADDED, "data.pad_value"))
    assert Run.open(old_run).config.data.pad_value == 255


def test_a_run_that_cannot_be_brought_to_today_says_which_version_wrote_it(old_run: pathlib.Path) -> None:
    change(old_run, "model.dropout_rate", "model.depth")
    with pytest.raises(ConfigError) as caught:
        Run.open(old_run)
    message = str(caught.value)
    assert str(old_run / "config.json") in message
    assert "no such key model.depth" in message
    assert "written by fpclass 0.1.0: train again into a new --workdir, or install that version" in message
    assert len(message.splitlines()) == 1
    change(old_run, "model.depth", "model.dropout_rate", value=2.0)
    with pytest.raises(
        ConfigError, match=r"config\.json: config\.model\.dropout_rate is 2\.0.*written by fpclass 0\.1"
    ):
        Run.open(old_run)


def test_a_run_of_the_second_format_opens(tmp_path: pathlib.Path) -> None:
    """It counted epochs between two checkpoints, where there are seconds now."""
    Run.create(tmp_path, load_config(BASELINE))
    values = json.loads((tmp_path / "config.json").read_text()) | {"format": 2, "fpclass": "0.3.0"}
    del values["config"]["train"]["checkpoint_seconds"]
    values["config"]["train"]["checkpoint_every_epochs"] = 5
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert differences(load_config(BASELINE), Run.open(tmp_path).config) == {}


def test_a_key_of_today_is_not_looked_up_among_the_old_ones(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are for format 1: a folder of today has today's keys."""
    Run.create(tmp_path, load_config(BASELINE))
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["predict"]["mirrored"] = values["config"]["predict"].pop("flip")
    values["fpclass"] = "0.2.7"
    (tmp_path / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr(formats, "RENAMED", {"predict.mirrored": "predict.flip"})
    with pytest.raises(ConfigError, match=r"predict\.flip is missing; it was written by fpclass 0\.2\.7"):
        Run.open(tmp_path)


def test_folders_of_a_later_format_are_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(BASELINE)
    run, study = tmp_path / "run", tmp_path / "study"
    Run.create(run, config)
    plan = assemble(study, {"baseline": config}, num_folds=2, num_seeds=1, baseline="baseline", compare_splits=False)
    with plan.claimed():
        pass
    for path, open_folder in ((run / "config.json", Run.open), (study / "study.json", Study.open)):
        values = json.loads(path.read_text())
        assert (values["format"], values["fpclass"]) == (3, fpclass.__version__)
        open_folder(path.parent)
        for later in (4, "new", None, 0):
            files.write_json(path, values | {"format": later, "fpclass": "7.1"})
            with pytest.raises(
                RunError, match=rf"{path.name}: was written by fpclass 7\.1 in format {later}"
            ) as caught:
                open_folder(path.parent)
            assert len(str(caught.value).splitlines()) == 1
    assert cli.main(["evaluate", f"--workdir={run}"]) == 2
    assert "install that version" in capsys.readouterr().err
    files.write_json(run / "config.json", [])
    with pytest.raises(RunError, match="cannot be read"):
        Run.open(run)
    files.write_json(run / "config.json", {"format": 2, "fpclass": "0.2.0", "config": 5})
    with pytest.raises(ConfigError, match=r"is missing; it was written by fpclass 0\.2\.0"):
        Run.open(run)


def test_a_study_of_the_first_format_opens(tmp_path: pathlib.Path) -> None:
    values = {"folds": 2, "seeds": 1, "baseline": "exp04", "configs": {"exp04": json.loads(GOLDEN.read_text())}}
    files.write_json(tmp_path / "study.json", values)
    study = Study.open(tmp_path)
    assert study.configs["exp04"].data.image_size == (60, 40)
    values["configs"]["exp04"]["model"]["depth"] = 3
    files.write_json(tmp_path / "study.json", values)
    with pytest.raises(ConfigError, match=r"study\.json: exp04: no such key model\.depth.*written by fpclass 0\.1\.0"):
        Study.open(tmp_path)


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "RENAMED", {"predict.mirrored": "predict.flip", "study.doubt": "evaluate.confidence"})
    monkeypatch.setattr(formats, "CONVERTED", {"study.doubt": lambda value: 1 - value})


@pytest.mark.usefixtures("renamed")
def test_an_old_name_on_the_command_line_is_told_the_new_one(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    arguments = ["train", f"--config={BASELINE}", f"--workdir={tmp_path}"]
    assert cli.main([*arguments, "--config.predict.mirrored=True"]) == 2
    assert capsys.readouterr().err == "fpclass: --config.predict.mirrored: is called predict.flip now\n"
    for flag in ("--noconfig.predict.mirrored", "-config.predict.mirrored"):
        with pytest.raises(ConfigError, match=r"config\.predict\.mirrored: is called predict\.flip now"):
            load_config(BASELINE, [flag])
    with pytest.raises(ConfigError, match=r"is called evaluate\.confidence now, and takes other values"):
        experiment.override(load_config(BASELINE), ["--config.study.doubt=0.1"])


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize(
    "change",
    [
        "config.predict.mirrored = True",
        "config.predict['mirrored'] = True",
        "config.predict.update({'mirrored': True})",
        "print(config.predict.mirrored)",
        "with config.unlocked():\n        config.predict.mirrored = True",
    ],
)
def test_an_old_name_in_a_config_file_is_told_the_new_one(tmp_path: pathlib.Path, change: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs.footprints import baseline\n\ndef get_config():\n    config = baseline.get_config()\n"
        f"    {change}\n    return config\n"
    )
    with pytest.raises(ConfigError, match=r"config\.predict\.mirrored: is called predict\.flip now") as caught:
        load_config(str(file))
    assert len(str(caught.value).splitlines()) == 1
    file.write_text("def get_config():\n    return config.predict.other\n")
    with pytest.raises(ConfigError, match="NameError") as caught:
        load_config(str(file))
    assert "is called" not in str(caught.value)
