"""Experiment 22: the aspect ratio kept.

Hypothesis: length over width is signal in prints, so that ignoring the aspect ratio costs accuracy.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp22_keep_aspect_ratio.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("data.resize",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp22_keep_aspect_ratio"
    config.data.resize = "pad"
    return config
