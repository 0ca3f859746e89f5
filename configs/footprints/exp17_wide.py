"""Experiment 17: four times the channels.

Hypothesis: six and sixteen channels are too few to describe a print; four times as many are not.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp17_wide.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.conv_features",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp17_wide"
    config.model.conv_features = (24, 64)
    return config
