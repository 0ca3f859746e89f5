"""One network in place of many: trained on every labelled image, for as long as the members of the folds were."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from fpclass.common import files
from fpclass.common.console import Interruption
from fpclass.experiment import training_differences
from fpclass.run.best import BestModel
from fpclass.run.decisions.rule import FILE, read_rule
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, describe_model
from fpclass.run.refit import final_config, is_refitted, refit_into
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.probabilities.ensembling import LogProbabilities
from fpclass.study.study import Study, StudyMember
from fpclass.study.test_set import collect_labelled_test, combine
from fpclass.train import checkpoints


def train_on_all(
    folder: pathlib.Path,
    members: Sequence[StudyMember],
    prepared: Prepared,
    interruption: Interruption,
    targets: Float[np.ndarray, "N K"] | None = None,
) -> Run | None:
    """Trains the config of some members on all labelled images, or goes on with it.

    Nothing is chosen: as many epochs as the best ones of the members were, in the middle; of a probe the strength by an
    inner cross-validation, as in the folds.

    Args:
      folder: what becomes of it; another config in it gives way.
      targets: probabilities to learn in place of the labels, as `Member.targets`.

    Returns:
      None if it was interrupted.
    """
    epochs = [checkpoints.latest_step(member.run.path("checkpoints/best")) or 1 for member in members]
    config = final_config(members[0].run.config, max(round(float(np.median(epochs))), 1))
    if (folder / "config.json").is_file() and training_differences(Run.open(folder).config, config):
        shutil.rmtree(folder)  # another way was the best, by fewer of them
    run, divided = Run.create(folder, config), prepared.divided(config)
    if not is_refitted(run, prepared) and not refit_into(run, divided, interruption, targets):
        return None
    files.write_json(run.path("model.json"), describe_model(prepared.table))
    run.write_csv("splits.csv", divided.splits.frame)
    return run


def write_rule(run: Run, rule: DecisionRule) -> None:
    """Writes the calibration and thresholds of a network that has no images left to fit them on, as of its weights."""
    epoch = checkpoints.latest_step(run.path("checkpoints/best"))
    files.write_json(run.path(FILE), {"epoch": epoch, **rule.to_json()})


def on_test_images(
    study: Study, run: Run, prepared: Prepared
) -> tuple[LogProbabilities, LogProbabilities, Cohort] | None:
    """What a study's ensemble, and one network with its rule, say of labelled test images, both calibrated [N, K].

    None where there are no such images.
    """
    record = files.read_object(study.path("ensemble.json"), weights=dict, average=str, class_names=list)
    aside = collect_labelled_test(study, record["weights"], record["class_names"])
    if aside is None:
        return None
    _, ensemble = combine(aside.logits, study.num_splits, record, DecisionRule.from_json(record, "ensemble.json"))
    best = BestModel(run, prepared.table.num_classes)
    rows = pd.Series(np.arange(len(prepared.table)), index=prepared.table.rows["filename"])
    logits = best.predict(prepared.images, rows.loc[aside.filenames].to_numpy(np.int32))
    final = np.asarray(read_rule(best, prepared.table.num_classes).calibration.apply(logits), np.float64)
    return ensemble, final, aside.cohort
