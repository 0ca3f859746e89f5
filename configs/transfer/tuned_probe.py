"""Transfer: a probe first, then the later stages and its regression are trained together from there (LP-FT).

The head is right before the features begin to move, so that they are not pulled about by a random one. Rates fall from
stage to stage towards the image, the published statistics of batch norm stay, and the weights are averaged. The first
half of the network is frozen, and computed once for an image and four augmented views of it: half the time of an epoch
from block3 on, and no worse (docs/results.md).

Hypothesis: fine-tuning brings more than a probe where images are unlike the photographs that the weights were made on,
and loses nothing where they are alike.
Reference: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022.
Run: python launch.py study --configs configs/transfer/probe.py configs/transfer/tuned_probe.py --config.data.root=DIR
     (a folder per class; a CSV needs --config.data.source=csv and its columns, see configs/base.py)
"""

from ml_collections import ConfigDict

from configs.transfer import probe

CHANGES = (
    "augment.fixed_views",
    "finetune.backbone_rate",
    "finetune.cache_views",
    "finetune.freeze_before",
    "finetune.from_probe",
    "finetune.rate_decay",
    "model.probe_pooling",
    "model.probe_stages",
    "optim.learning_rate",
    "optim.name",
    "optim.schedule",
    "optim.weight_decay",
    "predict.flip",
    "train.ema_decay",
    "train.eval_every_epochs",
    "train.num_epochs",
)


def get_config() -> ConfigDict:
    config = probe.get_config()
    config.name = "tuned_probe"
    config.model.probe_pooling = "moments"
    config.model.probe_stages = ("block3", "block5", "top")
    config.finetune.from_probe = True
    config.finetune.freeze_before = "block4"
    config.finetune.cache_views = 4
    config.augment.fixed_views = 4  # where they are too large to be kept, they are the same views
    config.finetune.backbone_rate = 0.3
    config.finetune.rate_decay = 0.9
    config.optim.name = "adamw"
    config.optim.learning_rate = 3e-4
    config.optim.weight_decay = 0.01
    config.optim.schedule = "cosine"
    config.train.num_epochs = 8
    config.train.ema_decay = 0.99
    config.train.eval_every_epochs = 1
    config.predict.flip = False  # of the mirror image no features are kept
    return config
