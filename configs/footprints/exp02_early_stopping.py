"""Experiment 2: early stopping.

Hypothesis: the weights of the best epoch generalise better than those of the last.
Reference: accuracy 0.770, F1 0.721 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp02_early_stopping.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("train.early_stopping",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp02_early_stopping"
    config.train.early_stopping = "restore_best"
    return config
