"""AlexNet as the reference fine-tuned it: all frozen but a new 1-channel first convolution and a new last layer.

Its frozen hidden layers go on dropping out there, and here (it has no batch norm; the mode means both).

Hypothesis: features of photographs carry over to prints.
Reference: accuracy 0.756 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/alexnet.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = (
    "finetune.batch_norm",
    "finetune.freeze_before",
    "finetune.new_stem",
    "model.dense_features",
    "model.name",
    "model.weights",
    "train.early_stopping",
)


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "alexnet"
    config.model.dense_features = ()
    config.model.name = "alexnet"
    config.model.weights = "alexnet"
    config.finetune.freeze_before = "head"
    config.finetune.new_stem = True
    config.finetune.batch_norm = "train_all"
    config.train.early_stopping = "restore_best"
    return config
