"""Transfer: all of EfficientNet-Lite0 is frozen, a head with a hidden layer and dropout learns.

Hypothesis: classes that are not linear in the features are found by a hidden layer.
Reference: none.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = ("model.dense_features", "model.dropout_rate", "model.head")


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "head_only"
    config.model.head = "gap"
    config.model.dense_features = (256,)
    config.model.dropout_rate = 0.5
    return config
