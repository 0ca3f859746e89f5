"""Experiment 3: batch normalisation after the first dense layer.

Hypothesis: normalised activations train more steadily.
Reference: accuracy 0.702, F1 0.629 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp03_batch_norm.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("model.batch_norm",)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp03_batch_norm"
    config.model.batch_norm = True
    return config
