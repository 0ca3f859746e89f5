"""Keys of earlier formats of run and study folders: what became of them, and of their values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from fpclass.config import base_config, flatten

RENAMED: dict[str, str] = {
    "augment.rotation_fill": "augment.fill_value",
    "augment.erasing_value": "augment.erased_value",
    "finetune.freeze_until": "finetune.freeze_before",
    "finetune.freeze_till": "finetune.num_frozen",
    "predict.average": "predict.averaging",
    "study.together": "hardware.together",
    "study.memory_gb": "hardware.memory_gb",
    "study.alpha": "evaluate.confidence",
    "evaluate.num_bootstrap": "evaluate.num_resamples",
    "train.checkpoint_every_epochs": "train.checkpoint_seconds",
}
"""Keys of earlier formats, and what they are called now."""

CONVERTED: dict[str, Callable[[Any], Any]] = {
    "study.alpha": lambda x: round(1 - x, 12),
    "model.subclasses": bool,
    "train.checkpoint_every_epochs": lambda _: base_config().train.checkpoint_seconds,
}
"""Keys of earlier formats, renamed or not, and what makes of their old value the new one."""

ADDED: tuple[str, ...] = (
    *("augment.custom", "augment.fixed_views", "code_folders"),
    *("data.copies", "data.crop", "data.equalise", "data.exclude", "data.keep", "data.max_file_mb"),
    *("data.missing", "data.separator", "data.sha256"),
    *("evaluate.positive_class", "evaluate.prevalence", "evaluate.subgroups", "optim.norm_bias_rate", "predict.pool"),
    *(
        "finetune.from_probe",
        "model.probe_pooling",
        "model.probe_stages",
        "split.train_share",
        "study.risk_confidence",
        "study.sets",
    ),
    *("submit.refit", "train.max_minutes"),
    *("unlabelled.confidence", "unlabelled.pretrain_epochs", "unlabelled.self_training"),
)
"""Keys that folders of earlier versions may lack. Their defaults do what was done then."""


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Values of an earlier format by the keys of today."""
    default = flatten(base_config())
    converted = dict(values)
    for key in CONVERTED.keys() & values.keys():
        with contextlib.suppress(TypeError, ValueError):  # `from_values` names a value of another type
            converted[key] = CONVERTED[key](values[key])
    upgraded = {key: value for key, value in converted.items() if key not in RENAMED}
    for old, new in RENAMED.items():
        # Where one key took the place of two, the one that had been set counts.
        if old in converted and upgraded.get(new, default[new]) == default[new]:
            upgraded[new] = converted[old]
    return upgraded


def with_added(values: dict[str, Any]) -> dict[str, Any]:
    """Values by key with the defaults of those that earlier versions lacked."""
    default = flatten(base_config())
    return {key: default[key] for key in ADDED} | values


def renamed_notes() -> dict[str, str]:
    """What to say of each key of earlier formats."""
    notes = {key: f"is called {new} now" for key, new in RENAMED.items()}
    return {
        key: f"{note}, and takes other values: see configs/base.py" if key in CONVERTED else note
        for key, note in notes.items()
    }
