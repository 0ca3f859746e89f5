"""Out-of-fold predictions of a study: each labelled image by members that never saw its person; test rows by all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from fpclass import files
from fpclass.data.splits import TEST, VALIDATION
from fpclass.errors import RunError
from fpclass.stats.cohort import Cohort
from fpclass.study.study import Study, StudyMember


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions of configs that share their folds.

    Attributes:
      filenames: of the labelled images, in the order of the data set, [N].
      cohort: groups are the person, with everybody who shares an identical image.
      logits: by config; each image's by the member of that seed whose fold holds it, [S, N, K].
    """

    filenames: list[str]
    cohort: Cohort
    logits: dict[str, Float[np.ndarray, "s n k"]]


def collect(study: Study, names: Iterable[str], class_names: Sequence[str] = ()) -> OutOfFold:
    """Reads the out-of-fold predictions of some configs, all on the same folds.

    Raises:
      RunError: a member is not trained or its files are damaged.
    """
    logits: dict[str, np.ndarray] = {}
    shared, classes = pd.DataFrame(), []
    for name in names:
        members = study.members(name)
        splits = members[0].run.read_csv("splits.csv")
        splits = splits.loc[splits["fold"] >= 0].set_index("filename", drop=False)
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
    return OutOfFold(
        filenames=shared["filename"].tolist(),
        cohort=Cohort(
            shared["label"].to_numpy(np.int64),
            shared["unit"].tolist(),
            shared["fold"].to_numpy(np.int64),
            class_names,
        ),
        logits=logits,
    )


def read_member(member: StudyMember, split: str | None = None) -> pd.DataFrame:
    """A member's predictions of labelled images; of one split only, if given."""
    frame = member.run.read_csv("predictions.csv")
    return frame if split is None else frame.loc[frame["split"] == split]


def _in_order(parts: list[pd.DataFrame], filenames: pd.Index, study: Study, name: str) -> pd.DataFrame:
    frame = pd.concat(parts).set_index("filename")
    if len(frame) != len(filenames) or frame.index.has_duplicates or not filenames.isin(frame.index).all():
        raise RunError(
            f"{study.folder}: predictions of {name} are not one per labelled image; remove its members folder"
        )
    return frame.loc[filenames]


def logit_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold logits, in class order."""
    return [column for column in frame.columns if column.startswith("logit_")]


def write_tables(study: Study, names: Iterable[str]) -> None:
    """Writes out_of_fold.csv and, where there are rows that no fold holds, test_predictions.csv.

    One row per image, config and member that predicts it.
    """
    labelled, others = [], []
    for name in names:
        for member in study.members(name):
            first = {"config": name, "fold": member.fold, "seed": member.seed}
            frame = read_member(member)
            test = [frame.loc[frame["split"] == TEST], member.run.read_csv("test_predictions.csv")]
            labelled.append(_with_columns(first, frame.loc[frame["split"] == VALIDATION]))
            others += [_with_columns(first, part) for part in test if len(part)]
    files.write_csv(study.path("out_of_fold.csv"), pd.concat(labelled))
    if others:
        files.write_csv(study.path("test_predictions.csv"), pd.concat(others))


def _with_columns(first: dict[str, object], frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(first, index=frame.index), frame], axis=1)


def collect_test(study: Study, names: Iterable[str]) -> tuple[list[str], dict[str, Float[np.ndarray, "m n k"]]]:
    """File names [N] of the rows without a label, and by config the logits [M, N, K] of its M members."""
    logits: dict[str, np.ndarray] = {}
    filenames: list[str] = []
    for name in names:
        frames = [member.run.read_csv("test_predictions.csv") for member in study.members(name)]
        filenames = frames[0]["filename"].tolist()
        logits[name] = np.stack([frame[logit_columns(frame)].to_numpy(np.float64) for frame in frames])
    return filenames, logits
