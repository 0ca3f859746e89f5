"""Experiment 7: random erasing and batch normalisation.

Hypothesis: batch normalisation helps once augmentation keeps it from memorising.
Reference: accuracy 0.779, F1 0.740 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp07_random_erasing_batch_norm.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.erasing_probability", "model.batch_norm")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp07_random_erasing_batch_norm"
    config.augment.erasing_probability = 0.4
    config.model.batch_norm = True
    return config
