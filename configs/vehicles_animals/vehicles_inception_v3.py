"""Vehicles or animals: InceptionV3 in place of ResNet50V2, on the same images of 224 x 224.

Hypothesis: branches of several kernel sizes see objects of several sizes.
Reference: names it, and left it out for want of computing time.
Run: python launch.py train --config=configs/vehicles_animals/vehicles_inception_v3.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.vehicles_animals import vehicles_resnet50v2

CHANGES = ("model.name", "model.weights")


def get_config() -> ConfigDict:
    config = vehicles_resnet50v2.get_config()
    config.name = "vehicles_inception_v3"
    config.model.name = "inception_v3"
    config.model.weights = "inception_v3.keras"
    return config
