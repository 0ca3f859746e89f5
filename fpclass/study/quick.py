"""A first look at a study: the same configs on fewer folds, by one seed, in fewer epochs: minutes for hours.

What it finds is where to look, not a result: trainings are cut short, and by unequal shares of what they need.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.config import Config
from fpclass.study.study import Study

MAX_FOLDS = 3
SHORTER = 5
"""A training has one epoch of so many."""
ABOUT = f"a first look (--quick): one seed, at most {MAX_FOLDS} folds, one epoch of {SHORTER}; nothing to report"


def quick_look(study: Study) -> Study:
    """The same study with one seed, at most `MAX_FOLDS` folds, and every config `shortened`."""
    configs = {name: shortened(config) for name, config in study.configs.items()}
    num_folds = min(study.num_folds, MAX_FOLDS)
    return dataclasses.replace(study, configs=configs, num_folds=num_folds, num_seeds=1, is_quick=True)


def quick_share(study: Study) -> float:
    """The share of a study's trainings, in epochs, that `quick_look` leaves, about."""
    return max(min(study.num_folds, MAX_FOLDS), 1) / (study.num_splits * study.num_seeds * SHORTER)


def shortened(config: Config) -> Config:
    """A config with a fifth of the epochs, and of all that is counted in epochs; each at least 1, where it was."""
    short: Config = ConfigDict(config.to_dict())
    unfreeze, last = [], 0
    for stage, epochs in config.finetune.unfreeze:  # one after the other, as before
        last = max(_fewer(epochs), last + 1)
        unfreeze.append((stage, last))
    short.finetune.unfreeze = tuple(unfreeze)
    short.train.num_epochs = max(_fewer(config.train.num_epochs), last + 1)
    short.optim.warmup_epochs = min(_fewer(config.optim.warmup_epochs), short.train.num_epochs - 1)
    short.train.eval_every_epochs = _fewer(config.train.eval_every_epochs)
    short.unlabelled.pretrain_epochs = _fewer(config.unlabelled.pretrain_epochs)
    if config.train.early_stopping == "patience":
        short.train.patience = _fewer(config.train.patience)
    if config.optim.schedule == "plateau":
        short.optim.plateau_patience = _fewer(config.optim.plateau_patience)
    return experiment.check(short.lock())


def _fewer(epochs: int) -> int:
    return max(round(epochs / SHORTER), 1) if epochs else 0
