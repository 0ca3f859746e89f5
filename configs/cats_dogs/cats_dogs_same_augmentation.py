"""Cats or dogs: both classes augmented alike.

Hypothesis: augmenting cats more is worth nothing.
Reference: none, our own.
Run: python launch.py train --config=configs/cats_dogs/cats_dogs_same_augmentation.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.cats_dogs import cats_dogs_vgg16

CHANGES = ("augment.class_probability",)


def get_config() -> ConfigDict:
    config = cats_dogs_vgg16.get_config()
    config.name = "cats_dogs_same_augmentation"
    config.augment.class_probability = ()
    return config
