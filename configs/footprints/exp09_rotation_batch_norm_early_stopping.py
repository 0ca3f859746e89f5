r"""Experiment 9: small rotations, batch normalisation and early stopping.

Hypothesis: prints lie at slightly different angles; training on more of them makes the network indifferent to that.
Reference: accuracy 0.822, F1 0.806 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/exp09_rotation_batch_norm_early_stopping.py \
  --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("augment.max_rotation_deg", "model.batch_norm", "train.early_stopping")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp09_rotation_batch_norm_early_stopping"
    config.augment.max_rotation_deg = 10.0
    config.model.batch_norm = True
    config.train.early_stopping = "restore_best"
    return config
