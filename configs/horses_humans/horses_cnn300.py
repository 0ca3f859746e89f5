"""Horses or humans: the same network on all 300 x 300 pixels.

Hypothesis: four times the pixels and parameters buy little.
Reference: about 0.88 in validation, about 30 s an epoch, 38 million parameters (these layers have 40,165,409).
Run: python launch.py train --config=configs/horses_humans/horses_cnn300.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("data.image_size",)


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_cnn300"
    config.data.image_size = (300, 300)
    return config
