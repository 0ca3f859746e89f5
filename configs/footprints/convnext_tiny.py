"""ConvNeXt-Tiny, fine-tuned with care: summed stem, unfrozen from the end, slowly.

The reference names this family as the state of the art,
and tried three others.

Hypothesis: a modern convolutional network carries over better than ResNet-18.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/convnext_tiny.py --config.data.root=DIR
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
    config.name = "convnext_tiny"
    config.model.dense_features = ()
    config.model.name = "convnext_tiny"
    config.model.weights = "convnext_tiny"
    config.finetune.freeze_before = "head"
    config.finetune.unfreeze = (("stage4_0", 5), ("stage3_0", 15))
    config.finetune.backbone_rate = 0.1
    config.train.early_stopping = "restore_best"
    return config
