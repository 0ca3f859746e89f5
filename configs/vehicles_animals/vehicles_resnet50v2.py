"""Vehicles or animals: ResNet50V2 with its ImageNet weights, frozen, on images enlarged to 224 x 224.

Hypothesis: what photographs teach is worth more than 32 x 32 pixels can.
Reference: validation accuracy about 0.98, in training 0.96 to 0.97; no test result.
Run: python launch.py train --config=configs/vehicles_animals/vehicles_resnet50v2.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs import base
from configs.vehicles_animals import vehicles_model1

CHANGES = (
    "data.image_size",
    "finetune.cache_views",
    "finetune.freeze_before",
    "model.batch_norm",
    "model.block_dropout_rate",
    "model.conv_features",
    "model.dense_features",
    "model.head",
    "model.name",
    "model.weights",
    "optim.learning_rate",
)


def get_config() -> ConfigDict:
    config = vehicles_model1.get_config()
    config.name = "vehicles_resnet50v2"
    config.data.image_size = (224, 224)
    config.model.name = "resnet50v2"
    config.model.weights = "resnet50v2.keras"
    config.model.conv_features = base.get_config().model.conv_features
    config.model.batch_norm = False
    config.model.block_dropout_rate = 0.0
    config.model.head = "gap"
    config.model.dense_features = (512, 256)
    config.finetune.freeze_before = "head"
    config.finetune.cache_views = 1
    config.optim.learning_rate = 1e-4
    return config
