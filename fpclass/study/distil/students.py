"""Students: a config of a study that learns the ensemble's probabilities, on every fold and on all images."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.experiment import is_trained
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared
from fpclass.run.train import Trainee
from fpclass.stats.comparison.scores import member_scores
from fpclass.stats.comparison.selection import choose
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study, StudyMember
from fpclass.study.training import missing_trainees


def choose_student(study: Study, predictions: OutOfFold, metric: str, wanted: str = "") -> str:
    """The config that becomes the student: the one that is asked for, or the best trained one of the study.

    Raises:
      ConfigError: there is no such config, or it is a probe.
    """
    able = [name for name in predictions.logits if is_trained(study.configs[name])]
    if wanted and wanted not in able:
        why = "is a probe, which is fitted to classes" if wanted in predictions.logits else "is none of the study's"
        raise ConfigError(f"--student={wanted} {why}; a student is trained: {', '.join(able) or 'there is none here'}")
    if not able:
        raise ConfigError(
            f"--distil: all configs of {study.folder} are probes, which are fitted to classes and cannot learn "
            "probabilities: add a config that is trained, or make a bundle without --distil"
        )
    scores = {name: member_scores(predictions.logits[name], predictions.cohort, metric) for name in able}
    return wanted or choose(scores, metric)


def student_config(config: Config) -> Config:
    """The config of a student: its targets are soft already, and of classes."""
    student: Any = ConfigDict(config.to_dict())
    student.train.label_smoothing, student.model.subclasses = 0.0, False
    return student.lock()


def students_of(study: Study, name: str, folder: pathlib.Path) -> list[StudyMember]:
    """The students of all folds and seeds, trained or not, in the order of the members of the config."""
    return [
        StudyMember(member.fold, member.seed, Run(folder / member.name, student_config(member.run.config)))
        for member in study.members(name)
    ]


def missing_students(
    students: Sequence[StudyMember], prepared: Prepared, targets: Mapping[int, Float[np.ndarray, "N K"]]
) -> list[Trainee]:
    """Those of them that are not trained yet; each learns the targets of its fold, of every row of the table."""
    trainees = missing_trainees(students, prepared)
    fold_of = {student.run.folder: student.fold for student in students}

    def with_targets(trainee: Trainee) -> Trainee:
        own: Any = targets[fold_of[trainee.run.folder]]
        return dataclasses.replace(trainee, member=dataclasses.replace(trainee.member, targets=own))

    return list(map(with_targets, trainees))
