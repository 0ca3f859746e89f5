"""Vehicles or animals, model 1 with a softmax over two outputs in place of one sigmoid.

Hypothesis: none: the two are the same function, with twice the parameters in the last layer.
Reference: none, our own.
Run: python launch.py train --config=configs/vehicles_animals/vehicles_softmax.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.vehicles_animals import vehicles_model1

CHANGES = ("model.output",)


def get_config() -> ConfigDict:
    config = vehicles_model1.get_config()
    config.name = "vehicles_softmax"
    config.model.output = "softmax"
    return config
