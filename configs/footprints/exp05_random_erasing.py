"""Experiment 5: random erasing.

Hypothesis: with boxes missing, the network has to use more than one cue.
Reference: accuracy 0.760, F1 0.701 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp05_random_erasing.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.erasing_probability",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp05_random_erasing"
    config.augment.erasing_probability = 0.4
    return config
