"""A small network from random weights, for images of any kind where pretrained weights cannot be had.

Blocks of two 3x3 convolutions with batch norm, an average in place of dense layers, light augmentation, a learning rate
that falls, and an average of the weights, as in configs/footprints/exp24_all_useful.py, which beat its baseline. The
best epoch is that of the least loss.
Run: python launch.py train DIR --model=blocks
"""

from ml_collections import ConfigDict

from configs import base

CHANGES = (
    "augment.fill_mode",
    "augment.max_rotation_deg",
    "augment.translation",
    "augment.zoom",
    "data.channels",
    "data.image_size",
    "model.batch_norm",
    "model.conv_features",
    "model.name",
    "optim.name",
    "optim.schedule",
    "optim.weight_decay",
    "train.early_stopping",
    "train.ema_decay",
    "train.num_epochs",
    "train.selection_metric",
)


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "from_scratch"
    config.data.image_size = (96, 96)
    config.data.channels = 3
    config.model.name = "blocks"
    config.model.conv_features = (16, 32, 64, 128)
    config.model.batch_norm = True
    config.augment.max_rotation_deg = 10.0
    config.augment.translation = (0.1, 0.1)
    config.augment.zoom = (0.1,)
    config.augment.fill_mode = "reflect"
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05
    config.optim.schedule = "cosine"
    config.train.ema_decay = 0.99
    config.train.num_epochs = 60
    config.train.early_stopping = "restore_best"
    config.train.selection_metric = "loss"  # so that its probabilities can be believed, and are calibrated
    return config
