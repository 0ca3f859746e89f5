"""Keys of a config that an experiment does not read: the table of when each is read, and the check.

A key counts as set where it is away from the default in configs/base.py. What a network or an optimiser cannot do is
not in this table: `models.build`, `train.finetune` and `train.optim` refuse it where they build one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from fpclass.augment.settings import COMPOSED, ONE_BY_ONE, is_augmented, is_on
from fpclass.common.extension import is_own
from fpclass.config import Config, base_config, flatten
from fpclass.errors import ConfigError
from fpclass.experiment.unlabelled import IMAGES, PEOPLE


class Reading(NamedTuple):
    """When some keys are read.

    Attributes:
      keys: separated by blanks; one that ends in "." stands for its section.
      when: in words, after "is read where".
      is_read: the same as a test of the config.
    """

    keys: str
    when: str
    is_read: Callable[[Config], bool]


def needs_selection(config: Config) -> bool:
    """Whether training chooses anything (the epoch, the learning rate) and so needs data to choose on."""
    return is_trained(config) and (config.train.early_stopping != "none" or config.optim.schedule == "plateau")


def is_trained(config: Config) -> bool:
    """Whether the network is trained, step by step, and not only a probe, which is fitted."""
    return config.model.head != "probe" or config.finetune.from_probe


def _moves(config: Config) -> bool:
    return any(is_on(config.augment, key) for key in (*ONE_BY_ONE, *COMPOSED))


def _stages_learn(config: Config) -> bool:
    return config.finetune.freeze_before != "head" or bool(config.finetune.unfreeze)


def _has_dense_layers(config: Config) -> bool:
    return bool(config.model.dense_features)


OF_A_STUDY = (
    Reading("study.margin study.max_risk study.risk_confidence study.miss_rate study.sets",
            "a study is judged: study, freeze-sweep, submit --ensemble", lambda _: False),
    Reading("study.metric", "a study is judged (study, freeze-sweep, submit --ensemble), or it is your own",
            lambda c: is_own(c.study.metric)),
    Reading("predict.averaging", "views are averaged (predict.flip, predict.shift_px), or the members of a study",
            lambda c: bool(c.predict.flip or c.predict.shift_px)),
)  # fmt: skip
"""What a study reads and a single run does not; but for `hardware`, which says of a machine what it can take."""

OF_A_RUN = (
    Reading("split.num_folds split.fold", "one fold is trained; a study has --folds", lambda _: False),
    Reading("submit.refit", "a single run is submitted; a study has an ensemble", lambda _: False),
)
"""What a single run reads and a study does not."""

READ = (
    Reading("data.csv data.separator data.image_dir data.group_column", "data.source=csv",
            lambda c: c.data.source == "csv"),
    Reading("data.label_column", "data.source is not synthetic, nor a function of your own",
            lambda c: c.data.source != "synthetic" and not is_own(c.data.source)),
    Reading("data.tfds_name", "data.source=tfds", lambda c: c.data.source == "tfds"),
    Reading("data.synthetic.", "data.source=synthetic", lambda c: c.data.source == "synthetic"),
    Reading("data.pad_value", "data.resize=pad", lambda c: c.data.resize == "pad"),
    Reading("split.validation_fraction", "split.num_folds=0", lambda c: not c.split.num_folds),
    Reading(
        "split.selection",
        "training chooses: train.early_stopping=restore_best or patience, optim.schedule=plateau",
        needs_selection,
    ),
    Reading(
        "split.selection_fraction",
        "training chooses (train.early_stopping, optim.schedule=plateau) and split.selection=inner",
        lambda c: needs_selection(c) and c.split.selection == "inner",
    ),
    Reading("augment.policy_magnitude augment.policy_names", "augment.policy_operations > 0",
            lambda c: c.augment.policy_operations > 0),
    Reading("augment.elastic_sigma_px", "augment.elastic_alpha_px > 0", lambda c: c.augment.elastic_alpha_px > 0),
    Reading("augment.fill_mode augment.interpolation", f"geometry is on: one of {', '.join((*ONE_BY_ONE, *COMPOSED))}",
            _moves),
    Reading("augment.fill_value", "geometry is on (augment.max_rotation_deg, zoom, …) and augment.fill_mode=constant",
            lambda c: _moves(c) and c.augment.fill_mode == "constant"),
    Reading("augment.erasing_area augment.erasing_aspect", "augment.erasing_probability > 0",
            lambda c: c.augment.erasing_probability > 0),
    Reading("augment.erased_value", "augment.erasing_probability > 0 or augment.cutout_px > 0",
            lambda c: c.augment.erasing_probability > 0 or c.augment.cutout_px > 0),
    Reading("augment.class_probability", "images are augmented at all",
            lambda c: is_augmented(c.augment.to_dict() | {"class_probability": (), "flip_alternates": False})),
    Reading("model.batch_norm", "model.name=blocks, or the cnn has model.dense_features",
            lambda c: c.model.name != "cnn" or _has_dense_layers(c)),
    Reading("model.dense_l2", "there are model.dense_features", _has_dense_layers),
    Reading("finetune.backbone_rate finetune.rate_decay", "stages learn: not finetune.freeze_before=head throughout",
            _stages_learn),
    Reading("finetune.new_stem", "there are model.weights, or stages are frozen",
            lambda c: bool(c.model.weights or c.finetune.freeze_before or c.finetune.num_frozen)),
    Reading("finetune.cache_gb", "finetune.cache_views > 0", lambda c: c.finetune.cache_views > 0),
    Reading("optim.momentum", "optim.name=sgd or rmsprop", lambda c: c.optim.name in ("sgd", "rmsprop")),
    Reading("optim.plateau_factor optim.plateau_patience", "optim.schedule=plateau",
            lambda c: c.optim.schedule == "plateau"),
    Reading("predict.pool", "people are known: data.group_column, data.group_pattern or data.source=synthetic",
            lambda c: bool(c.data.group_column or c.data.group_pattern or c.data.source == "synthetic")
            or is_own(c.data.source)),
    Reading("code_folders", "a key names a function of your own", lambda c: any(map(is_own, flatten(c).values()))),
    Reading("train.patience", "train.early_stopping=patience", lambda c: c.train.early_stopping == "patience"),
    Reading("train.selection_metric", "train.early_stopping=restore_best or patience",
            lambda c: c.train.early_stopping != "none"),
    Reading(
        "augment. finetune. optim. train.batch_size train.num_epochs train.label_smoothing train.early_stopping "
        "train.patience train.eval_every_epochs train.selection_metric train.ema_decay train.accumulate train.remat "
        "train.num_devices train.checkpoint_seconds train.max_minutes",
        "the network is trained, and not fitted as with model.head=probe",
        is_trained,
    ),
    Reading("model.probe_stages model.probe_pooling finetune.from_probe", "model.head=probe",
            lambda c: c.model.head == "probe"),
    Reading("unlabelled.pretrain_epochs", "the network begins with random weights: model.weights is empty",
            lambda c: not c.model.weights),
    Reading("unlabelled.self_training", "model.head=probe, and not finetune.from_probe", lambda c: not is_trained(c)),
    Reading("unlabelled.confidence", "unlabelled.self_training=images or people",
            lambda c: c.unlabelled.self_training in (IMAGES, PEOPLE)),
)  # fmt: skip
"""Keys that only some experiments read. What a network does not read of `model`, its declaration says beside it."""


def find_unread(config: Config, more: Iterable[Reading] = ()) -> dict[str, str]:
    """Keys that are set and not read by this experiment, with when they are.

    Args:
      more: `OF_A_STUDY` for a single run, `OF_A_RUN` for a study; neither where it may become both.
    """
    values, defaults = flatten(config), flatten(base_config())
    set_keys = [key for key, value in values.items() if value != defaults[key]]
    found: dict[str, str] = {}
    for reading in (*READ, *more):
        if not reading.is_read(config):
            sections = tuple(key for key in reading.keys.split() if key.endswith("."))
            of_it = (key for key in set_keys if key in reading.keys.split() or key.startswith(sections))
            found |= dict.fromkeys(of_it, reading.when)
    return found


def refuse_unread(config: Config, unread: dict[str, str], keys: Collection[str]) -> None:
    """Refuses the first of these keys that `find_unread` has found.

    Raises:
      ConfigError: there is one.
    """
    for key, when in unread.items():
        if key in keys:
            value = flatten(config)[key]
            raise ConfigError(f"config.{key} is {value!r}, but it is read only where {when}; leave it out")
