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
        "unlabelled.self_training": (
            unlabelled.self_training == "none" or not config.model.subclasses,
            "none with model.subclasses, of which no labels are made up",
        ),
    }


def mark_of(config: Config, num_to_predict: int) -> str:
    """What has to be said of an experiment that learns from rows to predict, so many; "" of any other one."""
    ways = ["from the pixels of"] if config.unlabelled.pretrain_epochs else []
    ways += ["from labels that it makes up for"] if config.unlabelled.self_training != "none" else []
    if not ways or not num_to_predict:
        return ""
    return (
        f"{TRANSDUCTIVE}: {config.name} learns {' and '.join(ways)} {num_to_predict:,} rows to predict; its scores "
        "are of images that it has not seen"
    )
