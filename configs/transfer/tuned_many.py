"""Transfer for many images: all of EfficientNet-Lite0 but its first stages learns, for two epochs.

Tens of thousands of images say more about themselves than the features of photographs do, and one look at each is
enough for that: the rate rises and falls once, weights are averaged at the end, and the published statistics of batch
norm stay. The first stages, which cost most and learn least, are frozen.

Hypothesis: beside a probe of the same network it halves the errors, in minutes where 50 epochs would take hours.
Reference: none.
Run: python launch.py study --configs configs/transfer/probe.py configs/transfer/tuned_many.py --config.data.root=DIR
     (a folder per class; a CSV needs --config.data.source=csv and its columns, see configs/base.py)
"""

from ml_collections import ConfigDict

from configs.transfer import linear_probe

CHANGES = (
    "augment.brightness",
    "augment.contrast",
    "augment.fill_mode",
    "augment.translation",
    "finetune.cache_views",
    "finetune.freeze_before",
    "optim.name",
    "optim.schedule",
    "optim.warmup_epochs",
    "optim.weight_decay",
    "predict.flip",
    "train.batch_size",
    "train.early_stopping",
    "train.ema_decay",
    "train.eval_every_epochs",
    "train.label_smoothing",
    "train.num_epochs",
)


def get_config() -> ConfigDict:
    config = linear_probe.get_config()
    config.name = "tuned_many"
    config.augment.brightness = 0.0
    config.augment.contrast = 0.0
    config.augment.translation = (0.06, 0.06)
    config.augment.fill_mode = "reflect"
    config.finetune.freeze_before = "block3"
    config.finetune.cache_views = 0
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.02
    config.optim.schedule = "linear"
    config.optim.warmup_epochs = 0.2
    config.predict.flip = True
    config.train.batch_size = 128
    config.train.num_epochs = 2
    config.train.early_stopping = "none"
    config.train.ema_decay = 0.99
    config.train.eval_every_epochs = 1
    config.train.label_smoothing = 0.1
    return config
