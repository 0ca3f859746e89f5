"""Swin-T, fine-tuned with care: summed stem, unfrozen from the end, slowly.

The reference names this family as the state of the art,
and tried three others.

Hypothesis: attention within windows sees how the parts of a print lie to each other.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/swin_t.py --config.data.root=DIR
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
    config.name = "swin_t"
    config.model.dense_features = ()
    config.model.name = "swin_t"
    config.model.weights = "swin_t"
    config.finetune.freeze_before = "head"
    config.finetune.unfreeze = (("stage4_0", 5), ("stage3_0", 15))
    config.finetune.backbone_rate = 0.1
    config.train.early_stopping = "restore_best"
    return config
