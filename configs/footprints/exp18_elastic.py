"""Experiment 18: elastic deformation.

Hypothesis: skin gives way: a print deformed by a pixel or two of 120 x 80 is still that person's.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp18_elastic.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.elastic_alpha_px", "augment.fill_value")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp18_elastic"
    config.augment.elastic_alpha_px = 1.5
    config.augment.fill_value = 1.0
    return config
