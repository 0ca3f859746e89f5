"""What the members of a study predict: labelled images by those that never saw their person; test rows by all.

With folds, each labelled image is predicted by the members of its fold. On one split, the validation images are, by all
members. What is fitted to predictions (a choice, weights of an ensemble, a calibration, thresholds) is cross-fitted by
the folds, or on one split by `parts_of` the validation images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass.common import files
from fpclass.common.console import program
from fpclass.data.splits import TEST, VALIDATION, partition
from fpclass.errors import DataError, RunError
from fpclass.stats.cohort import Cohort
from fpclass.study.study import Study, StudyMember

NUM_PARTS = 5


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """Predictions of configs that share their folds, or their one split.

    Attributes:
      filenames: of the labelled images, on one split those that validate, in the order of the data set, [N].
      cohort: groups are the person, with everybody who shares an identical image; one fold where there is one split.
      logits: by config; each image's by the member of that seed whose fold holds it, [S, N, K].
      cross_fitted: the cohort in the folds, or parts, that fitting is crossed by.
    """

    filenames: list[str]
    cohort: Cohort
    logits: dict[str, Float[np.ndarray, "s n k"]]
    cross_fitted: Cohort


def collect(study: Study, names: Iterable[str], class_names: Sequence[str] = ()) -> OutOfFold:
    """Reads what members predict of labelled images, for some configs, all on the same folds.

    Raises:
      DataError: as `parts_of`.
      RunError: a member is not trained or its files are damaged.
    """
    logits: dict[str, np.ndarray] = {}
    shared, classes = pd.DataFrame(), []
    for name in names:
        members = study.members(name)
        splits = members[0].run.read_csv("splits.csv", ("filename", "unit", "role"), ("fold",))
        is_judged = splits["fold"] >= 0 if study.num_folds else splits["role"] == VALIDATION
        splits = splits.loc[is_judged].set_index("filename", drop=False)
        by_seed: dict[int, list[pd.DataFrame]] = {}
        for member in members:
            by_seed.setdefault(member.seed, []).append(read_member(member, VALIDATION))
        of_seeds = [_in_order(parts, splits.index, study, name) for parts in by_seed.values()]
        columns = logit_columns(of_seeds[0])
        images = splits[["filename", "fold", "unit"]].assign(label=of_seeds[0]["label"])
        if logits and not (images.equals(shared) and columns == classes):
            raise RunError(
                f"{study.folder}: {name} has other images, labels, classes or folds than {next(iter(logits))}"
            )
        shared, classes = images, columns
        logits[name] = np.stack([frame[columns].to_numpy(np.float64) for frame in of_seeds])
    labels, groups = shared["label"].to_numpy(np.int64), shared["unit"].to_numpy(str)
    folds = shared["fold"].to_numpy(np.int64) if study.num_folds else None
    cohort = cross_fitted = Cohort(labels, groups, folds, class_names)
    if not study.num_folds:
        cross_fitted = cohort.with_folds(parts_of(groups, labels, class_names))
    return OutOfFold(shared["filename"].tolist(), cohort, logits, cross_fitted)


def parts_of(groups: np.ndarray, labels: Int[np.ndarray, " n"], class_names: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Divides the validation images of one split for cross-fitting: `NUM_PARTS` parts, less where a class has less.

    Args:
      groups: name of each image's group [N]; none is divided.

    Raises:
      DataError: a class has images of one group only.
    """
    names = [str(k) for k in range(labels.max() + 1)]
    names[: len(class_names)] = class_names
    num_groups = {names[k]: len(np.unique(groups[labels == k])) for k in np.unique(labels)}
    rarest = min(num_groups, key=lambda name: num_groups[name])
    if num_groups[rarest] < 2:
        raise DataError(
            f"validation has 1 person (or independent image) of class {rarest!r}: calibration and thresholds are "
            "fitted on some and judged on others; give at least 2 of every class, or make folds (--folds) of all images"
        )
    num_parts = min(NUM_PARTS, num_groups[rarest])
    return partition(groups, labels, [1 / num_parts] * num_parts, "parts", tuple(names))


def read_member(member: StudyMember, split: str | None = None) -> pd.DataFrame:
    """A member's predictions of labelled images; of one split only, if given."""
    frame = member.read_logits("predictions.csv")
    return frame if split is None else frame.loc[frame["split"] == split]


def _in_order(parts: list[pd.DataFrame], filenames: pd.Index, study: Study, name: str) -> pd.DataFrame:
    frame = pd.concat(parts).set_index("filename")
    if len(frame) != len(filenames) or frame.index.has_duplicates or not filenames.isin(frame.index).all():
        path = study.members(name)[0].run.path("splits.csv")
        raise RunError(
            f"{path}: names {len(filenames)} labelled images, and the predictions of {name} are of others; remove "
            f"{path.parent.parent} and go on with `{program()} study --resume`"
        )
    return frame.loc[filenames]


def logit_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold logits, in class order."""
    return [column for column in frame.columns if column.startswith("logit_")]


def write_tables(study: Study, names: Iterable[str]) -> None:
    """Writes out_of_fold.csv (one split: validation_predictions.csv) and, where there are such, test_predictions.csv.

    One row per image, config and member that predicts it.
    """
    labelled, others = [], []
    for name in names:
        for member in study.members(name):
            first = {"config": name, "fold": member.fold, "seed": member.seed}
            frame = read_member(member)
            test = [frame.loc[frame["split"] == TEST], member.read_logits("test_predictions.csv")]
            labelled.append(_with_columns(first, frame.loc[frame["split"] == VALIDATION]))
            others += [_with_columns(first, part) for part in test if len(part)]
    files.write_csv(study.path(study.predictions_file), pd.concat(labelled))
    if others:
        files.write_csv(study.path("test_predictions.csv"), pd.concat(others))


def _with_columns(first: dict[str, object], frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(first, index=frame.index), frame], axis=1)


def collect_test(study: Study, names: Iterable[str]) -> tuple[list[str], dict[str, Float[np.ndarray, "m n k"]]]:
    """File names [N] of the rows without a label, and by config the logits [M, N, K] of its M members."""
    logits: dict[str, np.ndarray] = {}
    filenames: list[str] = []
    for name in names:
        frames = [member.read_logits("test_predictions.csv") for member in study.members(name)]
        filenames = frames[0]["filename"].tolist()
        for frame, member in zip(frames, study.members(name), strict=True):
            if frame["filename"].tolist() != filenames or logit_columns(frame) != logit_columns(frames[0]):
                raise RunError(
                    f"{member.run.path('test_predictions.csv')}: is about other rows than the first member's"
                )
        logits[name] = np.stack([frame[logit_columns(frame)].to_numpy(np.float64) for frame in frames])
    return filenames, logits
