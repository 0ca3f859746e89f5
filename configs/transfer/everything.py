"""Transfer: all of EfficientNet-Lite0 learns from the start, at one rate.

Hypothesis: with few images it forgets more than it learns; with many it is the best of all.
Reference: none.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=linear_probe --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = ("finetune.cache_views", "finetune.freeze_before", "optim.learning_rate")


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "everything"
    config.finetune.freeze_before = ""
    config.finetune.cache_views = 0
    config.optim.learning_rate = 3e-4
    return config
