"""Vehicles or animals: EfficientNet-B0 in place of ResNet50V2, on the same images of 224 x 224.

Hypothesis: a sixth of the parameters is enough.
Reference: names it, and left it out for want of computing time.
Run: python launch.py train --config=configs/vehicles_animals/vehicles_efficientnet_b0.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.vehicles_animals import vehicles_resnet50v2

CHANGES = ("model.name", "model.weights")


def get_config() -> ConfigDict:
    config = vehicles_resnet50v2.get_config()
    config.name = "vehicles_efficientnet_b0"
    config.model.name = "efficientnet_b0"
    config.model.weights = "efficientnet_b0"
    return config
