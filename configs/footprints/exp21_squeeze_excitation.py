"""Experiment 21: squeeze-and-excitation.

Hypothesis: weighing channels by the whole print adapts the filters to how much ink there is.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp21_squeeze_excitation.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.squeeze_excitation",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp21_squeeze_excitation"
    config.model.squeeze_excitation = 2
    return config
