"""Distillation: who teaches whom, what is learnt, what comes of it, and what is refused."""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil

import numpy as np
import pytest
from test_study import EXP04_NAME, fails

import fpclass
from fpclass import cli
from fpclass.common.console import Interruption
from fpclass.run.probe import rows_of
from fpclass.study.distil.distil import FOLDER, distil
from fpclass.study.distil.pairs import missing_pairs, pairs_of
from fpclass.study.distil.students import missing_students, students_of
from fpclass.study.distil.targets import Teaching
from fpclass.study.out_of_fold import collect
from fpclass.study.run import StudyData
from fpclass.study.study import Study


@pytest.fixture
def copied(study: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(study, tmp_path / "study"))


def change(path: pathlib.Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_neither_a_student_nor_its_teachers_saw_whom_it_is_judged_on(study, tmp_path):
    opened = Study.open(study)
    prepared = StudyData(opened).of(EXP04_NAME)
    folds = prepared.splits.frame["fold"].to_numpy()
    pairs = pairs_of(opened, EXP04_NAME, tmp_path)
    assert list(pairs) == [(0, 1), (0, 2), (1, 2)]
    trainees = missing_pairs(opened, EXP04_NAME, pairs, prepared)
    for pair, trainee in zip(itertools.chain(*[[pair] * 2 for pair in pairs]), trainees, strict=True):
        (third,) = {0, 1, 2} - set(pair)
        learnt = [*rows_of(trainee.member), *np.asarray(trainee.member.selection_rows)]
        assert set(folds[learnt]) - {-1} == {third}, "also where the best epoch is chosen"
        assert sorted(trainee.prepared.splits.rows("validation")) == np.flatnonzero(np.isin(folds, pair)).tolist()
    targets = {fold: np.repeat(folds[:, None] != fold, 2, axis=1) / 2 for fold in range(3)}
    students = missing_students(students_of(opened, EXP04_NAME, tmp_path / "students"), prepared, targets)
    for student, member in zip(students, opened.members(EXP04_NAME), strict=True):
        assert student.member.targets is targets[member.fold]
        assert (targets[member.fold][rows_of(student.member)].sum(axis=1) == 1).all()
        assert student.run.config.train.label_smoothing == 0


def test_targets_of_a_fold_depend_on_none_of_its_labels(study):
    predictions = collect(Study.open(study), [EXP04_NAME], ("0", "1"))
    labels, folds, rng = predictions.cohort.labels, predictions.cohort.folds, np.random.default_rng(0)
    logits = {name: rng.normal(size=(2, len(labels), 2)) for name in ("one", "other")}
    settings = Study.open(study).configs["baseline"]
    known = folds != 1
    targets = Teaching(settings, 0.25).targets(logits, labels, known)
    other = Teaching(settings, 0.25).targets(logits, np.where(known, labels, 1 - labels), known)
    np.testing.assert_array_equal(targets, other)
    np.testing.assert_allclose(targets.sum(axis=1), known)
    assert (targets[known, labels[known]] > 0.25).all()
    np.testing.assert_allclose(Teaching(settings, 1.0).targets(logits, labels, known)[known], np.eye(2)[labels[known]])


@pytest.mark.parametrize(
    ("changes", "flags", "said"),
    [
        ({"folds": 2}, [], "which takes 3 folds"),
        ({"folds": 0, "seeds": 1}, [], "has one member, so there is nothing to distil"),
        ({}, ["--student=nobody"], "--student=nobody is none of the study's; a student is trained: baseline, exp04"),
    ],
)
def test_what_cannot_be_distilled_is_said_in_one_line(changes, flags, said, copied, capsys):
    change(copied / "study.json", **changes)
    if changes:
        change(copied / "ensemble.json", weights={"baseline": 1.0})
    fails(capsys, ["bundle", str(copied), "--distil", *flags], said)
    assert not (copied / FOLDER).exists()


def test_flags_of_a_student_need_distil(study, capsys):
    fails(capsys, ["bundle", str(study), "--label-share=0.1"], "give --distil too")


@pytest.mark.promise
def test_the_whole_way_and_once_more(copied, blobs, capsys):
    change(copied / "ensemble.json", weights={EXP04_NAME: 1.0})
    stopped = Interruption()
    stopped.signal_number = 2
    assert distil(Study.open(copied), stopped, EXP04_NAME) is None
    args = ["bundle", str(copied), "--distil", f"--student={EXP04_NAME}"]
    assert cli.main(args) == 0
    said = capsys.readouterr().out
    assert "distilled from an ensemble of 6 members into one network" in said
    assert "the student less the ensemble" in said
    folder = copied / FOLDER
    model, images = fpclass.load_bundle(folder / "bundle"), blobs / "processed"
    assert "distilled from an ensemble of 6" in model.card
    assert ", accuracy " in model.verdict
    beside = model.metrics["distilled"]["beside"]["accuracy"]
    assert beside["less_ensemble"]["low"] <= beside["less_ensemble"]["value"] <= beside["less_ensemble"]["high"]
    assert beside["student"]["value"] > 0.8, "blobs are easy"
    assert len(model.predict(images)) == 38
    final = fpclass.load(folder / "final").predict(images)
    np.testing.assert_allclose(model.predict(images)["probability_1"], final["probability_1"], atol=1e-6)

    record = json.loads((folder / "distilled.json").read_text())
    teacher, student = (next(folder.glob(f"{kind}/*/*/predictions.csv")) for kind in ("members", "students"))
    before = teacher.stat().st_mtime_ns, student.stat().st_mtime_ns
    assert cli.main(args) == 0
    assert before == (teacher.stat().st_mtime_ns, student.stat().st_mtime_ns), "nothing is trained again"
    assert json.loads((folder / "distilled.json").read_text()) == record
    assert cli.main([*args, "--label-share=0"]) == 0
    assert before[0] == teacher.stat().st_mtime_ns
    assert before[1] != student.stat().st_mtime_ns, "which learns other targets"
