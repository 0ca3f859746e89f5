"""An experiment: a config that is loaded, completed by its pretrained weights, and checked value by value."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from fpclass.augment.geometry import FILL_MODES
from fpclass.augment.settings import INTERPOLATION_CHOICES, check_augment
from fpclass.config import (
    Config,
    apply_overrides,
    base_config,
    differences,
    flatten,
    folder_format,
    from_values,
    read_config_file,
    read_format,
)
from fpclass.data.resize import CROP, EQUALISE, RESAMPLING, RESIZE
from fpclass.data.sources import SOURCES
from fpclass.errors import ConfigError
from fpclass.models.pretrained.source import resolve
from fpclass.stats.calibration import METHODS
from fpclass.stats.decisions import COST, OBJECTIVES
from fpclass.stats.intervals import OVERALL_METRICS

AFTER_TRAINING = (
    *("study.", "hardware.", "evaluate.", "explain.", "submit."),
    *("data.root", "data.sha256", "data.copies", "data.memory_gb", "data.max_file_mb"),
)
"""Keys that may change in a run folder: they do not change what was trained. The data themselves are compared."""

CHOICES: dict[str, tuple[str, ...]] = {
    "data.source": tuple(SOURCES),
    "data.interpolation": tuple(RESAMPLING),
    "data.resize": RESIZE,
    "data.crop": CROP,
    "data.equalise": EQUALISE,
    "split.selection": ("inner", "validation"),
    "augment.fill_mode": FILL_MODES,
    "augment.interpolation": INTERPOLATION_CHOICES,
    "model.head": ("own", "flatten", "gap", "moments"),
    "model.output": ("softmax", "sigmoid"),
    "model.conv_form": ("auto", "polyphase", "direct"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "finetune.batch_norm": ("auto", "train", "train_all", "frozen_stats", "frozen"),
    "optim.name": ("adam", "adamw", "sgd", "rmsprop"),
    "optim.schedule": ("constant", "cosine", "linear", "plateau"),
    "train.class_weights": ("none", "balanced"),
    "train.early_stopping": ("none", "restore_best", "patience"),
    "train.selection_metric": ("accuracy", "loss", "macro_f1"),
    "predict.averaging": ("probabilities", "logits"),
    "study.metric": (*OVERALL_METRICS, "f1"),
    "study.calibration": METHODS,
    "hardware.together": ("auto", "vmap", "sequential"),
    "submit.threshold_for": ("argmax", *OBJECTIVES, COST),
}
"""Keys whose value is one of a few words. Where a package below this one has the list already, it is that list."""

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
}
"""Keys of format 1, and what they are called now."""

CONVERTED: dict[str, Callable[[Any], Any]] = {"study.alpha": lambda x: round(1 - x, 12), "model.subclasses": bool}
"""Keys of format 1, renamed or not, and what makes of their old value the new one."""

ADDED: tuple[str, ...] = (
    "augment.fixed_views",
    *("data.copies", "data.crop", "data.equalise", "data.max_file_mb", "data.missing", "data.sha256"),
    "evaluate.positive_class",
)
"""Keys that folders of earlier versions may lack. Their defaults do what was done then."""

Conditions = dict[str, tuple[bool, str]]
"""By key: whether its value is in its range, and that range in words."""


RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "at least 0": (
        lambda x: x >= 0,
        "data.memory_gb augment.fixed_views model.squeeze_excitation model.dense_l2 finetune.num_frozen "
        "optim.weight_decay optim.gradient_clip_norm train.num_devices study.margin hardware.memory_gb",
    ),
    "at least 1": (
        lambda x: x >= 1,
        "model.kernel_size model.convs_per_block optim.plateau_patience train.batch_size train.num_epochs "
        "train.patience train.eval_every_epochs train.checkpoint_every_epochs explain.num_images",
    ),
    "in [0, 100000], beyond which an interval does not change": (
        lambda x: 0 <= x <= 100_000,
        "evaluate.num_resamples",
    ),
    "> 0": (
        lambda x: x > 0,
        "data.max_file_mb finetune.backbone_rate finetune.rate_decay finetune.cache_gb optim.learning_rate",
    ),
    "in [0, 1)": (
        lambda x: 0 <= x < 1,
        "model.block_dropout_rate model.dropout_rate optim.momentum train.label_smoothing train.ema_decay",
    ),
    "in (0, 1)": (
        lambda x: 0 < x < 1,
        "split.validation_fraction split.selection_fraction optim.plateau_factor study.miss_rate",
    ),
}
"""Plain ranges of numbers: in words, as a test, and the keys that they are of."""


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Loads the config of a file, applies the overrides of the command line, completes, checks and locks it.

    Args:
      path: a Python file with `get_config()`. Files below `configs/` are found from any folder.
      overrides: arguments like `--config.optim.learning_rate=3e-4`, or the same in two parts.

    Raises:
      ConfigError: no such file, unknown key, a value of another type, or one that makes no sense.
      WeightsError: unknown weights.
    """
    notes = _renamed_notes()
    return check(_complete(apply_overrides(read_config_file(path, notes), overrides, notes)))


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Applies command-line overrides to the config of a run folder; only keys of `AFTER_TRAINING` may change.

    Raises:
      ConfigError: an unknown key, a value of another type, or a key that would need a new training.
    """
    changed = apply_overrides(ConfigDict(config.to_dict()), overrides, _renamed_notes())
    for key in training_differences(config, changed):
        raise ConfigError(
            f"--config.{key} cannot change after training; train into another --workdir, "
            "or leave it out to use what this run was trained with"
        )
    return check(changed)


def to_json(config: Config) -> dict[str, Any]:
    """What `config.json` of a run folder holds."""
    return folder_format() | {"config": config.to_dict()}


def from_json(values: dict[str, Any], where: str) -> Config:
    """Rebuilds a config from what `config.json` of a run folder holds.

    Args:
      values: from `to_json`, after JSON made lists of its tuples, or what format 1 held instead.

    Raises:
      ConfigError: keys that this version does not know, or lacks, or values that make no sense.
      RunError: a later version wrote it.
    """
    number, version = read_format(values, where)
    config = values if number == 1 else values.get("config")
    return config_of_format(config if isinstance(config, dict) else {}, where, number, version)


def config_of_format(values: dict[str, Any], where: str, number: int, version: str) -> Config:
    """Rebuilds a config that was written in a format, as `read_format` gives it; otherwise as `from_json`."""
    flat = _with_added(_upgrade(flatten(values)) if number == 1 else flatten(values))
    advice = f"it was written by fpclass {version}: train again into a new --workdir, or install that version"
    config = from_values(flat, where, advice, {}).lock()
    try:
        return check(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; {advice}") from None


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Values of format 1 by the keys of today."""
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


def _with_added(values: dict[str, Any]) -> dict[str, Any]:
    default = flatten(base_config())
    return {key: default[key] for key in ADDED} | values


def _renamed_notes() -> dict[str, str]:
    notes = {key: f"is called {new} now" for key, new in RENAMED.items()}
    return {
        key: f"{note}, and takes other values: see configs/base.py" if key in CONVERTED else note
        for key, note in notes.items()
    }


def decided_by_weights(config: Config) -> dict[str, Any]:
    """What `model.weights` leave no choice about, by key: the network, its variant, how images are normalised.

    Raises:
      WeightsError: no such weights.
    """
    entry, _ = resolve(config.model.weights)
    mean, std = entry.normalisation(config.data.channels)
    return {"model.name": entry.architecture, "model.variant": entry.variant, "data.mean": mean, "data.std": std}


def training_differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Those of `differences` that would need a new training."""
    return {key: pair for key, pair in differences(old, new).items() if not key.startswith(AFTER_TRAINING)}


def subclass_counts(config: Config) -> tuple[int, ...]:
    """How many classes `data.merge` puts into each, where `model.subclasses` has them learnt one by one; else ()."""
    return tuple(len(members) for _, members in config.data.merge) if config.model.subclasses else ()


def needs_selection(config: Config) -> bool:
    """Whether training chooses anything (the epoch, the learning rate) and so needs data to choose on."""
    return config.train.early_stopping != "none" or config.optim.schedule == "plateau"


def _complete(config: Config) -> Config:
    """Puts in what the pretrained weights decide.

    Raises:
      ConfigError: the config says something else.
    """
    if not config.model.weights:
        return config
    given, default, values = flatten(config), flatten(base_config()), decided_by_weights(config)
    for key, value in values.items():
        if given[key] not in (value, default[key]):
            raise ConfigError(f"config.{key} is {given[key]!r}, but the weights {config.model.weights} need {value!r}")
    completed = ConfigDict(config.to_dict())
    completed.update_from_flattened_dict(values)
    return completed.lock()


def check(config: Config) -> Config:
    """Returns the config if its values make sense together; names of things are looked up where they are used.

    Raises:
      ConfigError: names the key, its value and what is expected.
    """
    values = flatten(config)
    for conditions in (
        _plain_conditions,
        _data_conditions,
        _model_conditions,
        _finetune_conditions,
        _cache_conditions,
        _train_conditions,
        _conditions_after_training,
    ):
        for key, (is_fine, expected) in conditions(config).items():
            if not is_fine:
                raise ConfigError(f"config.{key} is {values[key]!r}: expected {expected}")
    for key, default in flatten(base_config()).items():
        defaults, given = (value if isinstance(value, tuple) else (value,) for value in (default, values[key]))
        takes_numbers = bool(defaults) and isinstance(defaults[0], int | float)
        if takes_numbers and not all(isinstance(value, int | float) and math.isfinite(value) for value in given):
            raise ConfigError(f"config.{key} is {values[key]!r}: expected finite numbers")
    check_augment(config.augment, config.data.channels)
    return config


def _plain_conditions(config: Any) -> Conditions:
    values = flatten(config)
    return {
        "seed": (0 <= config.seed < 2**32, "in [0, 2**32)"),
        **{key: (values[key] in choices, _either(choices)) for key, choices in CHOICES.items()},
        **{key: (fits(values[key]), words) for words, (fits, keys) in RANGES.items() for key in keys.split()},
    }


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _data_conditions(config: Any) -> Conditions:
    data, split = config.data, config.split
    last_fold = max(split.num_folds, 1) - 1
    return {
        "data.image_size": (len(data.image_size) == 2 and _are_positive(data.image_size), "(height, width) > 0"),
        "data.channels": (data.channels in (1, 3), "1 (grey) or 3 (RGB)"),
        "data.merge": (all(map(_is_merged_class, data.merge)), '(("name", ("class", "class")), …)'),
        "data.sha256": (bool(re.fullmatch("([0-9a-fA-F]{64})?", data.sha256)), "64 hex digits, or nothing"),
        "data.copies": (not data.copies or data.crop == data.equalise == "none", "none with data.crop, data.equalise"),
        "data.pad_value": (0 <= data.pad_value <= 255, "in [0, 255]"),
        "data.near_duplicates": (0 <= data.near_duplicates <= 1, "a correlation in (0, 1], or 0 to turn it off"),
        "data.mean": (len(data.mean) in (1, data.channels), "one number, or one per channel"),
        "data.std": (
            len(data.std) in (1, data.channels) and all(isinstance(s, int | float) and s > 0 for s in data.std),
            "one > 0, or one per channel",
        ),
        "split.num_folds": (split.num_folds == 0 or split.num_folds >= 2, "0 (hold-out) or at least 2"),
        "split.fold": (0 <= split.fold <= last_fold, f"in [0, {last_fold}] where split.num_folds={split.num_folds}"),
    }


def _is_merged_class(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and bool(pair[0])
    return is_pair and isinstance(pair[1], list | tuple) and bool(pair[1])


def _model_conditions(config: Any) -> Conditions:
    model = config.model
    return {
        "model.conv_features": (bool(model.conv_features) and _are_positive(model.conv_features), "whole numbers > 0"),
        "model.subclasses": (
            not model.subclasses or (model.output == "softmax" and bool(config.data.merge)),
            "False, or True with classes in data.merge and model.output=softmax",
        ),
        "model.dense_features": (_are_positive(model.dense_features), "whole numbers > 0"),
    }


def _finetune_conditions(config: Any) -> Conditions:
    finetune, is_cached = config.finetune, config.finetune.cache_views > 0
    is_frozen = bool(finetune.freeze_before or finetune.num_frozen)
    return {
        "finetune.batch_norm": (
            finetune.batch_norm != "train_all" or not is_cached,
            "auto, train, frozen_stats, frozen, or (without finetune.cache_views) train_all",
        ),
        "finetune.unfreeze": (
            all(
                isinstance(pair, list | tuple)
                and [type(part) for part in pair] == [str, int]
                and 1 <= pair[1] < config.train.num_epochs
                for pair in finetune.unfreeze
            ),
            '(("stage", epochs), …) with so many epochs passed before: from 1, and fewer than train.num_epochs',
        ),
        "finetune.cache_views": (
            finetune.cache_views >= 0 and (is_frozen or not is_cached),
            "0, or at least 1 where stages are frozen (finetune.freeze_before)",
        ),
    }


def _cache_conditions(config: Any) -> Conditions:
    """What cannot be had where the features of frozen stages are computed once."""
    num_views = config.finetune.cache_views
    if not num_views:
        return {}
    return {
        "augment.fixed_views": (
            config.augment.fixed_views in (0, num_views),
            f"0 or as many as finetune.cache_views={num_views}: they are the same views",
        ),
    } | {
        key: (not value, f"{nothing} with finetune.cache_views={num_views}: {reason}")
        for key, value, nothing, reason in (
            ("predict.flip", config.predict.flip, "False", "features are of one view"),
            ("predict.shift_px", config.predict.shift_px, "0", "features are of one view"),
            ("augment.flip_alternates", config.augment.flip_alternates, "False", "views are not epochs"),
            ("augment.mixup_alpha", config.augment.mixup_alpha, "0", "it would mix features, not images"),
            ("augment.cutmix_alpha", config.augment.cutmix_alpha, "0", "it would mix features, not images"),
            ("finetune.new_stem", config.finetune.new_stem, "False", "the frozen stages would change"),
        )
    }


def _train_conditions(config: Any) -> Conditions:
    train, optim, augment = config.train, config.optim, config.augment
    has_warmup = optim.schedule in ("cosine", "linear")
    return {
        "augment.flip_alternates": (
            not (augment.flip_alternates and augment.fixed_views),
            f"False with augment.fixed_views={augment.fixed_views}: views are not epochs",
        ),
        "optim.warmup_epochs": (
            0 <= optim.warmup_epochs < train.num_epochs if has_warmup else optim.warmup_epochs == 0,
            "in [0, train.num_epochs), and 0 unless optim.schedule=cosine or linear",
        ),
        "train.accumulate": (
            train.accumulate >= 1 and train.batch_size % train.accumulate == 0,
            "at least 1, and a divisor of train.batch_size",
        ),
    }


def _conditions_after_training(config: Any) -> Conditions:
    """Those of the sections that say what happens with trained members."""
    predict, study = config.predict, config.study
    return {
        "predict.shift_px": (
            0 <= predict.shift_px < min(config.data.image_size),
            "at least 0, and less than both sides of data.image_size",
        ),
        "study.max_risk": (0 <= study.max_risk <= 1, "in [0, 1]"),
        "evaluate.confidence": (0.5 < config.evaluate.confidence < 1, "in (0.5, 1)"),
    }


def _are_positive(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)
