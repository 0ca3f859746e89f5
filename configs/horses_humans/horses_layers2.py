"""Horses or humans: two convolutions in place of three.

Hypothesis: the third convolution, without which the dense layer is twice as large, is worth having.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_layers2.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("model.conv_features",)


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_layers2"
    config.model.conv_features = (16, 32)
    return config
