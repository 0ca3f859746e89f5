"""Predictions of every labelled image by models that never saw its person: a study's, a run's, or quick ones."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fpclass.common.console import program, progress
from fpclass.config import Config
from fpclass.data.splits import TEST, VALIDATION, partition
from fpclass.data.table import Table
from fpclass.errors import DataError, RunError
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, metric_bounds
from fpclass.stats.metrics import log_softmax

NUM_FOLDS = 5
STRENGTHS = (0.1, 1.0, 10.0)
"""Values of scikit-learn's C that the quick classifier chooses from, for features of unit mean square length."""
MAX_TUNING_IMAGES = 4000
"""Images that the choice of C is made on, at most: more of them choose the same."""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Out-of-fold predictions of some rows of a table.

    Attributes:
      rows: positions in the table, ascending.
      log_probabilities: of the classes of the table, float64.
      groups: the person of each row, with everybody who shares an identical image, [n].
      source: who predicted, in a line; `is_quick` if the built-in classifier did.
    """

    rows: Int[np.ndarray, " n"]
    log_probabilities: Float[np.ndarray, "n K"]
    groups: np.ndarray
    source: str
    is_quick: bool
    notes: tuple[str, ...] = ()

    @property
    def probabilities(self) -> Float[np.ndarray, "n K"]:
        """Probabilities of the classes."""
        return np.exp(self.log_probabilities)

    def accuracy(self, labels: Int[np.ndarray, " n"], bootstrap: Bootstrap) -> Interval:
        """How often the predicted class is the given one."""
        value = float(np.mean(self.log_probabilities.argmax(axis=1) == labels))
        bounds = metric_bounds(self.log_probabilities, Cohort(labels, self.groups), bootstrap, ("accuracy",))
        return Interval(value, *bounds["accuracy"])


def quick_judgement(
    features: Float[np.ndarray, "n d"],
    table: Table,
    rows: Int[np.ndarray, " n"],
    groups: np.ndarray,
    what: str,
    seed: int,
) -> Judgement:
    """Cross-validates a regularised logistic regression on features of labelled rows; nobody is in two folds.

    The strength of the regularisation is chosen inside the training part of each fold.

    Args:
      features: of `rows`, scaled to unit mean square length.
      groups: what must not be divided, [n].
      what: the features in words.

    Raises:
      DataError: fewer than two classes have two people (or independent images) each.
    """
    labels = table.labels[rows]
    people: Any = pd.DataFrame({"label": labels, "unit": groups}).groupby("label")["unit"].nunique()
    kept_classes = people.index[people >= 2].to_numpy()
    if len(kept_classes) < 2:
        raise DataError(
            f"{table.source}: {len(kept_classes)} of {table.num_classes} classes have two people (or independent "
            "images) or more, too few to predict one by the other"
        )
    is_kept = np.isin(labels, kept_classes)
    names = tuple(table.class_names[k] for k in kept_classes)
    codes = np.searchsorted(kept_classes, labels[is_kept])
    num_folds = int(min(NUM_FOLDS, people[kept_classes].min()))
    vectors, kept_groups = features[is_kept], groups[is_kept]
    fold = partition(kept_groups, codes, [1 / num_folds] * num_folds, f"{seed}/explore", names)
    of_kept = np.empty((len(codes), len(names)))
    for held_out in progress(range(num_folds), num_folds, "quick predictions, by fold"):
        is_trained = fold != held_out
        of_kept[~is_trained] = _fit_and_predict(
            vectors[is_trained], codes[is_trained], fold[is_trained], vectors[~is_trained], len(names)
        )
    logs = np.full((len(codes), table.num_classes), -np.inf)
    logs[:, kept_classes] = of_kept
    lost = [table.class_names[k] for k in people.index[people < 2]]
    notes = [f"classes with fewer than two people or images are not judged: {', '.join(lost)}"] if lost else []
    source = f"a logistic regression on {what}, cross-validated in {num_folds} parts"
    return Judgement(rows[is_kept], np.maximum(logs, -700), kept_groups, source, True, tuple(notes))


def _fit_and_predict(
    vectors: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    fold: Int[np.ndarray, " n"],
    others: Float[np.ndarray, "m d"],
    num_classes: int,
) -> Float[np.ndarray, "m K"]:
    """Chooses C on one of the training folds, fits on all of them, and gives log-probabilities of the others."""
    strength = STRENGTHS[1]
    inner = fold == fold.max()  # people who choose are not among those who are judged
    if len(np.unique(fold)) > 1 and len(np.unique(labels[~inner])) == num_classes:
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(~inner))[:MAX_TUNING_IMAGES]
        if len(np.unique(labels[chosen])) == num_classes:
            losses = []
            for c in STRENGTHS:
                logs = _log_probabilities(_fit(c, vectors[chosen], labels[chosen]), vectors[inner])
                losses.append(-np.mean(logs[np.arange(int(inner.sum())), labels[inner]]))
            # C is the variance of the weights' prior, which does not depend on how many images there are.
            strength = STRENGTHS[int(np.argmin(losses))]
    return _log_probabilities(_fit(strength, vectors, labels), others)


def _fit(strength: float, vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # More steps change no prediction that matters: a regression that stops early is only a little smoother.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(vectors, labels)


def _log_probabilities(classifier: Any, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
    """Finite also where a probability is too small for its type."""
    return np.log(np.maximum(classifier.predict_proba(vectors).astype(np.float64), 1e-300))


def read_judgement(folder: pathlib.Path, table: Table, groups: np.ndarray) -> Judgement:
    """Reads the predictions of a study, averaged over its configs and seeds, or the validation images of a run.

    `groups` are those of all rows of the table as it is now, [N].

    Raises:
      RunError: it is neither, nothing in it is finished, or it is about other classes or images.
    """
    check_predictions(folder)
    is_study = (folder / "study.json").is_file()
    frame, source, notes = _read_study(folder) if is_study else _read_run(folder)
    return _match(frame, table, groups, source, notes, folder)


def check_predictions(folder: pathlib.Path) -> None:
    """Makes sure that a folder is of a study or a run with predictions.

    Raises:
      RunError: it is neither.
    """
    if not any((folder / name).is_file() for name in ("study.json", "predictions.csv")):
        raise RunError(
            f"--predictions={folder}: no study.json and no predictions.csv there; give the --workdir of a finished "
            "study or training, or leave it out for the quick built-in predictions"
        )


def _read_study(folder: pathlib.Path) -> tuple[pd.DataFrame, str, list[str]]:
    """Mean probabilities of all finished configs and seeds, as logit columns by filename."""
    from fpclass.study import out_of_fold
    from fpclass.study.study import Study

    study = Study.open(folder)
    names = [name for name in study.names if all(member.is_done for member in study.members(name))]
    if not names:
        raise RunError(f"{folder}: no config of this study is finished; run `{program()} study --resume` with it first")
    predictions = out_of_fold.collect(study, names)
    every = np.concatenate([predictions.logits[name] for name in names])
    mean = np.mean([np.exp(log_softmax(logits)) for logits in every], axis=0)
    columns = out_of_fold.logit_columns(out_of_fold.read_member(study.members(names[0])[0]))
    frame = pd.DataFrame(np.log(np.maximum(mean, 1e-300)), columns=pd.Index(columns))
    frame.insert(0, "filename", predictions.filenames)
    some = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
    where = "out of fold" if study.num_folds else "on its validation images"
    source = f"the study {folder.name}: {len(every)} times {where}, averaged, by {some}"
    missing = len(study.names) - len(names)
    notes = [f"{missing} configs of the study are not finished and have no say"] if missing else []
    return frame, source, notes + _leaks([study.configs[name] for name in names])


def _read_run(folder: pathlib.Path) -> tuple[Any, str, list[str]]:
    from fpclass.run.folder import Run

    run = Run.open(folder)
    frame: Any = run.read_csv("predictions.csv")
    frame = frame.loc[frame["split"].isin([VALIDATION, TEST])].drop_duplicates("filename")
    notes = ["one training judges only the images that it held out; the folds of a study judge all of them"]
    return frame, f"the training {folder.name}, on the images that it held out", notes + _leaks([run.config])


def _leaks(trained: Sequence[Config]) -> list[str]:
    notes = []
    if not all(config.split.grouped for config in trained):
        notes.append("LEAK: trained with split.grouped=False, so the person of an image may have been seen")
    if not all(config.data.near_duplicates for config in trained):
        notes.append("LEAK: trained with data.near_duplicates=0, so a near copy of an image may have been seen")
    return notes


def _match(
    frame: Any, table: Table, groups: np.ndarray, source: str, notes: Sequence[str], folder: pathlib.Path
) -> Judgement:
    columns = [f"logit_{value}" for value in table.classes]
    there = [column for column in frame.columns if column.startswith("logit_")]
    if sorted(there) != sorted(columns):
        raise RunError(
            f"--predictions={folder}: it predicts {', '.join(c.removeprefix('logit_') for c in there)}, the classes of "
            f"{table.source} are {', '.join(table.classes)}; give one of the same classes"
        )
    labelled = np.flatnonzero(table.labelled_mask)
    position = pd.Series(np.arange(len(frame)), index=frame["filename"])
    places = position.reindex(table.rows["filename"].iloc[labelled]).to_numpy(np.float64)
    rows = labelled[~np.isnan(places)]
    logits = frame[columns].to_numpy(np.float64)[places[~np.isnan(places)].astype(np.int64)]
    if len(np.unique(table.labels[rows])) < 2:
        raise RunError(
            f"--predictions={folder}: {len(rows)} of {len(labelled)} labelled images of {table.source} are in it, and "
            "not of two classes; give one of the same data set"
        )
    notes = list(notes)
    if len(rows) < len(labelled):
        notes.append(f"{len(labelled) - len(rows)} of {len(labelled)} labelled images have no prediction: not judged")
    if not np.isfinite(logits).all():
        raise RunError(f"--predictions={folder}: some logits are not finite; train again into a new --workdir")
    return Judgement(rows, np.maximum(log_softmax(logits), -700), groups[rows], source, False, tuple(notes))
