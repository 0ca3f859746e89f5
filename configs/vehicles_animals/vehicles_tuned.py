"""Vehicles or animals: EfficientNet-Lite0 from its ImageNet weights, enlarged images, two epochs of all images.

Ten minutes of two cores. The size is a compromise: 96 pixels for one epoch take about as long, and were no better.

Hypothesis: what a million photographs taught makes up for the training that ten minutes cannot buy.
Reference: fine-tunes ResNet50V2 and InceptionV3 on a part of the images, 224 x 224.
Run: python launch.py train --config=configs/vehicles_animals/vehicles_tuned.py --config.data.root=DIR
     --config.train.num_devices=0
"""

from ml_collections import ConfigDict

from configs.transfer import tuned_many
from configs.vehicles_animals import vehicles_model1

CHANGES = ("data.image_size", "data.merge", "data.tfds_name", "model.subclasses")


def get_config() -> ConfigDict:
    config, of_vehicles = tuned_many.get_config(), vehicles_model1.get_config()
    config.name = "vehicles_tuned"
    config.data.tfds_name = of_vehicles.data.tfds_name
    config.data.merge = of_vehicles.data.merge
    config.data.image_size = (80, 80)
    config.model.subclasses = True
    return config
