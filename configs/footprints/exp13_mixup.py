"""Experiment 13: mixup.

Hypothesis: blends of two prints and of their labels are not worth memorising, and smooth the border between classes.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp13_mixup.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.mixup_alpha",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp13_mixup"
    config.augment.mixup_alpha = 0.2
    return config
