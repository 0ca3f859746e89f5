"""ViT-B/16, fine-tuned with care: summed stem, unfrozen from the end, slowly.

Images are of 128 x 80 pixels, since its patches are 16 x 16. The reference names this family as the state of the art,
and tried three others.

Hypothesis: attention over the whole print sees how its parts lie to each other.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/vit_b_16.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = (
    "data.image_size",
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
    config.name = "vit_b_16"
    config.data.image_size = (128, 80)  # its patches are 16 x 16
    config.model.dense_features = ()
    config.model.name = "vit_b_16"
    config.model.weights = "vit_b_16.v1"
    config.finetune.freeze_before = "head"
    config.finetune.unfreeze = (("block_10", 5), ("block_8", 15))
    config.finetune.backbone_rate = 0.1
    config.train.early_stopping = "restore_best"
    return config
