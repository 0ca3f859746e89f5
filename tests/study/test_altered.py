"""The commands robustness and shortcuts, of runs and of studies, on small drawn images."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from conftest import SMALLEST
from drawn_prints import write_prints

import fpclass
from fpclass import cli
from fpclass.data.altered.corruptions import CORRUPTIONS
from fpclass.data.splits import VALIDATION
from fpclass.run.folder import Run
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.ensembling import average_members, weighted_average
from fpclass.study.altered.unseen import Unseen
from fpclass.study.out_of_fold import collect
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble


def copied(folder: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    shutil.copytree(folder, to)
    return to


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def check_report(record: dict, folder: pathlib.Path) -> None:
    """What the page of the report takes of a command."""
    report = record["report"]
    assert {*report} - {"paper"} == {"title", "sentences", "table", "figures", "note"}
    assert all(isinstance(text, str) for text in (report["title"], report["note"], *report["sentences"]))
    assert len({len(row) for row in report["table"]}) == 1
    assert all((folder / figure).stat().st_size for figure in report["figures"])
    said, text = report.get("paper", report["sentences"]), (folder / "methods.md").read_text(encoding="utf-8")
    assert all(f"{line}[^" in text for line in said), "the text to paste"
    assert report["title"] in (folder / "report.html").read_text(encoding="utf-8")


def check_verdicts(sentences: list[str], is_lower: dict[str, bool]) -> None:
    """The first interval of a sentence is below zero if, and only if, the sentence says that there is a loss."""
    for sentence in sentences:
        for words, expected in is_lower.items():
            if words in sentence:
                assert ("-" in re.findall(r", ([+-])\d.\d{3}\]", sentence)[0]) == expected, sentence


def test_the_images_as_they_are_are_predicted_as_before(photo_run: pathlib.Path) -> None:
    run = Run.open(photo_run)
    unseen = Unseen.of_run(run)
    before = run.read_csv("predictions.csv")
    before = before[before["split"] == VALIDATION]
    assert unseen.filenames == before["filename"].tolist()
    logits = before.filter(like="logit_").to_numpy(float)
    np.testing.assert_allclose(unseen.predict(), unseen.calibration.apply(logits), atol=1e-4)
    inverted = unseen.predict(lambda image, _: 255 - image)
    assert np.abs(inverted - unseen.predict()).max() > 1e-2
    some = unseen.some(5)
    place = [unseen.filenames.index(name) for name in some.filenames]
    np.testing.assert_allclose(some.predict(), unseen.predict()[place], atol=1e-5)


def test_every_image_of_a_study_is_judged_by_members_that_never_saw_it(study: pathlib.Path) -> None:
    there = Study.open(study)
    unseen, ensemble = Unseen.of_study(there), ChosenEnsemble.read(there)
    found = collect(there, ensemble.weights)
    averaged = {name: average_members(found.logits[name], ensemble.average) for name in ensemble.weights}
    expected = weighted_average(averaged, ensemble.weights, ensemble.average)
    assert unseen.filenames == found.filenames
    np.testing.assert_allclose(unseen.predict(), ensemble.rule.calibration.apply(expected), atol=1e-4)


@pytest.mark.figures
def test_robustness_writes_its_curves(photo_run: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    folder = copied(photo_run, tmp_path / "run")
    assert cli.main(["robustness", str(folder), "--config.evaluate.num_resamples=200"]) == 0
    record, said = read(folder / "robustness.json"), capsys.readouterr().out
    check_report(record, folder)
    assert list(record["corruptions"]) == list(CORRUPTIONS)
    assert all(len(of["strengths"]) == 5 for of in record["corruptions"].values())
    assert record["is_finished"]
    assert all(sentence in said for sentence in record["report"]["sentences"])
    check_verdicts(record["report"]["sentences"], {"What hurts first": True, "Not shown": False})
    for of in record["corruptions"]["noise"]["strengths"]:
        difference = of["accuracy"]["value"] - record["plain"]["accuracy"]["value"]
        assert of["differences"]["accuracy"]["value"] == pytest.approx(difference)


@pytest.mark.figures
def test_shortcuts_of_a_run_as_it_was_trained(photo_run: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    folder = copied(photo_run, tmp_path / "run")
    for kind, version in (("photographs", "background"), ("prints", "outline")):
        assert cli.main(["shortcuts", str(folder), "--kind", kind, "--config.evaluate.num_resamples=200"]) == 0
        record = read(folder / "shortcuts.json")
        check_report(record, folder)
        assert version in record["as_trained"]
        check_verdicts(record["report"]["sentences"], {"that disturbs it": True, "no loss": False})
        for scores in record["as_trained"].values():
            alone, of_all = scores["roc_auc"], scores["for_all_at_once"]["roc_auc"]
            assert scores["is_known"] == (of_all["low"] > 0.5)
            assert of_all["low"] <= alone["low"] <= alone["high"] <= of_all["high"]
        assert record["kind"] == kind
        assert not record["retrained"]
    assert "taken for prints" in capsys.readouterr().out


def test_what_cannot_be_asked_is_said_in_one_line(photo_run: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    for arguments, words in (
        (["robustness", str(tmp_path)], "not a run folder"),
        (["shortcuts", str(photo_run), "--kind=photographs", "--versions", "outline"], "no version of photographs"),
        (["shortcuts", str(photo_run), "--versions", "toes"], "there are"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


@pytest.mark.promise
def test_a_leak_in_the_paper_is_found_and_nothing_else(tmp_path: pathlib.Path, capsys) -> None:
    write_prints(tmp_path / "prints", "frame", 120, side=48)
    folder = tmp_path / "run"
    quick = {**SMALLEST, "train.num_epochs": 25, "evaluate.num_resamples": 300, "split.validation_fraction": 0.4}
    fpclass.train(tmp_path / "prints", size=(24, 24), workdir=folder, config=quick, until="evaluate", quiet=True)
    assert cli.main(["shortcuts", str(folder), "--retrain", "--versions", "size", "texture", "frame"]) == 0
    record = read(folder / "shortcuts.json")
    check_report(record, folder)
    known = {name: scores["is_known"] for name, scores in record["retrained"].items()}
    assert known == {"all": True, "size": False, "texture": False, "frame": True}, record["report"]["sentences"]
    assert "WARNING" in capsys.readouterr().out
    alone = Run.open(folder / "shortcuts" / "frame")
    assert alone.config.data.keep == "frame"
    assert log_softmax(Unseen.of_run(alone).predict()).shape == (48, 2)
    assert cli.main(["shortcuts", str(alone.folder)]) == 2
    assert "was trained on a version" in capsys.readouterr().err


@pytest.mark.promise
@pytest.mark.slow
def test_a_study_is_trained_on_versions_fold_by_fold(study: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = copied(study, tmp_path / "study")
    assert cli.main(["shortcuts", str(folder), "--retrain", "--versions", "size"]) == 0
    record = read(folder / "shortcuts.json")
    assert set(record["retrained"]) == {"all", "size"}
    assert record["num_images"] == 32
    versions = Study.open(folder / "shortcuts")
    assert versions.names == ["all", "size"]
    assert (folder / "shortcuts" / "study.md").is_file()
