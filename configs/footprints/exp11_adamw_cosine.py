"""Experiment 11: AdamW with warm-up and a cosine schedule.

Hypothesis: a learning rate that falls to 0 and decoupled weight decay do better than Adam at a constant rate.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp11_adamw_cosine.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("optim.name", "optim.schedule", "optim.warmup_epochs", "optim.weight_decay")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp11_adamw_cosine"
    config.optim.name = "adamw"
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 3.0
    config.optim.weight_decay = 0.05
    return config
