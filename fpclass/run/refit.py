"""The final model: the network of a run trained once more, on every labelled image, for what is handed in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from fpclass.common import files
from fpclass.common.console import Interruption, interruptible, say
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TRAIN, VALIDATION
from fpclass.errors import RunError
from fpclass.experiment import is_trained
from fpclass.run import train as trainer
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.train.state import Member

FOLDER = "refit"
"""Name of the run folder of the final model, in that of the run."""
NOTE = "NOTE.txt"
"""Written when the final model is done."""


def refit(best: BestModel, prepared: Prepared) -> BestModel:
    """Trains on the training, selection and validation images of a run together, or goes on with it.

    Nothing is chosen any more: as many epochs as the best one of the run has (a learning rate that falls, falls within
    them), and for a probe a strength from an inner cross-validation of all images. How good it is nobody measures; the
    run has what the same training is worth with fewer images.

    Raises:
      RunError: it was interrupted: the same command goes on.
    """
    run = Run.create(best.run.folder / FOLDER, final_config(best.run.config, best.epoch))
    if not is_refitted(run, prepared):
        with interruptible() as interruption:
            if not refit_into(run, prepared, interruption):
                raise RunError(f"stopped; the refit is in {run.folder}, and the same command goes on from there")
    return best.of_member(run)


def is_refitted(run: Run, prepared: Prepared) -> bool:
    """Whether a run folder holds a network that was trained on all labelled images of these data.

    Raises:
      RunError: it was trained on others.
    """
    if not run.path(NOTE).is_file():
        return False
    check_same_data(run, prepared)
    return True


def refit_into(
    run: Run, prepared: Prepared, interruption: Interruption, targets: Float[np.ndarray, "N K"] | None = None
) -> bool:
    """Trains on all labelled images of a split, or goes on with it; whether it came to its end.

    Args:
      targets: probabilities to learn in place of the labels, as `Member.targets`.

    Raises:
      RunError: the folder cannot be written to.
    """
    made: Any = dataclasses.replace(trainer.make_member(run.config, prepared), targets=targets)
    member = on_all_images(made, prepared)
    num_images = len(np.asarray(member.train_rows))
    epochs = f", {run.config.train.num_epochs} epochs" if is_trained(run.config) else ""
    say(f"refit: once more on all {num_images:,} labelled images{epochs}; its scores are of images it learns from")
    with run.lock():
        if not trainer.train(run, prepared, interruption, member):
            return False
    note = f"Trained on all {num_images} labelled images: scores in here are of images that it learnt from.\n"
    files.write_text(run.path(NOTE), note)
    return True


def final_config(chosen: Config, epoch: int) -> Config:
    """A config without anything to choose, for as many epochs as were best."""
    config: Any = ConfigDict(chosen.to_dict())
    if is_trained(config) and config.train.early_stopping != "none":
        config.train.early_stopping = "none"
        if not config.finetune.unfreeze:  # whose epochs are counted from the start
            config.train.num_epochs = epoch
            config.optim.warmup_epochs = min(config.optim.warmup_epochs, epoch - 1.0)
    return config.lock()


def on_all_images(member: Member, prepared: Prepared) -> Member:
    """The member with the images that chose and judged it among those it learns from."""
    rows: Any = np.concatenate([prepared.splits.rows(role) for role in (TRAIN, SELECTION, VALIDATION)])
    return dataclasses.replace(member, train_rows=np.sort(rows), selection_rows=rows[:0])
