"""How the members of a study were trained: the gap to overfitting, time and size; and their reports side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.splits import VALIDATION
from fpclass.models.build import build_model
from fpclass.stats.metrics import compute_metrics
from fpclass.study.out_of_fold import OutOfFold, logit_columns, read_member
from fpclass.study.study import Study, StudyMember
from fpclass.train import checkpoints
from fpclass.train.summary import count_parameters

SCORES = ("train_accuracy", "train_loss", "train_precision", "accuracy", "loss", "precision", "gap")


def training_table(study: Study, names: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """One row per config: what it is, what an epoch costs, and its scores in training beside those in validation.

    Training scores are of the epoch that was kept, measured while it was trained: on augmented images, with dropout,
    and the training loss is what was minimised: with class weights, label smoothing and the L2 penalty. Validation
    scores are of that epoch's weights, the loss is the plain cross-entropy; precision is the mean over the classes.

    Args:
      study: whose members of these arms are all trained.
      names: of the arms.
      class_names: of the data.

    Returns:
      config, image_size, parameters, seconds_per_epoch (of one member, the median; None where it was not logged),
      epoch (the mean of those kept), and of each of `SCORES` the mean over members and its standard deviation (_sd).
    """
    records = []
    for name in names:
        members = study.members(name)
        config = members[0].run.config
        shape = (*config.data.image_size, config.data.channels)
        model = build_model(config.model, len(class_names), config.data.image_size)
        scores = pd.DataFrame([_scores(member, class_names) for member in members])
        record: dict[str, Any] = {
            "config": name,
            "image_size": " x ".join(map(str, config.data.image_size)),
            "parameters": count_parameters(model, shape),
            "seconds_per_epoch": scores["seconds"].median(),
            "epoch": scores["epoch"].mean(),
        }
        for score in SCORES:
            record |= {score: scores[score].mean(), f"{score}_sd": scores[score].std(ddof=1)}
        records.append(record)
    return pd.DataFrame(records)


def _scores(member: StudyMember, class_names: Sequence[str]) -> dict[str, float]:
    history = pd.DataFrame(member.run.history()).set_index("epoch")
    epoch = checkpoints.latest_epoch(member.run.path("checkpoints/best"))
    kept: Any = history.loc[epoch]
    frame = read_member(member, VALIDATION)
    judged = compute_metrics(
        frame[logit_columns(frame)].to_numpy(np.float64), frame["label"].to_numpy(np.int64), class_names
    )
    precisions = [values["precision"] for values in judged["per_class"].values()]
    # The first epoch of a process compiles; an epoch that evaluates costs a little more.
    seconds = history["seconds"].iloc[1:] if "seconds" in history else pd.Series(dtype=float)
    return {
        "epoch": float(epoch or 0),
        "seconds": float(seconds.median()) if len(seconds) else float("nan"),
        "train_accuracy": kept["train_accuracy"],
        "train_loss": kept["train_loss"],
        "train_precision": kept["train_precision"],
        "accuracy": judged["accuracy"],
        "loss": judged["log_loss"],
        "precision": float(np.mean([0.0 if p is None else p for p in precisions])),
        "gap": kept["train_accuracy"] - judged["accuracy"],
    }


def training_markdown(table: pd.DataFrame) -> str:
    """The table for a page."""
    lines = [
        "| config | image | parameters | s / epoch | training accuracy | loss | precision | validation accuracy | "
        "loss | precision | gap |",
        f"|{'---|' * 11}",
    ]
    for row in table.to_dict("records"):
        cells = [f"{row[s]:.3f}" + ("" if np.isnan(row[f"{s}_sd"]) else f" ± {row[f'{s}_sd']:.3f}") for s in SCORES]
        seconds = "-" if np.isnan(row["seconds_per_epoch"]) else f"{row['seconds_per_epoch']:.3g}"
        head = [row["config"].replace("|", "\\|"), row["image_size"], f"{row['parameters']:,}", seconds]
        lines.append(f"| {' | '.join([*head, *cells])} |")
    return "\n".join(lines)


def reports_markdown(hub: OutOfFold, class_names: Sequence[str]) -> str:
    """The classification reports of all configs side by side: precision, recall and F1 of every class, out of fold.

    Means over the seeds.
    """
    reports = {
        name: [compute_metrics(of_seed, hub.labels, class_names) for of_seed in logits]
        for name, logits in hub.logits.items()
    }
    counts = np.bincount(hub.labels, minlength=len(class_names))
    lines = [
        f"| class (images) | score | {' | '.join(name.replace('|', chr(92) + '|') for name in reports)} |",
        f"|---|---|{'---|' * len(reports)}",
    ]

    def line(title: str, score: str, values: list[list[float | None]]) -> str:
        cells = [f"{np.mean([v or 0.0 for v in of_seeds]):.3f}" for of_seeds in values]
        return f"| {title} | {score} | {' | '.join(cells)} |"

    for k, name in enumerate(class_names):
        for score in ("precision", "recall", "f1"):
            values = [[report["per_class"][name][score] for report in found] for found in reports.values()]
            lines.append(line(f"{name} ({counts[k]})" if score == "precision" else "", score, values))
    for score in ("macro_f1", "accuracy"):
        values = [[report[score] for report in found] for found in reports.values()]
        lines.append(line("all" if score == "macro_f1" else "", score.replace("_", " "), values))
    return "\n".join(lines)
