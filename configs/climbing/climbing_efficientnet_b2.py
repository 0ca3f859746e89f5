"""Climbing footwork: EfficientNet-B2 in place of ResNet-50.

Hypothesis: the best of the four on ImageNet is the best here.
Reference: macro F1 below the 0.42 of ResNet-50 (one run, one split).
Run: python launch.py train --config=configs/climbing/climbing_efficientnet_b2.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.climbing import climbing_resnet50

CHANGES = ("model.name", "model.weights")


def get_config() -> ConfigDict:
    config = climbing_resnet50.get_config()
    config.name = "climbing_efficientnet_b2"
    config.model.name = "efficientnet_b2"
    config.model.weights = "efficientnet_b2"
    return config
