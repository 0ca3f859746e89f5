r"""Experiment 8: random erasing, batch normalisation and early stopping.

Hypothesis: experiment 7 with the best epoch kept.
Reference: accuracy 0.775, F1 0.766 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp08_random_erasing_batch_norm_early_stopping.py \
  --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.erasing_probability", "model.batch_norm", "train.early_stopping")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp08_random_erasing_batch_norm_early_stopping"
    config.augment.erasing_probability = 0.4
    config.model.batch_norm = True
    config.train.early_stopping = "restore_best"
    return config
