"""Horses or humans: a fourth convolution, of 128 channels.

Hypothesis: one more convolution and pool see more of the image, with a third of the dense weights.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_layers4.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("model.conv_features",)


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_layers4"
    config.model.conv_features = (16, 32, 64, 128)
    return config
