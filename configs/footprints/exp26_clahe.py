"""Experiment 26: contrast equalised part by part (CLAHE).

Hypothesis: faint and heavy prints differ by the ink, not by the foot; what is pale shows as much as what is black.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp26_clahe.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("data.equalise",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp26_clahe"
    config.data.equalise = "clahe"
    return config
