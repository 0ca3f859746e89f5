"""Horses or humans: kernels of 5 x 5 in place of 3 x 3.

Hypothesis: the first layers need to see more of the image at once.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_kernel5.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("model.kernel_size",)


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_kernel5"
    config.model.kernel_size = 5
    return config
