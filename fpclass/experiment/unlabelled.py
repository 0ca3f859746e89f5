"""Experiments that learn from rows to predict: how, what that asks of a config, and what has to be said of them.

What predicts images that it has seen, if only without their labels, is transductive: of those it may know more than of
others.
"""

from __future__ import annotations

from typing import Any

from fpclass.config import Config
from fpclass.experiment.conditions import Conditions

IMAGES, PEOPLE, WEIGHTED = "images", "people", "weighted"
WAYS = (IMAGES, PEOPLE, WEIGHTED)
"""Values of `unlabelled.self_training`: every image gets a label of its own; a person's images get one together; or
all take part once for each class, weighted by the probability that their person has of it."""
TRANSDUCTIVE = "TRANSDUCTIVE"
"""What stands before everything that is said of such an experiment."""


def unlabelled_conditions(config: Any) -> Conditions:
    """Those of the section `unlabelled`, as `fpclass.experiment.conditions`."""
    unlabelled = config.unlabelled
    return {
        "unlabelled.pretrain_epochs": (
            unlabelled.pretrain_epochs == 0
            or (unlabelled.pretrain_epochs > 0 and config.model.compute_dtype == "float32"),
            "at least 0, and 0 with model.compute_dtype=bfloat16",
        ),
        "unlabelled.self_training": (
            unlabelled.self_training == "none" or not config.model.subclasses,
            "none with model.subclasses, of which no labels are made up",
        ),
    }


def mark_of(config: Config, *, are_there: bool) -> str:
    """What has to be said of an experiment that learns from rows to predict, where there are any; else ""."""
    sources = ["the pixels of rows to predict"] if config.unlabelled.pretrain_epochs else []
    if config.unlabelled.self_training != "none":
        sources.append(f"labels that it makes up for some {'of them' if sources else 'rows to predict'}")
    if not sources or not are_there:
        return ""
    return (
        f"{TRANSDUCTIVE}: {config.name} learns from {' and from '.join(sources)}, of which it may know more than of "
        "other new images"
    )
