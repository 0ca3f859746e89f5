"""Cats or dogs: VGG-16 with its ImageNet weights, frozen, and a dense layer on all of its last maps.

Images are shifted, sheared, zoomed, brightened and shifted in colour; cats always, dogs every other time, since the
reference found cats the harder class. What it does not say (strengths, learning rate) is ours.

Hypothesis: a few hundred photographs are enough for a new head.
Reference: its report names no figures; more cats are taken for dogs than dogs for cats. 198 images a class.
Run: python launch.py train --config=configs/cats_dogs/cats_dogs_vgg16.py --config.data.root=DIR
     one stage at a time: --until=ingest, prepare, train, evaluate; how many layers to freeze:
     python launch.py freeze-sweep --config=configs/cats_dogs/cats_dogs_vgg16.py --config.data.root=DIR
     --cuts head block5 block4 --folds=3 --config.data.image_size='(96,96)' --config.train.num_epochs=8
"""

from ml_collections import ConfigDict

from configs import base

CHANGES = (
    "augment.brightness_shift",
    "augment.class_probability",
    "augment.contrast",
    "augment.fill_mode",
    "augment.interpolation",
    "augment.max_rotation_deg",
    "augment.shear",
    "augment.translation",
    "augment.zoom",
    "data.channels",
    "data.image_size",
    "data.source",
    "finetune.cache_views",
    "finetune.freeze_before",
    "model.head",
    "model.name",
    "model.weights",
    "train.early_stopping",
    "train.num_epochs",
)


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cats_dogs_vgg16"
    config.data.source = "folder"
    config.data.image_size = (224, 224)
    config.data.channels = 3
    config.augment.contrast = 0.0
    config.augment.brightness_shift = 0.1  # a channel shift in the sense of Keras: one number for all channels
    config.augment.max_rotation_deg = 20.0
    config.augment.translation = (0.1, 0.1)
    config.augment.shear = (0.1, 0.1)
    config.augment.zoom = (0.2, 0.2)
    config.augment.fill_mode = "nearest"
    config.augment.interpolation = "bilinear"
    config.augment.class_probability = (1.0, 0.5)  # cats, dogs
    config.model.name = "vgg16"
    config.model.weights = "vgg16.keras_notop"
    config.model.head = "flatten"
    config.finetune.freeze_before = "head"
    config.finetune.cache_views = 4
    config.train.num_epochs = 20
    config.train.early_stopping = "restore_best"
    return config
