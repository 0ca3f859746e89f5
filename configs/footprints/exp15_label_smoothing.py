"""Experiment 15: label smoothing.

Hypothesis: targets short of certainty give better probabilities where sex cannot be read, and the same accuracy.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp15_label_smoothing.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("train.label_smoothing",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp15_label_smoothing"
    config.train.label_smoothing = 0.1
    return config
