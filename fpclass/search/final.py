"""One network in place of many: the chosen config trained on every labelled image, beside the members of its folds."""

from __future__ import annotations

import numpy as np

from fpclass import files
from fpclass.console import Interruption
from fpclass.run.decisions.rule import FILE
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, describe_model
from fpclass.run.refit import final_config, is_refitted, refit_into
from fpclass.search.halving import judged_images
from fpclass.stats.decisions.rule import fit_rule
from fpclass.study.study import Study
from fpclass.train import checkpoints

FOLDER = "final"


def chosen_of(study: Study) -> str:
    """The config that has most weight in the ensemble of a study that is judged."""
    weights: dict[str, float] = files.read_object(study.path("ensemble.json"), weights=dict)["weights"]
    return max(weights, key=lambda name: weights[name])


def train_final(study: Study, name: str, prepared: Prepared, interruption: Interruption) -> Run | None:
    """Trains a config of a study on all labelled images, or goes on with it, into its folder `final`.

    Nothing is chosen: as many epochs as the best ones of the folds were, in the middle; of a probe the strength by an
    inner cross-validation, as in the folds. It is calibrated by what the folds' members say of images that they did not
    learn from, since there are none left for itself.

    Returns:
      None if it was interrupted.
    """
    members = study.members(name)
    epochs = [checkpoints.latest_step(member.run.path("checkpoints/best")) or 1 for member in members]
    config = final_config(members[0].run.config, max(round(float(np.median(epochs))), 1))
    run, divided = Run.create(study.folder / FOLDER, config), prepared.divided(config)
    if not is_refitted(run, prepared) and not refit_into(run, divided, interruption):
        return None
    images, log_probabilities = judged_images(study, name, range(study.num_splits))
    labels, judged_are = images["label"].to_numpy(np.int64), "out of fold" if study.num_folds else "of validation"
    fitted_on = f"the members of {name}, {len(labels)} images {judged_are}"
    settings = config.study
    rule = fit_rule(log_probabilities, labels, fitted_on, method=settings.calibration, cost=settings.cost)
    epoch = checkpoints.latest_step(run.path("checkpoints/best"))
    files.write_json(run.path(FILE), {"epoch": epoch, **rule.to_json()})
    files.write_json(run.path("model.json"), describe_model(prepared.table))
    run.write_csv("splits.csv", divided.splits.frame)
    return run
