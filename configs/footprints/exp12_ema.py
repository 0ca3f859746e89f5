"""Experiment 12: a moving average of the weights.

Hypothesis: the average of the weights over the last five epochs or so is better than any one of them.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp12_ema.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("train.ema_decay",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp12_ema"
    config.train.ema_decay = 0.995
    return config
