"""Footprints, baseline: a small CNN, 50 epochs, the last epoch kept.

Hypothesis: a compact CNN of 894,306 parameters learns sex from a print of 120 x 80 pixels.
Reference: accuracy 0.760, F1 0.737 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/baseline.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "baseline"
    config.data.label_column = "SEX"
    config.data.group_column = "ID"
    config.data.classes = ("0", "1")
    config.model.dense_features = (120, 84)
    return config
