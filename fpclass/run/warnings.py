"""What a run should be told: a line for each thing that probably makes it worse than it need be, and what to do.

Thresholds are set so that a healthy run hears nothing. `warn_of_data` knows the images and the config, before training;
`warn_of_training` the log and the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fpclass.config import Config
from fpclass.data.recognise import glance_at
from fpclass.data.splits import PREDICT, SELECTION, TRAIN, VALIDATION, rows_without_label
from fpclass.data.table import Table
from fpclass.errors import DecodeError
from fpclass.experiment import is_trained, needs_selection
from fpclass.experiment.unlabelled import mark_of
from fpclass.models.pretrained.source import resolve
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared

NUM_LOOKED_AT = 15
"""Files that are opened to see whether they are coloured."""
SHRUNK, BLOWN_UP = 0.8, 2.0
"""Of the side that the weights were trained at, or that the files have."""
BY_HEART, BEHIND = 0.995, 0.05
"""Training accuracy, and the difference to validation accuracy, from which images are learnt by heart."""
EXPLODED = 5.0
"""Times the loss of guessing that the training loss of an early epoch may not reach."""
EARLY_EPOCHS = 3
MUCH_WORSE = 1.5
"""Times the loss of another epoch of nearly the same accuracy."""
FEW_OF_A_CLASS = 5
"""Training or validation images of a class below which little is learnt of it, and its recall is a matter of chance."""
FEW_TO_CHOOSE_ON = 30
"""Images below which the best epoch is a matter of chance: one of them moves accuracy by more than three hundredths."""
NUM_NAMED = 5
"""Classes that a warning names."""
TO_TRAIN = (
    "choose the epoch by loss (train.early_stopping=restore_best, train.selection_metric=loss), or lower "
    "optim.learning_rate"
)
TO_FIT = (
    "a probe has neither epochs nor a learning rate: give it more images, or features that tell these classes "
    "(model.weights, data.image_size, model.probe_stages)"
)
"""What helps against probabilities that are too sure, of a network that is trained and of one that is fitted."""


def find_warnings(config: Config, prepared: Prepared, history: Sequence[dict[str, Any]], epoch: int) -> list[str]:
    """All warnings about a trained run, a line each; `epoch` is the one that was kept."""
    return warn_of_data(config, prepared.table) + warn_of_training(config, prepared, history, epoch)


def warn_of_data(config: Config, table: Table) -> list[str]:
    """Warnings about how images are read, and the mark of an experiment that learns from rows to predict."""
    found = (transductive_mark(config, table), _read_as_grey(config, table), *_sizes(config, table))
    return [line for line in found if line]


def transductive_mark(config: Config, table: Table) -> str:
    """What has to be said of an experiment that learns from rows to predict of these; "" of any other one."""
    return mark_of(config, are_there=len(rows_without_label(table)) > 0)


def transductive_mark_of(run: Run) -> str:
    """The same of a trained run, by its splits; a folder without these may have seen rows to predict."""
    if not mark_of(run.config, are_there=True):
        return ""
    is_there = run.path("splits.csv").is_file()
    return mark_of(run.config, are_there=not is_there or PREDICT in set(run.read_csv("splits.csv", ("role",))["role"]))


def warn_of_training(config: Config, prepared: Prepared, history: Sequence[dict[str, Any]], epoch: int) -> list[str]:
    """Warnings about how a training went."""
    labels = prepared.table.labels[prepared.splits.rows(VALIDATION)]
    kept = next((record for record in history if record["epoch"] == epoch), {})
    chosen_on = SELECTION if config.split.selection == "inner" else VALIDATION
    found = [
        _few_of_a_class(prepared),
        _worse_than_chance(kept, guessing_loss(labels), TO_TRAIN if is_trained(config) else TO_FIT),
    ]
    if not is_trained(config):  # it has no epochs
        return [line for line in found if line]
    found += [
        _chosen_on_few(config, kept, len(history), chosen_on, len(prepared.splits.rows(chosen_on))),
        _learnt_by_heart(kept),
        _exploded(config, history, prepared.table.num_classes),
        _kept_a_worse_loss(config, history, kept, chosen_on, len(prepared.splits.rows(chosen_on))),
    ]
    return [line for line in found if line]


def guessing_loss(labels: np.ndarray) -> float:
    """The cross-entropy of who knows only how often each class comes: the entropy of the labels [N]."""
    shares = np.bincount(labels)[np.bincount(labels) > 0] / len(labels)
    return float(-np.sum(shares * np.log(shares)))


def _read_as_grey(config: Config, table: Table) -> str:
    if config.data.channels != 1:
        return ""
    rows = np.flatnonzero(table.usable_mask)
    rows = rows[np.linspace(0, len(rows) - 1, min(NUM_LOOKED_AT, len(rows))).astype(int)]
    are_coloured = [_is_coloured(table, row) for row in rows]
    if sum(are_coloured) * 2 <= len(rows):
        return ""
    return (
        f"{sum(are_coloured)} of {len(rows)} images looked at are coloured, and data.channels=1 reads them as grey: "
        "--config.data.channels=3, if colour may tell the classes"
    )


def _is_coloured(table: Table, row: int) -> bool:
    try:
        return glance_at(table.read(row))[1]
    except (OSError, DecodeError):  # changed since it was decoded
        return False


def _sizes(config: Config, table: Table) -> list[str]:
    """Images that are read much smaller than the weights could use, or larger than they or the files are."""
    usable, (height, width) = table.rows[table.usable_mask], config.data.image_size
    side, there = min(height, width), float(usable[["width", "height"]].min(axis=1).median())
    found = []
    if config.model.weights:
        own = min(resolve(config.model.weights)[0].image_size)
        trained_at = f"{config.model.weights} was trained at {own}"
        better = min(own, int(there))
        if side < SHRUNK * better:
            found.append(
                f"images are read at {height} x {width}, the files have {there:.0f} pixels at their shorter side, and "
                f"{trained_at}: --config.data.image_size={better} is mostly better"
            )
        elif side > BLOWN_UP * own:
            found.append(f"images are read at {height} x {width}, and {trained_at}: smaller is faster, mostly as good")
    elif side > BLOWN_UP * there:  # weights are better near the size of what they were trained on
        found.append(
            f"images are blown up from {there:.0f} pixels at their shorter side (median) to {height} x {width}: "
            "that costs time and adds nothing; lower data.image_size"
        )
    return found


def _few_of_a_class(prepared: Prepared) -> str:
    """Classes of very few training or validation images, of which the scores of all say next to nothing."""
    names = prepared.table.class_names
    counts = {
        role: np.bincount(prepared.table.labels[prepared.splits.rows(role)], minlength=len(names))
        for role in (TRAIN, VALIDATION)
    }
    few = [
        f"{name} ({counts[TRAIN][k]} to train on, {counts[VALIDATION][k]} to validate)"
        for k, name in enumerate(names)
        if min(counts[TRAIN][k], counts[VALIDATION][k]) < FEW_OF_A_CLASS
    ]
    if not few:
        return ""
    shown = ", ".join(few[:NUM_NAMED]) + (f" and {len(few) - NUM_NAMED} more" if len(few) > NUM_NAMED else "")
    return (
        f"fewer than {FEW_OF_A_CLASS} images of a class: {shown}; precision and recall of it are a matter of chance, "
        "whatever the scores of all: add images of it, or leave it out"
    )


def _worse_than_chance(kept: dict[str, Any], chance: float, advice: str) -> str:
    loss = kept.get("validation_loss")
    if loss is None or loss <= chance:
        return ""
    return (
        f"validation loss {loss:.2f} is worse than that of guessing by the classes' shares, {chance:.2f}: its "
        f"probabilities are too sure; {advice}"
    )


def _chosen_on_few(config: Config, kept: dict[str, Any], num_epochs: int, role: str, num_images: int) -> str:
    """A best epoch of several that so few images have chosen that others would have chosen another."""
    if config.train.early_stopping == "none" or num_epochs < 2 or not 0 < num_images < FEW_TO_CHOOSE_ON:
        return ""
    share = "split.selection_fraction" if role == SELECTION else "split.validation_fraction"
    return (
        f"epoch {kept.get('epoch', '?')} of {num_epochs} was chosen by the {config.train.selection_metric} of "
        f"{num_images} {role} images: with so few it is a matter of chance which one that is; set more aside "
        f"({share}), add images, or keep the last epoch (train.early_stopping=none)"
    )


def _learnt_by_heart(kept: dict[str, Any]) -> str:
    """Of the epoch that was kept: what a later one has learnt by heart, its weights have not."""
    trained, accuracy = kept.get("train_accuracy"), kept.get("validation_accuracy")
    if trained is None or accuracy is None or trained < BY_HEART or trained - accuracy < BEHIND:
        return ""
    return (
        f"training accuracy {trained:.3f}, validation accuracy {accuracy:.3f} in epoch {kept['epoch']}, which was "
        "kept: the training images are learnt by heart; augment more (augment.*), freeze more, raise "
        "model.dropout_rate or optim.weight_decay, or train more images"
    )


def _exploded(config: Config, history: Sequence[dict[str, Any]], num_classes: int) -> str:
    if config.model.dense_l2:  # the training loss holds the penalty
        return ""
    losses = [record.get("train_loss") for record in history[:EARLY_EPOCHS]]
    worst = max((math.inf if loss is None else loss for loss in losses), default=0.0)
    if worst <= EXPLODED * math.log(num_classes):
        return ""
    return (
        f"the training loss rose to {worst:.3g} in the first epochs, where guessing has {math.log(num_classes):.2f}: "
        f"the learning rate is too high; try --config.optim.learning_rate={config.optim.learning_rate / 10:g}"
    )


def _kept_a_worse_loss(
    config: Config, history: Sequence[dict[str, Any]], kept: dict[str, Any], role: str, num_images: int
) -> str:
    """An epoch that was chosen by accuracy, where one of an accuracy within a standard error has a far better loss."""
    accuracy, loss = kept.get(f"{role}_accuracy"), kept.get(f"{role}_loss")
    is_by_accuracy = needs_selection(config) and config.train.selection_metric == "accuracy"
    if not is_by_accuracy or not num_images or accuracy is None or loss is None:
        return ""
    near = math.sqrt(max(accuracy * (1 - accuracy), 1 / num_images) / num_images)
    rivals = [
        record
        for record in history
        if (record.get(f"{role}_accuracy") or 0.0) >= accuracy - near and record.get(f"{role}_loss") is not None
    ]
    best = min(rivals, key=lambda record: record[f"{role}_loss"], default=kept)
    if loss < MUCH_WORSE * best[f"{role}_loss"]:
        return ""
    return (
        f"epoch {kept['epoch']} was kept for its {role} accuracy {accuracy:.3f}, with loss {loss:.2f}; epoch "
        f"{best['epoch']} had loss {best[f'{role}_loss']:.2f} at {best[f'{role}_accuracy']:.3f}: "
        "--config.train.selection_metric=loss keeps that one"
    )
