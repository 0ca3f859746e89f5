"""Experiment 1: dropout.

Hypothesis: dropping half of the features slows memorising.
Reference: accuracy 0.760, F1 0.715 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp01_dropout.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.dropout_rate",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp01_dropout"
    config.model.dropout_rate = 0.5
    return config
