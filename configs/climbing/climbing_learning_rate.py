"""Climbing footwork: ResNet-50 with a hundred times the learning rate of the reference.

Hypothesis: at 1e-5 two new dense layers learn next to nothing in a hundred epochs of ten batches.
Reference: none, our own; its rate of 1e-5 reached a macro F1 of 0.42.
Run: python launch.py train --config=configs/climbing/climbing_learning_rate.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.climbing import climbing_resnet50

CHANGES = ("optim.learning_rate",)


def get_config() -> ConfigDict:
    config = climbing_resnet50.get_config()
    config.name = "climbing_learning_rate"
    config.optim.learning_rate = 1e-3
    return config
