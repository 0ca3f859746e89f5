"""How much of a pretrained network should learn: a study whose configs differ in how many stages are frozen."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common import files
from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.build import build_model
from fpclass.models.network import HEAD, Network, stages_before, variable_shapes
from fpclass.report.style import save_figure
from fpclass.run.prepare import note_of, read_model
from fpclass.stats.comparison.scores import resample_scores
from fpclass.stats.intervals import Bootstrap
from fpclass.study.figures import sweep_figure
from fpclass.study.out_of_fold import collect
from fpclass.study.plan import assemble
from fpclass.study.study import Study

METRICS = ("accuracy", "log_loss")


def plan_sweep(
    folder: pathlib.Path,
    config_path: str,
    overrides: Sequence[str],
    *,
    num_folds: int | None,
    num_seeds: int,
    cuts: Sequence[str] = (),
) -> Study:
    """Makes one config per cut point of an experiment, the one with everything frozen first.

    Args:
      config_path: of the experiment; what it says about freezing is replaced.
      num_folds: as `plan_study`.
      cuts: stages before which everything is frozen ("head": all); empty: before every stage that has weights. All
        train on the same views of every image, where the experiment caches any: behind frozen stages their features
        are computed once. Where nothing is frozen, or features are more than `finetune.cache_gb`, the views are
        computed in every step.

    Raises:
      ConfigError: a network without stages, a probe, or a stage that does not exist.
    """
    (config,) = experiment.load_configs([config_path], overrides)
    model = build_model(config.model, 2, config.data.image_size)
    if not isinstance(model, Network):
        raise ConfigError(f"model.name is {bare(config.model.name)!r}: it has no stages to freeze; give a backbone")
    if not experiment.is_trained(config):
        raise ConfigError("model.head is 'probe': all of it is frozen; give a config that trains, such as gradual.py")
    names = model.stage_names
    by_name: dict[str, Config] = {}
    stages = [*cuts] or [*_stages_with_weights(model, config), HEAD]
    frozen = {stage: stages_before([*names, HEAD], stage, "--cuts") for stage in stages}
    for stage, num_frozen in frozen.items():
        cut: Config = ConfigDict(config.to_dict())
        cut.name = f"{num_frozen:02d}-frozen-{'none' if not num_frozen else f'before-{stage}'}"
        cut.finetune.freeze_before, cut.finetune.num_frozen = stage if num_frozen else "", 0
        cut.finetune.unfreeze = ()
        cut.augment.fixed_views = config.finetune.cache_views  # or the curve would mix two effects
        cut.finetune.cache_views = config.finetune.cache_views if num_frozen else 0
        by_name[cut.name] = experiment.check(cut.lock())
    first = max(by_name)
    return assemble(folder, by_name, num_folds=num_folds, num_seeds=num_seeds, baseline=first, compare_splits=False)


def _stages_with_weights(model: Network, config: Config) -> list[str]:
    """A cut before a pool or a dropout is the same as one before the next stage that can learn."""
    shapes = variable_shapes(model, (*config.data.image_size, config.data.channels))
    return [name for name in model.stage_names if name in shapes["params"]]


def conclude_sweep(study: Study, failures: dict[str, str]) -> str:
    """Writes freeze_sweep.csv and its figure beside the tables of the study, and returns a line that says where."""
    trained = sorted(name for name in study.names if name not in failures)
    if not trained:
        return "no cut point could be trained"
    predictions = collect(study, trained)
    settings = study.configs[study.baseline]
    described = read_model(study.members(trained[0])[0].run)
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    rows = []
    for name in trained:
        row: dict[str, Any] = {
            "config": name,
            "num_frozen": int(name.partition("-")[0]),
            "freeze_before": study.configs[name].finetune.freeze_before,
        }
        for metric in METRICS:
            resampled = resample_scores(predictions.logits[name], predictions.cohort, metric, bootstrap)
            row |= {
                **resampled.score.mean.columns(metric),
                f"{metric}_members_low": float(np.nanmin(resampled.members)),
                f"{metric}_members_high": float(np.nanmax(resampled.members)),
            }
        rows.append(row)
    frame = pd.DataFrame(rows)
    files.write_csv(study.path("freeze_sweep.csv"), frame)
    weights = pathlib.Path(settings.model.weights).name or "random"
    title = f"{settings.model.name} with {weights} weights: what is frozen"
    figure = sweep_figure(
        frame, METRICS, title, confidence=bootstrap.confidence, note=note_of(described["is_synthetic"])
    )
    save_figure(figure, study.path("figures/freeze_sweep.png"))
    return f"written: {study.path('freeze_sweep.csv')}, {study.path('figures/freeze_sweep.png')}"
