"""Transfer with VGG-16: the head first, then its last three convolutions too, ten times slower.

Hypothesis: the last convolutions should fit the task, once the head knows what it wants of them.
Reference: cats and dogs, whose VGG-16 was retrained from ever earlier layers by hand.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import vgg16_probe

CHANGES = ("finetune.backbone_rate", "finetune.unfreeze")


def get_config() -> ConfigDict:
    config = vgg16_probe.get_config()
    config.name = "vgg16_gradual"
    config.finetune.unfreeze = (("block5", 3),)
    config.finetune.backbone_rate = 0.1
    return config
