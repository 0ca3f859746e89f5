"""An experiment: a config that is loaded, completed by its pretrained weights, and checked value by value.

`conditions` are those of values that depend on each other, `unread` says when a key is read at all, `own` is about keys
that name functions of the user's own, `unlabelled` about rows to predict that are learnt from, `formats` about keys of
earlier versions, `propose` about the config that a folder of images gets. From elsewhere: `propose`, `unlabelled`, and
what is in this file.
"""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ml_collections import ConfigDict

from fpclass.augment.geometry import FILL_MODES
from fpclass.augment.settings import INTERPOLATION_CHOICES, check_augment
from fpclass.common import extension
from fpclass.config import (
    FORMAT,
    Config,
    apply_overrides,
    base_config,
    differences,
    flatten,
    folder_format,
    from_values,
    given_keys,
    read_config_file,
    read_format,
)
from fpclass.data.altered.versions import KEEP
from fpclass.data.resize import CROP, EQUALISE, RESAMPLING, RESIZE
from fpclass.data.sources import SOURCES
from fpclass.data.sources.columns import SEPARATORS
from fpclass.errors import ConfigError
from fpclass.experiment import conditions
from fpclass.experiment.conditions import Conditions, are_positive
from fpclass.experiment.formats import renamed_notes, upgrade, with_added
from fpclass.experiment.own import own_conditions, with_own
from fpclass.experiment.unlabelled import WAYS, unlabelled_conditions
from fpclass.experiment.unread import OF_A_RUN, OF_A_STUDY, Reading, find_unread, refuse_unread
from fpclass.experiment.unread import is_trained as is_trained
from fpclass.experiment.unread import needs_selection as needs_selection
from fpclass.models.pretrained.source import find, resolve
from fpclass.stats.decisions.thresholds import COST, OBJECTIVES, SETS, check_cost
from fpclass.stats.evidence.pooling import POOLS, SUBMISSION
from fpclass.stats.intervals import OVERALL_METRICS
from fpclass.stats.probabilities.calibration import METHODS

AFTER_TRAINING = (
    *("study.", "hardware.", "evaluate.", "explain.", "submit.", "predict.pool"),
    *("data.root", "data.sha256", "data.copies", "data.exclude", "data.memory_gb", "data.max_file_mb"),
    *("data.class_names", "code_folders"),
)
"""Keys that may change in a run folder: they do not change what was trained. The data themselves are compared."""

POOLED = {
    "moments": "averages and deviations",
    "covariances": "matrix roots of the covariances of channels",
    "both": "averages, deviations and matrix roots of the covariances of channels",
}
"""What a probe is fitted to, of each stage, by `model.probe_pooling`."""

CHOICES: dict[str, tuple[str, ...]] = {
    "data.source": tuple(SOURCES),
    "data.interpolation": tuple(RESAMPLING),
    "data.resize": RESIZE,
    "data.crop": CROP,
    "data.equalise": EQUALISE,
    "data.keep": KEEP,
    "split.selection": ("inner", "validation"),
    "augment.fill_mode": FILL_MODES,
    "augment.interpolation": INTERPOLATION_CHOICES,
    "model.head": ("own", "flatten", "gap", "moments", "probe"),
    "model.output": ("softmax", "sigmoid"),
    "model.probe_pooling": tuple(POOLED),
    "model.conv_form": ("auto", "polyphase", "direct"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "finetune.batch_norm": ("auto", "train", "train_all", "frozen_stats", "frozen"),
    "optim.name": ("adam", "adamw", "sgd", "rmsprop"),
    "optim.schedule": ("constant", "cosine", "linear", "plateau"),
    "train.class_weights": ("none", "balanced"),
    "train.early_stopping": ("none", "restore_best", "patience"),
    "train.selection_metric": ("accuracy", "loss", "macro_f1"),
    "unlabelled.self_training": ("none", *WAYS),
    "predict.averaging": ("probabilities", "logits"),
    "predict.pool": (*POOLS, SUBMISSION),
    "study.metric": (*OVERALL_METRICS, "f1"),
    "study.calibration": METHODS,
    "study.sets": SETS,
    "hardware.together": ("auto", "vmap", "sequential"),
    "submit.threshold_for": ("argmax", *OBJECTIVES, COST),
}
"""Keys whose value is one of a few words. Where a package below this one has the list already, it is that list."""

RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "at least 0": (
        lambda x: x >= 0,
        "data.memory_gb augment.fixed_views model.squeeze_excitation model.dense_l2 finetune.num_frozen "
        "optim.weight_decay optim.gradient_clip_norm train.num_devices train.checkpoint_seconds train.max_minutes "
        "study.margin hardware.memory_gb",
    ),
    "at least 1": (
        lambda x: x >= 1,
        "model.kernel_size model.convs_per_block optim.plateau_patience train.batch_size train.num_epochs "
        "train.patience train.eval_every_epochs explain.num_images",
    ),
    "in [0, 100000], beyond which an interval does not change": (
        lambda x: 0 <= x <= 100_000,
        "evaluate.num_resamples",
    ),
    "> 0": (
        lambda x: x > 0,
        "data.max_file_mb finetune.backbone_rate finetune.rate_decay finetune.cache_gb optim.learning_rate "
        "optim.norm_bias_rate",
    ),
    "in [0, 1)": (
        lambda x: 0 <= x < 1,
        "model.block_dropout_rate model.dropout_rate optim.momentum train.label_smoothing train.ema_decay "
        "unlabelled.confidence",
    ),
    "in (0, 1]": (lambda x: 0 < x <= 1, "split.train_share"),
    "in (0, 1)": (
        lambda x: 0 < x < 1,
        "split.validation_fraction split.selection_fraction optim.plateau_factor study.miss_rate study.risk_confidence",
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
    config, unread = _load(path, overrides, OF_A_STUDY)
    refuse_unread(config, unread, given_keys(overrides))
    return config


def load_configs(
    paths: Sequence[str], overrides: Sequence[str] = (), own: Sequence[Sequence[str]] = ()
) -> list[Config]:
    """Loads the configs of a study, as `load_config`; a key of the command line has to be read by one of them.

    Args:
      overrides: for all of them.
      own: more overrides of each; (): none has any.
    """
    loaded = []
    for path, more in zip(paths, own or [()] * len(paths), strict=True):
        try:
            loaded.append(_load(path, [*more, *overrides], OF_A_RUN))
        except ConfigError as error:  # a value for all of them may fit only some
            raise ConfigError(str(error) if path in str(error) else f"{path}: {error}") from None
    for config, unread in loaded[:1]:
        refuse_unread(config, unread, given_keys(overrides).intersection(*(unread for _, unread in loaded)))
    return [config for config, _ in loaded]


def _load(path: str, overrides: Sequence[str], more: Sequence[Reading]) -> tuple[Config, dict[str, str]]:
    """A config, and its keys that are not read, as `find_unread`.

    What a file sets and does not read is an error, unless the command line sees to it that it is read. The other way
    round it is none: who switches something off need not reset its details. And a file may describe its data set for
    all the sources it can come from.
    """
    notes = renamed_notes()
    config = read_config_file(path, notes)
    of_file = {key for key in find_unread(config) if not key.startswith("data.")}
    config = with_own(apply_overrides(config, overrides, notes), [str(pathlib.Path(path).absolute().parent)])
    config = check(_complete(config, given_keys(overrides)))
    unread = find_unread(config, more)
    refuse_unread(config, unread, of_file)
    return config, unread


def override(config: Config, overrides: Sequence[str], *, is_study: bool = False) -> Config:
    """Applies command-line overrides to the config of a run folder; only keys of `AFTER_TRAINING` may change.

    Args:
      is_study: whether the config is one of a study that is judged, and not of a single run.

    Raises:
      ConfigError: an unknown key, a value of another type, a key that would need a new training, or one that is not
        read.
    """
    changed = apply_overrides(ConfigDict(config.to_dict()), overrides, renamed_notes())
    changed = with_own(changed, given=given_keys(overrides))
    for key in training_differences(config, changed):
        raise ConfigError(
            f"--config.{key} cannot change after training; train into another --workdir, "
            "or leave it out to use what this run was trained with"
        )
    unread = find_unread(check(changed), OF_A_RUN if is_study else OF_A_STUDY)
    refuse_unread(changed, unread, given_keys(overrides))
    return changed


def to_json(config: Config) -> dict[str, Any]:
    """What `config.json` of a run folder holds."""
    return folder_format() | {"config": config.to_dict()}


def from_json(values: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Config:
    """Rebuilds a config from what `config.json` of a run folder holds.

    Args:
      values: from `to_json`, after JSON made lists of its tuples, or what format 1 held instead.
      overrides: as `override` takes them. They may mend what an earlier version took and this one refuses.

    Raises:
      ConfigError: keys that this version does not know, or lacks, or values that make no sense; or as `override`.
      RunError: a later version wrote it.
    """
    number, version = read_format(values, where)
    config = values if number == 1 else values.get("config")
    return config_of_format(config if isinstance(config, dict) else {}, where, number, version, overrides)


def config_of_format(
    values: dict[str, Any], where: str, number: int, version: str, overrides: Sequence[str] = ()
) -> Config:
    """Rebuilds a config that was written in a format, as `read_format` gives it; otherwise as `from_json`."""
    flat = with_added(upgrade(flatten(values)) if number < FORMAT else flatten(values))
    advice = f"it was written by fpclass {version}: train again into a new --workdir, or install that version"
    config = from_values(flat, where, advice, {}).lock()
    extension.add_folders(config.code_folders)
    if overrides:
        return override(config, overrides)
    try:
        return check(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; {advice}") from None


def decided_by_weights(config: Config) -> dict[str, Any]:
    """What `model.weights` leave no choice about, by key: the network, its variant, how images are normalised.

    Nothing for a file of the user's own, of which the config says all that.

    Raises:
      WeightsError: no such weights.
    """
    entry, _ = find(config.model.weights)
    if entry is None:
        return {}
    mean, std = entry.normalisation(config.data.channels)
    return {"model.name": entry.architecture, "model.variant": entry.variant, "data.mean": mean, "data.std": std}


def training_differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Those of `differences` that would need a new training."""
    return {key: pair for key, pair in differences(old, new).items() if not key.startswith(AFTER_TRAINING)}


def _complete(config: Config, on_command_line: Collection[str]) -> Config:
    """Puts in what the pretrained weights decide.

    Raises:
      ConfigError: the config says something else.
      WeightsError: no such weights, or a file of which the config does not say what they would decide.
    """
    if not config.model.weights:
        return config
    given, default, values = flatten(config), flatten(base_config()), decided_by_weights(config)
    of_own = ("model.name", "data.mean", "data.std")
    if not values and any(given[key] == default[key] and key not in on_command_line for key in of_own):
        resolve(config.model.weights)  # says what is missing
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
    for conditions_of in (
        _plain_conditions,
        _data_conditions,
        conditions.model_conditions,
        conditions.finetune_conditions,
        conditions.cache_conditions,
        conditions.train_conditions,
        unlabelled_conditions,
        conditions.conditions_after_training,
    ):
        for key, (is_fine, expected) in conditions_of(config).items():
            if not is_fine:
                raise ConfigError(f"config.{key} is {values[key]!r}: expected {expected}")
    for key, default in flatten(base_config()).items():
        defaults, given = (value if isinstance(value, tuple) else (value,) for value in (default, values[key]))
        takes_numbers = bool(defaults) and isinstance(defaults[0], int | float)
        if takes_numbers and not all(isinstance(value, int | float) and math.isfinite(value) for value in given):
            raise ConfigError(f"config.{key} is {values[key]!r}: expected finite numbers")
    check_augment(config.augment, config.data.channels)
    if config.study.cost:
        check_cost(config.study.cost, known_classes(config) or len(config.study.cost))
    return config


def _plain_conditions(config: Any) -> Conditions:
    values = flatten(config)
    return {
        "seed": (0 <= config.seed < 2**32, "in [0, 2**32)"),
        "code_folders": (all(isinstance(folder, str) for folder in config.code_folders), '("folder", …)'),
        **{key: (values[key] in choices, _either(choices)) for key, choices in CHOICES.items()},
        **own_conditions(values, CHOICES),
        **{key: (fits(values[key]), words) for words, (fits, keys) in RANGES.items() for key in keys.split()},
    }


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _data_conditions(config: Any) -> Conditions:
    data, split = config.data, config.split
    last_fold = max(split.num_folds, 1) - 1
    return {
        "data.root": (
            data.source != "synthetic" or not data.root,
            "nothing with data.source=synthetic (the demo's), which draws its own images; for those in a folder give "
            "--config.data.source=folder, or csv",
        ),
        "data.image_size": (len(data.image_size) == 2 and are_positive(data.image_size), "(height, width) > 0"),
        "data.channels": (data.channels in (1, 3), "1 (grey) or 3 (RGB)"),
        "data.separator": (data.separator in ("", *SEPARATORS), "one of , ; | and a tab, or nothing"),
        "data.merge": (all(map(_is_merged_class, data.merge)), '(("name", ("class", "class")), …)'),
        "data.sha256": (bool(re.fullmatch("([0-9a-fA-F]{64})?", data.sha256)), "64 hex digits, or nothing"),
        "data.copies": (
            not data.copies or (data.crop == data.equalise == "none" and data.keep == KEEP[0]),
            "none with data.crop, data.equalise, data.keep",
        ),
        "data.class_names": (
            all(isinstance(name, str) and name.strip() for name in data.class_names)
            and len(set(data.class_names)) == len(data.class_names)
            and len(data.class_names) in (0, known_classes(config) or len(data.class_names)),
            "a name for each class, in class order, every name once",
        ),
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


def known_classes(config: Config) -> int:
    """How many classes there are, as far as the config alone tells; 0 where the data decide."""
    return len(config.data.merge) or len(config.data.classes)


def _is_merged_class(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and bool(pair[0])
    return is_pair and isinstance(pair[1], list | tuple) and bool(pair[1])
