"""Transfer, the first thing to try: logistic regression on what several frozen stages see of an image.

Averages, standard deviations and covariances over space of four stages of EfficientNet-Lite0, of the image and its
mirror image, are standardised; the strength of the L2 penalty is chosen by cross-validation within the training images.

Hypothesis: a regression fitted to convergence on features of several depths is better than a layer trained by gradient
steps on the last ones, and takes seconds.
Reference: none. What the data give at once is what everything else has to beat.
Run: python launch.py study --configs 'configs/transfer/*.py' --baseline=probe --config.data.root=DIR
     (a folder per class; a CSV needs --config.data.source=csv and its columns, see configs/base.py)
"""

from ml_collections import ConfigDict

from configs import base

CHANGES = (
    "data.channels",
    "data.image_size",
    "data.source",
    "model.head",
    "model.name",
    "model.probe_pooling",
    "model.weights",
    "predict.flip",
)


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "probe"
    config.data.source = "folder"
    config.data.image_size = (224, 224)
    config.data.channels = 3
    config.model.name = "efficientnet_lite0"
    config.model.weights = "efficientnet_lite0"
    config.model.head = "probe"
    config.model.probe_pooling = "both"
    config.predict.flip = True
    return config
