"""How the members of a study were trained: the gap to overfitting, time and size; and their reports side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.splits import VALIDATION
from fpclass.experiment import is_trained
from fpclass.report.text_tables import markdown_table
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.metrics import compute_metrics
from fpclass.stats.weighted_metrics import make_weighted_metrics
from fpclass.study.out_of_fold import logit_columns, read_member
from fpclass.study.study import Study, StudyMember
from fpclass.train import checkpoints
from fpclass.train.summary import count_parameters
from fpclass.train.task import build_network

SCORES = ("train_accuracy", "train_loss", "train_precision", "accuracy", "loss", "precision", "gap")


def training_table(study: Study, names: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """One row per trained config: what it is, what an epoch costs, and its scores in training beside validation.

    Training scores are of the epoch that was kept, measured while it was trained: on augmented images, with dropout,
    and the training loss is what was minimised: with class weights, label smoothing and the L2 penalty. Validation
    scores are of that epoch's weights, the loss is the plain cross-entropy; precision is the mean over the classes.

    Returns:
      config, image_size, parameters, seconds_per_epoch (of one member, the median; None where it was not logged, and
      of a probe, which has no epochs),
      epoch (the mean of those kept), and of each of `SCORES` the mean over members and its standard deviation (_sd).
    """
    records = []
    for name in names:
        members = study.members(name)
        config = members[0].run.config
        shape = (*config.data.image_size, config.data.channels)
        model = build_network(config, len(class_names))
        scores = pd.DataFrame([_scores(member) for member in members])
        record: dict[str, Any] = {
            "config": name,
            "image_size": " x ".join(map(str, config.data.image_size)),
            "parameters": count_parameters(model, shape),
            "seconds_per_epoch": scores["seconds"].dropna().median(),
            "epoch": scores["epoch"].mean(),
        }
        for score in SCORES:
            record |= {score: scores[score].mean(), f"{score}_sd": scores[score].std(ddof=1)}
        records.append(record)
    return pd.DataFrame(records)


def _scores(member: StudyMember) -> dict[str, float]:
    history = member.run.history()
    epoch = checkpoints.latest_step(member.run.path("checkpoints/best"))
    # Whoever has deleted logs or checkpoints to save space still has all that is judged.
    kept = next((line for line in history if line["epoch"] == epoch), {})
    trained = {name: _number(kept.get(f"train_{name}")) for name in ("accuracy", "loss", "precision")}
    frame = read_member(member, VALIDATION)
    logits, labels = frame[logit_columns(frame)].to_numpy(np.float64), frame["label"].to_numpy(np.int64)
    judged = make_weighted_metrics(logits, labels, ("accuracy", "log_loss", "precision"))(np.ones((1, len(labels))))
    accuracy = float(judged["accuracy"][0])
    # The first epoch of a process compiles; an epoch that evaluates costs a little more.
    has_epochs = is_trained(member.run.config)
    seconds = [line["seconds"] for line in history[1:] if has_epochs and isinstance(line.get("seconds"), int | float)]
    return {
        "epoch": math.nan if epoch is None or not has_epochs else float(epoch),
        "seconds": float(np.median(seconds)) if seconds else math.nan,
        **{f"train_{name}": value for name, value in trained.items()},
        "accuracy": accuracy,
        "loss": float(judged["log_loss"][0]),
        "precision": float(np.nan_to_num(judged["precision"][0]).mean()),
        "gap": trained["accuracy"] - accuracy,
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def training_markdown(table: pd.DataFrame) -> str:
    """The table for a page."""
    header = "config, image, parameters, s / epoch, training accuracy, loss, precision, validation accuracy, loss"
    rows = [[*header.split(", "), "precision", "gap"]]
    for row in table.to_dict("records"):
        cells = [
            ("-" if np.isnan(row[s]) else f"{row[s]:.3f}")
            + ("" if np.isnan(row[f"{s}_sd"]) else f" ± {row[f'{s}_sd']:.3f}")
            for s in SCORES
        ]
        seconds = "-" if np.isnan(row["seconds_per_epoch"]) else f"{row['seconds_per_epoch']:.3g}"
        rows.append([row["config"], row["image_size"], f"{row['parameters']:,}", seconds, *cells])
    return "\n".join(markdown_table(rows))


def reports_markdown(logits: Mapping[str, SeedLogits], cohort: Cohort) -> str:
    """The classification reports of all configs side by side: precision, recall and F1 of every class.

    Means over the seeds of each config; what is undefined counts as 0.
    """
    reports = [
        [compute_metrics(of_seed, cohort.labels, cohort.class_names) for of_seed in of_config]
        for of_config in logits.values()
    ]

    def means(value: Callable[[dict[str, Any]], float | None]) -> list[str]:
        return [f"{np.mean([value(report) or 0.0 for report in of_seeds]):.3f}" for of_seeds in reports]

    rows = [["class (images)", "score", *logits]]
    counts = np.bincount(cohort.labels, minlength=len(cohort.class_names))
    for name, count in zip(cohort.class_names, counts, strict=True):
        for score in ("precision", "recall", "f1"):
            title = f"{name} ({count})" if score == "precision" else ""
            rows.append([title, score, *means(lambda report, n=name, s=score: report["per_class"][n][s])])
    rows.append(["all", "macro f1", *means(lambda report: report["macro_f1"])])
    rows.append(["", "accuracy", *means(lambda report: report["accuracy"])])
    return "\n".join(markdown_table(rows))
