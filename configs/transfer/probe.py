"""Placeholder until the probe is merged."""

from configs.transfer.linear_probe import get_config as _get


def get_config():
    config = _get()
    config.data.image_size = (224, 224)
    config.finetune.cache_views = 1
    return config
