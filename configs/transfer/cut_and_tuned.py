"""Transfer: EfficientNet-Lite0 cut off behind its fifth group of blocks, of which that group learns after the head.

Hypothesis: where photographs of things are far away (prints, textures, tissue), what lies deep in the network is about
the wrong things; the middle of it, fitted a little, says more than all of it, frozen.
Reference: none.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = (
    "finetune.backbone_rate",
    "finetune.cache_views",
    "finetune.unfreeze",
    "model.dropout_rate",
    "model.head",
    "model.last_stage",
    "optim.name",
    "optim.schedule",
    "optim.weight_decay",
    "train.early_stopping",
    "train.ema_decay",
    "train.num_epochs",
)


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "cut_and_tuned"
    config.model.last_stage = "block5"
    config.model.head = "gap"
    config.model.dropout_rate = 0.3
    config.finetune.unfreeze = (("block5", 4),)
    config.finetune.backbone_rate = 0.3
    config.finetune.cache_views = 6
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05
    config.optim.schedule = "cosine"
    config.train.early_stopping = "none"
    config.train.ema_decay = 0.99
    config.train.num_epochs = 20
    return config
