"""Cats or dogs: EfficientNet-Lite0 in place of VGG-16, on the average of its last maps.

Hypothesis: a network of a thirtieth of the parameters does as well.
Reference: none, our own.
Run: python launch.py train --config=configs/cats_dogs/cats_dogs_lite0.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.cats_dogs import cats_dogs_vgg16

CHANGES = ("data.image_size", "model.head", "model.name", "model.weights")


def get_config() -> ConfigDict:
    config = cats_dogs_vgg16.get_config()
    config.name = "cats_dogs_lite0"
    config.data.image_size = (128, 128)
    config.model.name = "efficientnet_lite0"
    config.model.weights = "efficientnet_lite0"
    config.model.head = "gap"
    return config
