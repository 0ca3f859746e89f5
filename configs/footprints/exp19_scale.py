"""Experiment 19: mild scale augmentation.

Hypothesis: physical size is signal in prints, so that varying it by a tenth costs accuracy.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp19_scale.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.fill_value", "augment.scale")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp19_scale"
    config.augment.fill_value = 1.0
    config.augment.scale = (0.9, 1.1)
    return config
