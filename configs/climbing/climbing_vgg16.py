"""Climbing footwork: VGG-16 in place of ResNet-50.

Hypothesis: plain convolutions, without batch norm, are enough.
Reference: macro F1 below the 0.42 of ResNet-50 (one run, one split).
Run: python launch.py train --config=configs/climbing/climbing_vgg16.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.climbing import climbing_resnet50

CHANGES = ("model.name", "model.weights")


def get_config() -> ConfigDict:
    config = climbing_resnet50.get_config()
    config.name = "climbing_vgg16"
    config.model.name = "vgg16"
    config.model.weights = "vgg16.features"
    return config
