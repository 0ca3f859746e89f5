"""Conditions on values of a config that depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fpclass.stats.decisions.thresholds import COST

Conditions = dict[str, tuple[bool, str]]
"""By key: whether its value is in its range, and that range in words."""


def model_conditions(config: Any) -> Conditions:
    """Those of the section `model`."""
    model, has_views = config.model, bool(config.predict.flip or config.predict.shift_px)
    return {
        "model.conv_features": (bool(model.conv_features) and are_positive(model.conv_features), "whole numbers > 0"),
        "model.subclasses": (
            not model.subclasses
            or (model.output == "softmax" and bool(config.data.merge) and not (has_views and model.head == "probe")),
            "False, or True with classes in data.merge and model.output=softmax (a probe: and without views, "
            "predict.flip and predict.shift_px)",
        ),
        "model.compute_dtype": (
            model.compute_dtype == "float32" or model.head != "probe",
            "float32 with model.head=probe, which is fitted once and for all",
        ),
        "model.probe_stages": (all(isinstance(name, str) for name in model.probe_stages), '("stage", …)'),
        "model.dense_features": (are_positive(model.dense_features), "whole numbers > 0"),
    }


def finetune_conditions(config: Any) -> Conditions:
    """Those of the section `finetune`."""
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


def cache_conditions(config: Any) -> Conditions:
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


def train_conditions(config: Any) -> Conditions:
    """Those of the sections `optim` and `train`, and of views that are not epochs."""
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


def conditions_after_training(config: Any) -> Conditions:
    """Those of the sections that say what happens with trained members."""
    predict, study = config.predict, config.study
    return {
        "predict.shift_px": (
            0 <= predict.shift_px < min(config.data.image_size),
            "at least 0, and less than both sides of data.image_size",
        ),
        "submit.refit": (
            not (config.submit.refit and config.optim.schedule == "plateau"),
            "False with optim.schedule=plateau, which needs images that choose",
        ),
        "submit.threshold_for": (
            config.submit.threshold_for != COST or bool(study.cost),
            "another one, or a cost matrix in study.cost",
        ),
        "evaluate.prevalence": (0 <= config.evaluate.prevalence < 1, "in (0, 1), or 0 for that of the data"),
        "study.max_risk": (0 <= study.max_risk <= 1, "in [0, 1]"),
        "evaluate.subgroups": (
            all(isinstance(name, str) and name.strip() == name != "" for name in config.evaluate.subgroups)
            and len(set(config.evaluate.subgroups)) == len(config.evaluate.subgroups),
            '("column", …), names of columns, every one once',
        ),
        "evaluate.confidence": (0.5 < config.evaluate.confidence < 1, "in (0.5, 1)"),
    }


def are_positive(values: Sequence[Any]) -> bool:
    """Whether all of them are whole numbers above 0."""
    return all(isinstance(value, int) and value > 0 for value in values)
