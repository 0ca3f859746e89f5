"""AlexNet, fine-tuned with care: summed stem, unfrozen from the end, slowly.

Hypothesis: the pretrained first filters, summed over colour, are worth more than a new stem; the last layers should
learn, once the head knows what it wants.
Reference: none; beside configs/footprints/alexnet.py it shows what the care is worth.
Run: python launch.py train --config=configs/footprints/alexnet_proper.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = (
    "finetune.backbone_rate",
    "finetune.freeze_before",
    "finetune.unfreeze",
    "model.dense_features",
    "model.name",
    "model.weights",
    "train.early_stopping",
)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "alexnet_proper"
    config.model.dense_features = ()
    config.model.name = "alexnet"
    config.model.weights = "alexnet"
    config.finetune.freeze_before = "head"
    config.finetune.unfreeze = (("dropout6", 5), ("conv5", 15))
    config.finetune.backbone_rate = 0.1
    config.train.early_stopping = "restore_best"
    return config
