"""Horses or humans: half of the features dropped, and an L2 penalty on the dense layer.

Hypothesis: the 9.5 million parameters memorise less, and the gap between training and validation closes.
Reference: names it among the improvements to come, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_regularised.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_cnn150

CHANGES = ("model.dense_l2", "model.dropout_rate")


def get_config() -> ConfigDict:
    config = horses_cnn150.get_config()
    config.name = "horses_regularised"
    config.model.dropout_rate = 0.5
    config.model.dense_l2 = 1e-3
    return config
