"""Experiment 14: CutMix.

Hypothesis: a print with a box of another one in it has to be recognised by several of its parts.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp14_cutmix.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.cutmix_alpha",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp14_cutmix"
    config.augment.cutmix_alpha = 1.0
    return config
