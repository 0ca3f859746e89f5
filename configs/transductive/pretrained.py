"""Transductive: the small network learns from images alone first, rows to predict among them, then from labels.

SimCLR: two augmented crops of an image are to be told from those of other images. Each fold has its own pretraining,
which sees the fold's training images and the rows to predict, and never the images that judge it.

Hypothesis: where labels are few, and images unlike the photographs of published weights, images alone teach a network
what to look at.
Reference: Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations,
ICML 2020.
Run: python launch.py study --configs configs/from_scratch.py configs/transductive/pretrained.py --config.data.root=DIR
     (a CSV with rows to predict; its columns are named as in configs/base.py. A folder per class has none, and needs
     --config.data.source=folder: then it learns from the training images alone)
"""

from ml_collections import ConfigDict

from configs import from_scratch

CHANGES = ("unlabelled.pretrain_epochs",)


def get_config() -> ConfigDict:
    config = from_scratch.get_config()
    config.name = "pretrained"
    config.unlabelled.pretrain_epochs = 100
    return config
