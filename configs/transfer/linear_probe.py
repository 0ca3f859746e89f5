"""Transfer, the least of it: all of EfficientNet-Lite0 is frozen, a linear layer on its last features learns.

Hypothesis: the features of a network that has seen a million photographs tell the classes apart already.
Reference: none. What frozen features alone are worth is what everything else here has to beat.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
     (a folder per class; a CSV needs --config.data.source=csv and its columns, see configs/base.py)
"""

from ml_collections import ConfigDict

from configs import base

CHANGES = (
    "data.channels",
    "data.image_size",
    "data.source",
    "finetune.cache_views",
    "finetune.freeze_before",
    "model.name",
    "model.weights",
    "train.early_stopping",
    "train.num_epochs",
)


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "linear_probe"
    config.data.source = "folder"
    config.data.image_size = (224, 224)
    config.data.channels = 3
    config.model.name = "efficientnet_lite0"
    config.model.weights = "efficientnet_lite0"
    config.finetune.freeze_before = "head"
    config.finetune.cache_views = 1
    config.train.num_epochs = 30
    config.train.early_stopping = "restore_best"
    return config
