"""Horses or humans: stopped after three epochs without a better accuracy, the best epoch kept.

Hypothesis: the network overfits from its fifth to seventh epoch on, so that the epochs after that cost, not gain.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_early_stopping.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("train.early_stopping", "train.patience")


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_early_stopping"
    config.train.early_stopping = "patience"
    config.train.patience = 3
    return config
