"""Experiment 10: smaller dense layers and early stopping.

Hypothesis: fewer parameters, less to memorise with.
Reference: accuracy 0.777, F1 0.748 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp10_small_head.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.dense_features", "train.early_stopping")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp10_small_head"
    config.model.dense_features = (64, 32)
    config.train.early_stopping = "restore_best"
    return config
