"""EfficientNet-B0 as the reference fine-tuned it: frozen but a new 1-channel first convolution and a new classifier.

Batch norm of the frozen layers goes on updating its statistics there, and here.

Hypothesis: features of photographs carry over to prints.
Reference: accuracy 0.720 (one run, people shared between training and validation).
Run: python launch.py train --config=configs/footprints/efficientnet_b0.py --config.data.root=DIR
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
    config.name = "efficientnet_b0"
    config.model.dense_features = ()
    config.model.name = "efficientnet_b0"
    config.model.weights = "efficientnet_b0"
    config.finetune.freeze_before = "head"
    config.finetune.new_stem = True
    config.finetune.batch_norm = "train_all"
    config.train.early_stopping = "restore_best"
    return config
