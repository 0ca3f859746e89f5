"""Transductive: a probe that labels rows to predict where it is sure, and is fitted again to these labels too.

How sure it is says a temperature fitted out of fold; a person's images get one label. Rows of people who have labelled
images are left out, so that who is judged is never learnt from.

Hypothesis: with few labelled images, and many without, made-up labels bring more than their errors cost.
Reference: Scudder, Probability of Error of Some Adaptive Pattern-Recognition Machines, IEEE Transactions on Information
Theory 11 (1965); with confidence thresholds, Lee, Pseudo-Label, ICML 2013 workshop.
Run: python launch.py study --configs configs/transfer/probe.py configs/transductive/self_trained.py --baseline=probe \
     --config.data.source=csv --config.data.root=DIR
     (a CSV with rows to predict; its columns are named as in configs/base.py)
"""

from ml_collections import ConfigDict

from configs.transfer import probe

CHANGES = (
    "data.source",
    "unlabelled.confidence",
    "unlabelled.self_training",
)


def get_config() -> ConfigDict:
    config = probe.get_config()
    config.name = "self_trained"
    config.data.source = "csv"
    config.unlabelled.self_training = "people"
    config.unlabelled.confidence = 0.8
    return config
