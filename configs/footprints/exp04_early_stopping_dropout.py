"""Experiment 4: dropout and early stopping together; the final model.

Hypothesis: dropout slows memorising, early stopping keeps the epoch before it wins.
Reference: accuracy 0.829, F1 0.816 (one run, people shared between training and validation); leaderboard 0.809.
Run: python launch.py train --config=configs/footprints/exp04_early_stopping_dropout.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.dropout_rate", "train.early_stopping")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp04_early_stopping_dropout"
    config.model.dropout_rate = 0.5
    config.train.early_stopping = "restore_best"
    return config
