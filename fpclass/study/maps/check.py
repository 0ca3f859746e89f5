"""Checks of the maps of a study's best config, each image by the member that never saw it."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from fpclass.common.console import say
from fpclass.explain.checks.checked import Checked, joined
from fpclass.run.checks.map_checks import bootstrap_of, check_images, write_checks
from fpclass.study.maps.members import data_of, draw_images, models_of
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble


def check_study(
    study: Study, methods: Sequence[str], num_images: int, masks: pathlib.Path | None = None
) -> dict[str, Any]:
    """Checks the maps of the config that weighs most in a study's ensemble, by its first seed; what the file holds.

    Raises:
      As `check_run`; RunError: the study is not finished, or a checkpoint is gone.
    """
    ensemble = ChosenEnsemble.read(study)
    name = max(ensemble.weights, key=lambda of: ensemble.weights[of])
    drawn = draw_images(study, [name], num_images)
    prepared, rows = data_of(study, name, drawn)
    parts: dict[str, list[Checked]] = {}
    for seed, fold, best in models_of(study, name, len(ensemble.classes)):
        own = rows[drawn.folds == fold]
        if seed == study.configs[name].seed and len(own):
            say(f"{name}, fold {fold + 1} of {study.num_splits}")
            for title, found in check_images(best, prepared, own, methods, masks).items():
                parts.setdefault(title, []).append(found)
    found = {title: joined(of_folds) for title, of_folds in parts.items()}
    cohort, settings = drawn.predictions.cohort.take(drawn.positions), study.configs[study.baseline]
    of = f"labelled images, each by the member of {name} that never saw it"
    return write_checks(study.folder, found, cohort, bootstrap_of(settings), of, prepared.note)
