"""Horses or humans: a tenth of the learning rate after two epochs without a better loss.

Hypothesis: smaller steps at the end find a better minimum than the same ones throughout.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_plateau.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("optim.plateau_factor", "optim.plateau_patience", "optim.schedule")


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_plateau"
    config.optim.schedule = "plateau"
    config.optim.plateau_factor = 0.1
    config.optim.plateau_patience = 2
    return config
