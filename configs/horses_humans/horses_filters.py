"""Horses or humans: twice the filters in each of the three convolutions.

Hypothesis: more filters find more, at twice the parameters.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_filters.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("model.conv_features",)


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_filters"
    config.model.conv_features = (32, 64, 128)
    return config
