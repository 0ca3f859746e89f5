"""Distils the ensemble of a study into one network, in its folder `distilled`, and says what that costs."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from fpclass.common import files
from fpclass.common.console import Interruption, say
from fpclass.data.splits import VALIDATION
from fpclass.data.table import Table
from fpclass.errors import ConfigError
from fpclass.experiment import is_trained
from fpclass.run.best import BestModel
from fpclass.run.decisions.people import pooling_for_files
from fpclass.run.folder import Run
from fpclass.run.predictor import Predictor, describe_probabilities
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.probabilities.fold_average import Combination
from fpclass.study.distil.judged import judge_on_test, judge_students, sentences
from fpclass.study.distil.pairs import Pairs, logits_without, missing_pairs, pairs_of
from fpclass.study.distil.students import choose_student, missing_students, students_of
from fpclass.study.distil.targets import Teaching, on_table
from fpclass.study.distil.training import Training
from fpclass.study.metric import metric_of
from fpclass.study.one_network import train_on_all, write_rule
from fpclass.study.out_of_fold import OutOfFold, collect, logit_columns, read_member
from fpclass.study.study import Study, StudyMember
from fpclass.study.trained.ensemble import ChosenEnsemble, best_models
from fpclass.train.trained import Siblings

FOLDER = "distilled"
RECORD = "distilled.json"
"""What is known of the student, once it is judged."""
LEARNT = "learnt.json"
"""What students learnt: the name of their config and the digest of the targets."""
LABEL_SHARE = 0.5
"""Of a target that is the label."""
MIN_FOLDS = 3
"""A teacher leaves out two."""
ALL = -1
"""In place of a fold: the student of all images."""


@dataclasses.dataclass(frozen=True)
class Distilled:
    """A student that is trained on all images and judged.

    Attributes:
      run: of the student.
      record: of `judge_students`, with `test` and `sentences`.
    """

    study: Study
    run: Run
    record: dict[str, Any]

    def path(self, name: str) -> pathlib.Path:
        """The path of a file of the student's run."""
        return self.run.path(name)

    def predictor(self) -> Predictor:
        """The student, calibrated and with its own promises, for new images."""
        ensemble, name = ChosenEnsemble.read(self.study), self.record["student"]
        config = self.study.configs[self.study.baseline]
        rule = DecisionRule.from_json(self.record, RECORD)
        pooling = pooling_for_files(config, lambda: Pooling.from_json(self.record["pooling"], RECORD))
        num_classes = len(ensemble.classes)
        return Predictor(
            members={name: [BestModel(self.run, num_classes)]},
            combine=Combination({name: 1.0}, ensemble.average, rule.calibration),
            config=config,
            classes=ensemble.classes,
            class_names=ensemble.class_names,
            rule=rule,
            pooling=pooling,
            words=f"{self.record['sentences'][0]}; {describe_probabilities(rule, pooling)}",
            promises=Promises.from_json(self.record["promises"], num_classes),
        )


def distil(
    study: Study, interruption: Interruption, student: str = "", label_share: float = LABEL_SHARE
) -> Distilled | None:
    """Trains what is not trained yet of teachers and students, and judges: see `study.distil`.

    Args:
      student: config of the student; "": the best trained one.
      label_share: of the targets that is the label.

    Returns:
      None if it was interrupted: the same call goes on.

    Raises:
      RunError: the study is not finished, its folder cannot be written to, or the data have changed.
      ConfigError: nothing can be distilled, or there is no such student.
    """
    ensemble, settings = ChosenEnsemble.read(study), study.configs[study.baseline]
    check_ensemble(study, ensemble)
    known = files.read_object(study.path("results.json"), ensemble=dict)["ensemble"]["weights"]
    predictions = collect(study, known, ensemble.class_names)
    metric = metric_of(settings, ensemble.classes, ensemble.class_names)
    name = choose_student(study, predictions, metric, student)
    folder, teaching = study.path(FOLDER), Teaching(settings, label_share)
    pairs = {of: pairs_of(study, of, folder / "members") for of in ensemble.weights}
    folder.mkdir(exist_ok=True)
    with study.lock():
        training = Training(study, interruption)
        say(announce(study, pairs, name))
        for of, members in pairs.items():
            trainees = missing_pairs(study, of, members, training.prepared(of))
            if not training.train(trainees, folder / "members" / of, f"teachers {of}, without two folds each"):
                return None
        prepared = training.prepared(name)
        targets = targets_of(pairs, predictions, teaching, prepared.table)
        _forget_others(folder, {"student": name, "targets": _digest(targets)})
        students = students_of(study, name, folder / "students" / name)
        trainees = missing_students(students, prepared, targets)
        if not training.train(trainees, folder / "students" / name, f"students {name}, without a fold each"):
            return None
        run = train_on_all(folder / "final", students, prepared, interruption, targets[ALL])
        if run is None:
            return None
        logits = collect_students(students, predictions)
        num_members = sum(len(study.members(of)) for of in ensemble.weights)
        record = judge_students(study, name, logits, predictions, metric, num_members)
        write_rule(run, DecisionRule.from_json(record, RECORD))
        record["test"] = judge_on_test(study, run, prepared, metric)
        record["sentences"] = sentences(record, ensemble.class_names)
        files.write_json(folder / RECORD, record)
    return Distilled(study, run, record)


def announce(study: Study, pairs: Mapping[str, Pairs], name: str) -> str:
    """A line about what is trained, in all."""
    teachers = sum(len(of_seeds) for of_config in pairs.values() for of_seeds in of_config.values())
    return (
        f"distil: {name} learns what the ensemble says: {teachers} trainings of teachers, which leave out two folds "
        f"each, {len(study.members(name))} students of the folds to be judged, and one of all images"
    )


def check_ensemble(study: Study, ensemble: ChosenEnsemble) -> None:
    """Raises ConfigError where an ensemble cannot be distilled, or there is nothing to gain by it."""
    instead = f"make a bundle of {study.folder} without --distil"
    num_members = sum(len(study.members(name)) for name in ensemble.weights)
    if num_members == 1:
        raise ConfigError(f"--distil: the ensemble of {study.folder} has one member, so there is nothing to distil")
    if study.num_folds < MIN_FOLDS:
        has = f"has {study.num_folds} folds" if study.num_folds else "is of one split"
        raise ConfigError(
            "--distil: a student learns what members say of images that they never saw, and is judged by folds that "
            f"neither it nor its teachers saw, which takes {MIN_FOLDS} folds; {study.folder} {has}: {instead}"
        )
    (name, *others), num_classes = ensemble.weights, len(ensemble.classes)
    if others or is_trained(study.configs[name]):
        return
    members = [best for _, best in best_models(study, name, num_classes)]
    if Siblings(members).joined:
        raise ConfigError(
            f"--distil: the {num_members} members of {study.folder} differ in their heads alone, and a bundle computes "
            f"and holds what they share once: one head would be neither smaller nor faster; {instead}"
        )


def targets_of(
    pairs: Mapping[str, Pairs], predictions: OutOfFold, teaching: Teaching, table: Table
) -> dict[int, Float[np.ndarray, "N K"]]:
    """What the student of each fold learns, and the one of `ALL` images: probabilities of every row of the table."""
    labels, folds = predictions.cohort.labels, predictions.cohort.folds
    found = {}
    for fold in range(predictions.cohort.num_folds):
        logits = {name: logits_without(of_config, fold, predictions) for name, of_config in pairs.items()}
        found[fold] = teaching.targets(logits, labels, folds != fold)
    found[ALL] = teaching.targets({name: predictions.logits[name] for name in pairs}, labels, folds >= 0)
    return {fold: on_table(targets, predictions, table) for fold, targets in found.items()}


def collect_students(students: Sequence[StudyMember], predictions: OutOfFold) -> SeedLogits:
    """What the students say of images that neither they nor their teachers saw, of each seed, [S, N, K]."""
    seeds: dict[int, list[pd.DataFrame]] = {}
    for student in students:
        seeds.setdefault(student.seed, []).append(read_member(student, VALIDATION))
    found = [pd.concat(of_seed).set_index("filename").loc[predictions.filenames] for of_seed in seeds.values()]
    return np.stack([frame[logit_columns(frame)].to_numpy(np.float64) for frame in found])


def _forget_others(folder: pathlib.Path, learnt: dict[str, str]) -> None:
    """Removes students that learnt something else: other targets, or another config."""
    path = folder / LEARNT
    if path.is_file() and files.read_json(path) == learnt:
        return
    for name in ("students", "final"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / RECORD).unlink(missing_ok=True)
    files.write_json(path, learnt)


def _digest(targets: Mapping[int, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(of_fold.tobytes() for of_fold in targets.values())).hexdigest()
