"""Horses or humans: MobileNetV2 with its ImageNet weights, whole and frozen, in place of InceptionV3 up to mixed7.

Hypothesis: a network made for phones, of a quarter of the parameters, has features as good.
Reference: names it among the improvements to come, on 150 x 150 pixels, without a number.
Run: python launch.py train --config=configs/horses_humans/horses_mobilenet_v2.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.horses_humans import horses_inception

CHANGES = ("model.last_stage", "model.name", "model.weights")


def get_config() -> ConfigDict:
    config = horses_inception.get_config()
    config.name = "horses_mobilenet_v2"
    config.model.name = "mobilenet_v2"
    config.model.weights = "mobilenet_v2.v1"
    config.model.last_stage = ""
    return config
