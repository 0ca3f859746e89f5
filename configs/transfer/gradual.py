"""Transfer: the head first, then from the end ever more of EfficientNet-Lite0, each stage slower than the next.

The stem and the first blocks, where edges and textures are found, stay frozen; their features are computed once.

Hypothesis: what lies deep in the network should fit the task, once the head knows what it wants of it.
Reference: the recipe is that of Howard and Ruder, ULMFiT, ACL 2018: gradual unfreezing and discriminative rates.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = ("finetune.backbone_rate", "finetune.rate_decay", "finetune.unfreeze")


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "gradual"
    config.finetune.unfreeze = (("block7", 3), ("block6", 6), ("block5", 9))
    config.finetune.backbone_rate = 0.3
    config.finetune.rate_decay = 0.9
    return config
