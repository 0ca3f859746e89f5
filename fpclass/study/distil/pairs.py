"""Members of a study that leave out two folds: teachers that know nothing of whom their student is judged on."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from fpclass.data.splits import EXCLUDED, VALIDATION
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared
from fpclass.run.train import Trainee, make_member
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.study.out_of_fold import OutOfFold, logit_columns, read_member
from fpclass.study.study import Study, StudyMember
from fpclass.train.members import of_one_size

Pairs = Mapping[tuple[int, int], Sequence[StudyMember]]
"""By the two folds that they leave out, the smaller one first: a member of each seed."""


def pairs_of(study: Study, name: str, folder: pathlib.Path) -> Pairs:
    """The members of a config that leave out two folds, trained or not: those of the first fold without the second."""
    members = {(member.fold, member.seed): member for member in study.members(name)}
    seeds = sorted({seed for _, seed in members})
    return {
        (first, second): [
            StudyMember(first, seed, Run(folder / name / f"folds-{first}-{second}-seed-{seed}", member.run.config))
            for seed in seeds
            for member in [members[first, seed]]
        ]
        for first, second in itertools.combinations(range(study.num_folds), 2)
    }


def missing_pairs(study: Study, name: str, pairs: Pairs, prepared: Prepared) -> list[Trainee]:
    """Those of them that are not trained yet, their rows as many as the largest of all has."""
    divided = {member.fold: prepared.divided(member.run.config) for member in study.members(name)}
    members, data = [], []
    for (first, second), of_seeds in pairs.items():
        without = without_fold(divided[first], divided[second])
        members += of_seeds
        data += [without] * len(of_seeds)
    made = of_one_size([make_member(member.run.config, own) for member, own in zip(members, data, strict=True)])
    each = zip(members, data, made, strict=True)
    return [Trainee(member.run, own, rows, member.name) for member, own, rows in each if not member.is_done]


def without_fold(prepared: Prepared, other: Prepared) -> Prepared:
    """Data in their roles of one fold, where nobody learns from the images of another one: those validate too."""
    frame, roles = prepared.splits.frame, other.splits.frame["role"]
    role = frame["role"].mask(roles == VALIDATION, VALIDATION).mask(roles == EXCLUDED, EXCLUDED)
    splits = dataclasses.replace(prepared.splits, frame=frame.assign(role=role))
    return dataclasses.replace(prepared, splits=splits)


def logits_without(pairs: Pairs, fold: int, predictions: OutOfFold) -> Float[np.ndarray, "s n k"]:
    """What a config says of all images but those of a fold, which no member that is asked learnt from.

    Returns:
      Logits of each seed; of every image by the pair of its fold and this one. 0 for the images of this fold.
    """
    folds = predictions.cohort.folds
    found: SeedLogits | None = None
    for pair, members in pairs.items():
        if fold not in pair:
            continue
        rows = np.flatnonzero(folds == sum(pair) - fold)
        names = [predictions.filenames[row] for row in rows]
        for seed, member in enumerate(members):
            frame: pd.DataFrame = read_member(member, VALIDATION).set_index("filename").loc[names]
            logits = frame[logit_columns(frame)].to_numpy(np.float64)
            found = np.zeros((len(members), len(folds), logits.shape[1])) if found is None else found
            found[seed, rows] = logits
    assert found is not None
    return found
