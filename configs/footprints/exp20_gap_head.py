"""Experiment 20: global average pooling.

Hypothesis: a head that sees channel means, not 7,344 positions, memorises less, and loses where things are.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp20_gap_head.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.head",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp20_gap_head"
    config.model.head = "gap"
    return config
