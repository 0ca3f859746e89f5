"""The demo: the final model (experiment 4) on the embedded SYNTHETIC footprints.

Run: python launch.py
"""

from ml_collections import ConfigDict

from configs.footprints import exp04_early_stopping_dropout

CHANGES = ("data.source",)


def get_config() -> ConfigDict:
    config = exp04_early_stopping_dropout.get_config()
    config.name = "demo"
    config.data.source = "synthetic"
    return config
