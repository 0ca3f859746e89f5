"""What members start from beside random and published weights: pretrained without labels, or with a probe fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fpclass.common.console import Interrupted, Interruption, say
from fpclass.config import Config
from fpclass.models.network import HEAD
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared
from fpclass.run.probe import probes_with_variables, start_without_labels
from fpclass.train.placement import Placement
from fpclass.train.probes.features import without_head
from fpclass.train.state import Member, TrainState
from fpclass.train.trained import Variables

OfEach = Sequence[tuple[Run, Prepared, Member]]
"""Run folder, data with their roles, seed and rows of each member; all of the same table and images."""


def has_start(config: Config) -> bool:
    """Whether there is anything to be done before the first step of a training."""
    return bool(config.finetune.from_probe or config.unlabelled.pretrain_epochs)


def begin(
    placement: Placement, of_each: OfEach, config: Config, fresh: TrainState, interruption: Interruption
) -> TrainState | None:
    """A fresh state with what its members start from.

    With `unlabelled.pretrain_epochs` their stages are those that were pretrained without labels; with
    `finetune.from_probe` their heads are probes that were fitted to each member's training rows: LP-FT.

    Source: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022:
    a head that is right before the features move does not pull them about.

    Returns:
      None if it was interrupted.

    Raises:
      As `run.probe.fit_probes`.
    """
    engine = placement.engine
    host = engine.to_host(fresh, len(of_each))
    if config.finetune.from_probe:
        starts = _with_probes(of_each, config, interruption)
    else:
        starts = _pretrained(placement, of_each, config, engine.split((host.params, host.batch_stats), len(of_each)))
    if len(starts) < len(of_each):
        return None
    params, statistics = (engine.join([start[kind] for start in starts]) for kind in ("params", "batch_stats"))
    average, best = host.average, host.best
    if average:
        average = {**average[0], **params}, {**average[1], **statistics}
    best = dataclasses.replace(best, params={**best.params, **params}, batch_stats={**best.batch_stats, **statistics})
    begun = dataclasses.replace(
        host,
        params={**host.params, **params},
        batch_stats={**host.batch_stats, **statistics},
        average=average,
        best=best,
    )
    return engine.to_devices(begun, fresh)


def _with_probes(of_each: OfEach, config: Config, interruption: Interruption) -> list[Variables]:
    """The heads of members, and their stages where these are neither random nor published; of fewer, if interrupted."""
    starts = []
    for fitted, variables in probes_with_variables(of_each, config, interruption):
        say(str(fitted))
        stages = without_head(variables) if config.unlabelled.pretrain_epochs else {}
        start = {kind: stages.get(kind, {}) for kind in ("params", "batch_stats")}
        start["params"] = {**start["params"], HEAD: fitted.probe.params}
        starts.append(start)
    return starts


def _pretrained(placement: Placement, of_each: OfEach, config: Config, drawn: Sequence[Any]) -> list[Variables]:
    """The stages of members, pretrained from those that they drew; of fewer, if interrupted."""
    network: Any = placement.task.model
    starts = []
    for (run, prepared, member), (params, statistics) in zip(of_each, drawn, strict=True):
        variables = {"params": params, "batch_stats": statistics}
        try:
            starts.append(start_without_labels(run, prepared, member, config, network, variables))
        except Interrupted:
            break
    return starts
