"""Hyperparameters that the compiled programs take as data: configs that differ in nothing else share their programs."""

from __future__ import annotations

from typing import Any

import flax.struct
import numpy as np
from jaxtyping import Array, Float

from fpclass.config import Config, flatten

OUTSIDE = (
    *("name", "seed", "data.keep", "split.", "study.", "evaluate.", "explain.", "submit.", "hardware."),
    *("train.eval_every_epochs", "train.checkpoint_seconds", "train.max_minutes", "train.class_weights"),
)
"""What the keys begin with that no program depends on: what they say comes in with members, or is for the host."""


@flax.struct.dataclass
class Hyperparameters:
    """Numbers of a config that training takes as data, float32, each with the key that its name ends.

    Those that are 0 are not: what is turned off is left out of the programs.
    """

    dense_l2: Float[Array, ""]
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    weight_decay: Float[Array, ""]
    gradient_clip_norm: Float[Array, ""]
    warmup_epochs: Float[Array, ""]
    num_epochs: Float[Array, ""]
    label_smoothing: Float[Array, ""]
    ema_decay: Float[Array, ""]

    @classmethod
    def of(cls, config: Config) -> Hyperparameters:
        """Those of a config, on the host."""
        values = flatten(config)
        on_host: Any = {key.rpartition(".")[2]: np.float32(values[key]) for key in KEYS}
        return cls(**on_host)


KEYS = (
    "model.dense_l2",
    *("optim.learning_rate", "optim.momentum", "optim.weight_decay", "optim.gradient_clip_norm", "optim.warmup_epochs"),
    *("train.num_epochs", "train.label_smoothing", "train.ema_decay"),
)
"""Not dropout: Flax decides by its rate what it computes. Not relative rates of stages: their powers are exact only as
constants. Not what evaluations decide by: they are no part of a step."""


def structure_of(config: Config) -> Config:
    """The config with 1 for every one of these numbers that is not 0: all that programs may be made of."""
    structure = config.copy_and_resolve_references()
    with structure.unlocked():
        for key, value in flatten(config).items():
            if key in KEYS:
                structure.update_from_flattened_dict({key: type(value)(bool(value))})
    return structure


def program_key(config: Config) -> str:
    """The same text for configs whose programs are the same, given the same network and data."""
    values = flatten(structure_of(config))
    return repr({key: value for key, value in values.items() if not key.startswith(OUTSIDE)})
