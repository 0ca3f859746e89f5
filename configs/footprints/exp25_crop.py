"""Experiment 25: cropped to the print.

Hypothesis: where a print lies on the paper says nothing about a person; its size is lost, detail gained.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp25_crop.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("data.crop",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp25_crop"
    config.data.crop = "foreground"
    return config
