"""Transfer, the least of it, with VGG-16: the convolutions are frozen, a linear layer on their averages learns.

Hypothesis: the older, ten times larger network gives features as good as those of EfficientNet-Lite0.
Reference: none.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = ("model.head", "model.name", "model.weights")


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "vgg16_probe"
    config.model.name = "vgg16"
    config.model.weights = "vgg16.keras_notop"
    config.model.head = "gap"
    return config
