"""Configs: load one from its file and the command line, check it, keep it in a run folder, compare two."""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.util
import math
import pathlib
import types
from collections.abc import Sequence
from typing import Any, TypeAlias

from absl import flags
from ml_collections import ConfigDict, config_flags

from fpclass.errors import ConfigError

Config: TypeAlias = Any
"""A `ConfigDict`, or a section of one. Its attributes are dynamic, which no type checker can follow."""

AFTER_TRAINING = ("study.", "evaluate.", "explain.", "submit.", "data.root", "data.memory_gb")
"""Keys that may change in a run folder: they do not change what was trained. The data themselves are compared."""

STUDY_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier")
"""What a study may compare configs by."""

THRESHOLDS = ("argmax", "accuracy", "f1", "balanced_accuracy", "cost")
"""What the decisions of an ensemble may be best for."""


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Loads a config file and applies what the command line says.

    Args:
      path: a Python file with `get_config()`. Files below `configs/` are found from any folder.
      overrides: arguments like `--config.optim.learning_rate=3e-4`, or the same in two parts.

    Returns:
      The locked, checked config.

    Raises:
      ConfigError: no such file, unknown key, a value of another type, or one that makes no sense.
    """
    found = _run_file(_find(path), path)
    if not isinstance(found, ConfigDict):
        raise ConfigError(f"{path}: get_config() gave a {type(found).__name__}, expected a ConfigDict")
    config = _fill_in(flatten(found), path, "configs/base.py lists every key")
    config = _apply(config, overrides)
    return check(_resolve(config))


def _resolve(config: Config) -> Config:
    """Puts in what the pretrained weights decide.

    Raises:
      ConfigError: the config says something else.
    """
    if not config.model.weights:
        return config
    given, unset, values = flatten(config), flatten(base_config()), decided_by_weights(config)
    for key, value in values.items():
        if given[key] not in (value, unset[key]):
            raise ConfigError(f"config.{key} is {given[key]!r}, but the weights {config.model.weights} need {value!r}")
    resolved = ConfigDict(config.to_dict())
    resolved.update_from_flattened_dict(values)
    return resolved.lock()


def decided_by_weights(config: Config) -> dict[str, Any]:
    """What `model.weights` leave no choice about, by key: the network, its variant, how images are normalised.

    Raises:
      WeightsError: no such weights.
    """
    from fpclass.models.pretrained.source import resolve

    entry, _ = resolve(config.model.weights)
    mean, std = entry.normalisation(config.data.channels)
    return {"model.name": entry.architecture, "model.variant": entry.variant, "data.mean": mean, "data.std": std}


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Applies command-line overrides to the config of a run folder; only keys of `AFTER_TRAINING` may change.

    Raises:
      ConfigError: an unknown key, a value of another type, or a key that would need a new training.
    """
    changed = _apply(ConfigDict(config.to_dict()), overrides)
    for key in training_differences(config, changed):
        raise ConfigError(
            f"--config.{key} cannot change after training; train into another --workdir, "
            "or leave it out to use what this run was trained with"
        )
    return check(changed)


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Leaf values by dotted key, in the order of the config."""
    flat = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, with (old, new); None stands for a key that is not there."""
    was, now = flatten(old), flatten(new)
    keys = list(dict.fromkeys([*was, *now]))
    return {k: (was.get(k), now.get(k)) for k in keys if was.get(k) != now.get(k)}


def training_differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Those of `differences` that would need a new training."""
    return {key: pair for key, pair in differences(old, new).items() if not key.startswith(AFTER_TRAINING)}


def from_json(values: dict[str, Any], where: str) -> Config:
    """Rebuilds a config from the `config.json` of a run folder.

    Args:
      values: what `config.to_dict()` was, after JSON made lists of its tuples.
      where: the file, for messages.

    Raises:
      ConfigError: keys that this version does not know, or lacks.
    """
    return _fill_in(flatten(values), where, "it is of another version of fpclass: train again into a new --workdir")


def check(config: Config) -> Config:
    """Returns the config if its values make sense together; names of things are looked up where they are used.

    Raises:
      ConfigError: names the key, its value and what is expected.
    """
    from fpclass.augment import check_augment

    values = flatten(config)
    for key, (is_fine, expected) in _conditions(config).items():
        if not is_fine:
            raise ConfigError(f"config.{key} is {values[key]!r}: expected {expected}")
    for key, default in flatten(base_config()).items():
        defaults, given = (value if isinstance(value, tuple) else (value,) for value in (default, values[key]))
        takes_numbers = bool(defaults) and isinstance(defaults[0], int | float)
        if takes_numbers and not all(isinstance(value, int | float) and math.isfinite(value) for value in given):
            raise ConfigError(f"config.{key} is {values[key]!r}: expected finite numbers")
    check_augment(config.augment, config.data.channels)
    return config


def _conditions(config: Any) -> dict[str, tuple[bool, str]]:
    """Whether a key's value is in its range, and that range in words."""
    from fpclass.data.resize import RESAMPLING, RESIZE

    data, split, model, optim, train = config.data, config.split, config.model, config.optim, config.train
    last_fold = max(split.num_folds, 1) - 1
    has_warmup = optim.schedule in ("cosine", "linear")
    return {
        "seed": (0 <= config.seed < 2**32, "in [0, 2**32)"),
        "data.image_size": (len(data.image_size) == 2 and _are_positive(data.image_size), "(height, width) > 0"),
        "data.channels": (data.channels in (1, 3), "1 (grey) or 3 (RGB)"),
        "data.merge": (all(map(_is_merged_class, data.merge)), '(("name", ("class", "class")), …)'),
        "data.memory_gb": (data.memory_gb >= 0, "at least 0"),
        "data.interpolation": (data.interpolation in RESAMPLING, ", ".join(RESAMPLING)),
        "data.resize": (data.resize in RESIZE, " or ".join(RESIZE)),
        "data.pad_value": (0 <= data.pad_value <= 255, "in [0, 255]"),
        "data.near_duplicates": (0 <= data.near_duplicates <= 1, "a correlation in (0, 1], or 0 to turn it off"),
        "data.mean": (len(data.mean) in (1, data.channels), "one number, or one per channel"),
        "data.std": (
            len(data.std) in (1, data.channels) and all(isinstance(s, int | float) and s > 0 for s in data.std),
            "one > 0, or one per channel",
        ),
        "split.validation_fraction": (0 < split.validation_fraction < 1, "in (0, 1)"),
        "split.num_folds": (split.num_folds == 0 or split.num_folds >= 2, "0 (hold-out) or at least 2"),
        "split.fold": (0 <= split.fold <= last_fold, f"in [0, {last_fold}] where split.num_folds={split.num_folds}"),
        "split.selection": (split.selection in ("inner", "validation"), "inner or validation"),
        "split.selection_fraction": (0 < split.selection_fraction < 1, "in (0, 1)"),
        "model.conv_features": (bool(model.conv_features) and _are_positive(model.conv_features), "whole numbers > 0"),
        "model.kernel_size": (model.kernel_size >= 1, "at least 1"),
        "model.convs_per_block": (model.convs_per_block >= 1, "at least 1"),
        "model.block_dropout_rate": (0 <= model.block_dropout_rate < 1, "in [0, 1)"),
        "model.output": (model.output in ("softmax", "sigmoid"), "softmax or sigmoid"),
        "model.subclasses": (
            not model.subclasses
            or (
                model.output == "softmax"
                and tuple(model.subclasses) == tuple(len(members) for _, members in data.merge)
            ),
            "() or how many classes data.merge puts into each, with model.output=softmax",
        ),
        "model.dense_features": (_are_positive(model.dense_features), "whole numbers > 0"),
        "model.dropout_rate": (0 <= model.dropout_rate < 1, "in [0, 1)"),
        "model.head": (model.head in ("own", "flatten", "gap", "moments"), "own, flatten, gap or moments"),
        "model.squeeze_excitation": (model.squeeze_excitation >= 0, "at least 0"),
        "model.conv_form": (model.conv_form in ("auto", "polyphase", "direct"), "auto, polyphase or direct"),
        "model.dense_l2": (model.dense_l2 >= 0, "at least 0"),
        "model.compute_dtype": (model.compute_dtype in ("float32", "bfloat16"), "float32 or bfloat16"),
        **_finetune_conditions(config),
        "optim.learning_rate": (optim.learning_rate > 0, "> 0"),
        "optim.momentum": (0 <= optim.momentum < 1, "in [0, 1)"),
        "optim.weight_decay": (optim.weight_decay >= 0, "at least 0"),
        "optim.gradient_clip_norm": (optim.gradient_clip_norm >= 0, "at least 0"),
        "optim.warmup_epochs": (
            0 <= optim.warmup_epochs < train.num_epochs if has_warmup else optim.warmup_epochs == 0,
            "in [0, train.num_epochs), and 0 unless optim.schedule=cosine or linear",
        ),
        "optim.plateau_factor": (0 < optim.plateau_factor < 1, "in (0, 1)"),
        "optim.plateau_patience": (optim.plateau_patience >= 1, "at least 1"),
        "train.batch_size": (train.batch_size >= 1, "at least 1"),
        "train.num_epochs": (train.num_epochs >= 1, "at least 1"),
        "train.label_smoothing": (0 <= train.label_smoothing < 1, "in [0, 1)"),
        "train.class_weights": (train.class_weights in ("none", "balanced"), "none or balanced"),
        "train.patience": (train.patience >= 1, "at least 1"),
        "train.eval_every_epochs": (train.eval_every_epochs >= 1, "at least 1"),
        "train.checkpoint_every_epochs": (train.checkpoint_every_epochs >= 1, "at least 1"),
        "train.ema_decay": (0 <= train.ema_decay < 1, "in [0, 1)"),
        "train.accumulate": (
            train.accumulate >= 1 and train.batch_size % train.accumulate == 0,
            "at least 1, and a divisor of train.batch_size",
        ),
        "train.num_devices": (train.num_devices >= 0, "at least 0"),
        **_conditions_after_training(config),
    }


def _is_merged_class(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and bool(pair[0])
    return is_pair and isinstance(pair[1], list | tuple) and bool(pair[1])


def _finetune_conditions(config: Any) -> dict[str, tuple[bool, str]]:
    finetune, is_cached = config.finetune, config.finetune.cache_views > 0
    is_frozen = bool(finetune.freeze_until or finetune.freeze_till)
    return {
        "finetune.freeze_till": (finetune.freeze_till >= 0, "at least 0"),
        "finetune.batch_norm": (
            finetune.batch_norm in ("auto", "train", "frozen_stats", "frozen")
            or (finetune.batch_norm == "train_all" and not is_cached),
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
        "finetune.backbone_rate": (finetune.backbone_rate > 0, "> 0"),
        "finetune.rate_decay": (finetune.rate_decay > 0, "> 0"),
        "finetune.cache_gb": (finetune.cache_gb > 0, "> 0"),
        "finetune.cache_views": (
            finetune.cache_views >= 0 and (is_frozen or not is_cached),
            "0, or at least 1 where stages are frozen (finetune.freeze_until)",
        ),
        **{
            key: (not is_cached or not value, f"{nothing} with finetune.cache_views={finetune.cache_views}: {reason}")
            for key, value, nothing, reason in (
                ("predict.flip", config.predict.flip, "False", "features are of one view"),
                ("predict.shift_px", config.predict.shift_px, "0", "features are of one view"),
                ("augment.flip_alternates", config.augment.flip_alternates, "False", "views are not epochs"),
                ("augment.mixup_alpha", config.augment.mixup_alpha, "0", "it would mix features, not images"),
                ("augment.cutmix_alpha", config.augment.cutmix_alpha, "0", "it would mix features, not images"),
                ("finetune.new_stem", finetune.new_stem, "False", "the frozen stages would change"),
            )
        },
    }


def _conditions_after_training(config: Any) -> dict[str, tuple[bool, str]]:
    """The same for the sections that say what happens with trained members."""
    predict, study = config.predict, config.study
    return {
        "predict.shift_px": (
            _are_positive(size := config.data.image_size) and 0 <= predict.shift_px < min(size, default=0),
            "at least 0, and less than both sides of data.image_size",
        ),
        "predict.average": (predict.average in ("probabilities", "logits"), "probabilities or logits"),
        "study.metric": (study.metric in STUDY_METRICS, ", ".join(STUDY_METRICS)),
        "study.alpha": (0 < study.alpha < 0.5, "in (0, 0.5)"),
        "study.margin": (study.margin >= 0, "at least 0"),
        "study.calibration": (study.calibration in ("none", "temperature", "vector"), "none, temperature or vector"),
        "study.max_risk": (0 <= study.max_risk <= 1, "in [0, 1]"),
        "study.miss_rate": (0 < study.miss_rate < 1, "in (0, 1)"),
        "study.together": (study.together in ("auto", "vmap", "sequential"), "auto, vmap or sequential"),
        "study.memory_gb": (study.memory_gb >= 0, "at least 0"),
        "submit.threshold_for": (config.submit.threshold_for in THRESHOLDS, ", ".join(THRESHOLDS)),
        "evaluate.num_bootstrap": (config.evaluate.num_bootstrap >= 0, "at least 0"),
        "evaluate.confidence": (0 < config.evaluate.confidence < 1, "in (0, 1)"),
        "explain.num_images": (config.explain.num_images >= 1, "at least 1"),
    }


def _are_positive(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)


def needs_selection(config: Config) -> bool:
    """Whether training chooses anything (the epoch, the learning rate) and so needs data to choose on."""
    return config.train.early_stopping != "none" or config.optim.schedule == "plateau"


def base_config() -> Config:
    """Every key with its default."""
    from configs import base

    return base.get_config()


def _run_file(file: pathlib.Path, path: str) -> Any:
    """What `get_config()` of a config file returns."""
    loader = importlib.machinery.SourceFileLoader("config_file", str(file))
    module = types.ModuleType(loader.name)
    try:
        loader.exec_module(module)
        return module.get_config()
    except Exception as error:  # a config file is a program: whatever it raises is about the file
        reason = " ".join(str(error).partition(". Other fields present")[0].split())  # ml_collections lists them all
        raise ConfigError(f"{path}: no config to load ({type(error).__name__}: {reason[:200]})") from error


def _fill_in(values: dict[str, Any], where: str, advice: str) -> Config:
    """A fresh config of this version with these values, every key of which must be there and of its type."""
    config = base_config()
    known = list(flatten(config))
    for key in sorted(values.keys() ^ set(known)):
        if key in values:
            raise ConfigError(f"{where}: no such key {key}{_suggest(key, known)}; {advice}")
        raise ConfigError(f"{where}: key {key} is missing; {advice}")
    for key, value in values.items():
        value = _as_tuples(value)
        try:
            config.update_from_flattened_dict({key: value})
            is_fine = value is not None  # the only value that ml_collections takes for any type
        except TypeError:
            is_fine = False
        if not is_fine:
            expected = type(flatten(base_config())[key]).__name__
            raise ConfigError(f"{where}: {key} is {value!r}, expected a value of type {expected}; {advice}")
    return config


def _as_tuples(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again, however deep."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _apply(config: Config, overrides: Sequence[str]) -> Config:
    """Puts the values of the command line into the config, and locks it."""
    known = [*flatten(config), *(key for key, value in config.items() if isinstance(value, ConfigDict))]
    for argument in overrides:
        prefix, _, key = argument.split("=")[0].partition("config.")
        if prefix in ("--", "-", "--no", "-no") and key not in known:
            raise ConfigError(f"--config.{key}: no such key{_suggest(key, known)}; configs/base.py lists every key")
        if argument.split("=")[0] in ("--config", "-config"):
            raise ConfigError(f"{argument}: one config only, and a run folder has its own; leave it out")
    flag_values = flags.FlagValues()
    argv = ["launch.py", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv)
    try:
        rest = flag_values(argv)[1:]
    except flags.IllegalFlagValueError as error:
        raise ConfigError(f"{error}; configs/base.py has the type of every key") from None
    except flags.Error as error:
        raise ConfigError(f"{error}; see --help") from None
    if rest:
        raise ConfigError(f"unexpected argument {rest[0]!r}; values are given as --config.KEY=VALUE, see --help")
    return config.lock()


def _find(path: str) -> pathlib.Path:
    """The config file, also where the working folder is not the project's."""
    file = pathlib.Path(path)
    if file.is_file():
        return file
    homes = config_homes()
    if file.parts[:1] == ("configs",):
        for home in homes:
            if (home.parent / file).is_file():
                return home.parent / file
    there = sorted(str(f.relative_to(home.parent)) for home in homes for f in home.rglob("*.py") if f.name[0] != "_")
    raise ConfigError(f"--config={path}: no such file{_suggest(path, there)}")


def config_homes() -> list[pathlib.Path]:
    """Where the configs of this project are: one folder `configs`, wherever it is installed; empty if nowhere."""
    spec = importlib.util.find_spec("configs")
    return [pathlib.Path(home) for home in spec.submodule_search_locations or ()] if spec else []


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    close = close or [k for k in known if k.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:1]
    return f", did you mean {close[0]}?" if close else ""
