"""Experiment 16: images of 240 x 160.

Hypothesis: twice the resolution shows detail that 120 x 80 blurs, for four times the time.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp16_large_input.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("data.image_size",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp16_large_input"
    config.data.image_size = (240, 160)
    return config
