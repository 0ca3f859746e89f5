"""Experiment 24: the ideas that should help, together.

Hypothesis: what regularises weights, inputs, targets and averages adds up; chosen before any of them was judged.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp24_all_useful.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = (
    "augment.erasing_probability",
    "model.dropout_rate",
    "optim.name",
    "optim.schedule",
    "optim.warmup_epochs",
    "optim.weight_decay",
    "predict.flip",
    "train.ema_decay",
    "train.label_smoothing",
)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp24_all_useful"
    config.augment.erasing_probability = 0.4
    config.model.dropout_rate = 0.5
    config.optim.name = "adamw"
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 3.0
    config.optim.weight_decay = 0.05
    config.predict.flip = True
    config.train.ema_decay = 0.995
    config.train.label_smoothing = 0.05
    return config
