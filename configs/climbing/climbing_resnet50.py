"""Climbing footwork: ResNet-50 with its ImageNet weights, frozen, and two dense layers; heel hook, toe hook or others.

306 photographs in three unequal classes. The widths of the dense layers are ours: the reference does not give them.

Hypothesis: of four backbones one suits photographs of feet on holds best.
Reference: macro F1 0.42, the best of its four (one run, one split).
Run: python launch.py train --config=configs/climbing/climbing_resnet50.py --config.data.root=DIR
     (DIR: a folder per class, as `launch.py collect` makes it)
"""

from ml_collections import ConfigDict

from configs import base

CHANGES = (
    "augment.brightness",
    "augment.contrast",
    "augment.fill_mode",
    "augment.height_width",
    "augment.interpolation",
    "augment.max_rotation_deg",
    "augment.vertical_flip_probability",
    "augment.zoom",
    "data.channels",
    "data.image_size",
    "data.interpolation",
    "data.source",
    "finetune.cache_views",
    "finetune.freeze_before",
    "model.dense_features",
    "model.dropout_rate",
    "model.head",
    "model.name",
    "model.weights",
    "optim.learning_rate",
    "study.metric",
    "train.class_weights",
    "train.early_stopping",
    "train.eval_every_epochs",
    "train.num_epochs",
    "train.patience",
    "train.selection_metric",
)


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "climbing_resnet50"
    config.data.source = "folder"
    config.data.image_size = (224, 224)
    config.data.channels = 3
    config.data.interpolation = "bilinear"
    config.augment.brightness = 0.0
    config.augment.contrast = 0.0
    config.augment.vertical_flip_probability = 0.5  # the mirror image with 0.5 is the default
    config.augment.max_rotation_deg = 72.0  # RandomRotation(0.2): 0.2 of a full turn, either way
    config.augment.zoom = (0.2,)
    config.augment.height_width = (0.2, 0.2)
    config.augment.fill_mode = "reflect"
    config.augment.interpolation = "bilinear"
    config.model.name = "resnet50"
    config.model.weights = "resnet50.v1"
    config.model.head = "gap"
    config.model.dense_features = (256, 128)
    config.model.dropout_rate = 0.2
    config.finetune.freeze_before = "head"
    config.finetune.cache_views = 8
    config.optim.learning_rate = 1e-5
    config.train.num_epochs = 100
    config.train.class_weights = "balanced"
    config.train.early_stopping = "patience"
    config.train.patience = 30
    config.train.eval_every_epochs = 1
    config.train.selection_metric = "macro_f1"
    config.study.metric = "macro_f1"
    return config
