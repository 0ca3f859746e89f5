"""ResNet-18, fine-tuned with care: summed stem, frozen statistics, unfrozen from the end, slowly.

Hypothesis: the pretrained first filters, summed over colour, and statistics that stay what the weights expect are
worth more than a new stem; the last layers should learn, once the head knows what it wants.
Reference: none; beside configs/footprints/resnet18.py it shows what the care is worth.
Run: python launch.py train --config=configs/footprints/resnet18_proper.py --config.data.root=DIR
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
    config.name = "resnet18_proper"
    config.model.dense_features = ()
    config.model.name = "resnet18"
    config.model.weights = "resnet18"
    config.finetune.freeze_before = "head"
    config.finetune.unfreeze = (("layer4", 5), ("layer3", 15))
    config.finetune.backbone_rate = 0.1
    config.train.early_stopping = "restore_best"
    return config
