"""Fits probes where other configs are trained: each becomes a run folder like any other."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fpclass.common.console import Interrupted, Interruption, duration
from fpclass.common.parallel import agree, is_first_process
from fpclass.config import Config
from fpclass.data.splits import VALIDATION, rows_without_label
from fpclass.experiment import POOLED
from fpclass.models.network import HEAD, Network
from fpclass.models.probe import ProbeHead
from fpclass.run.folder import Run
from fpclass.run.log import Log
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared
from fpclass.train import checkpoints
from fpclass.train.checkpoints import digest
from fpclass.train.contrastive import pretrain_once
from fpclass.train.inputs.feature_cache import features_dir
from fpclass.train.keys import PARAMS, address
from fpclass.train.memory import told_in_one_line
from fpclass.train.predict import make_views, scores_of
from fpclass.train.probes.features import pooled_features, without_head
from fpclass.train.probes.fit import Probe, logits_of
from fpclass.train.probes.self_training import ProbeData
from fpclass.train.state import Member, rows_of
from fpclass.train.task import build_network, pretrained_variables, subclass_labels
from fpclass.train.trained import Variables

INNER = "inner_predictions.csv"
"""Logits of training images, out of fold in the inner cross-validation that chose the strength: for `held_out`."""
PRETRAINED = "checkpoints/pretrained"
"""Of a run folder: weights of pretraining without labels, which is not done again after an interruption."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A probe that was fitted, and written into its run folder.

    Attributes:
      logits: of every row of the table, float32; 0 of those in quarantine.
      num_made_up: rows to predict with labels that it has made up; None without self-training.
    """

    probe: Probe
    logits: Float[np.ndarray, "N K"]
    seconds: float
    num_made_up: int | None = None

    def __str__(self) -> str:
        trial = self.probe.best
        found = f"C={trial.strength:g}"
        if self.num_made_up is not None:
            found = f"with labels that it made up for {self.num_made_up:,} rows to predict, {found}"
        if not self.probe.num_parts:
            return f"probe: {found}, the usual one: a class has too few people to choose one; {duration(self.seconds)}"
        weigh = "stages weigh the same" if trial.balance else "features weigh the same"
        judged, num_parts = self.probe.num_judged, self.probe.num_parts
        parts = f"{num_parts} parts" if judged == num_parts else f"{num_parts} parts, {judged} of them judged"
        return (
            f"probe: {found}, {weigh}: the best of {len(self.probe.trials)} by an inner cross-validation in "
            f"{parts} (log loss {trial.loss:.3f}, accuracy {trial.accuracy:.3f}); "
            f"{duration(self.seconds)}"
        )


def fit_probes(
    of_each: Sequence[tuple[Run, Prepared, Member]], config: Config, interruption: Interruption
) -> Iterator[Fitted]:
    """Fits probes of one config one after the other, until asked to stop, and writes each into its run folder.

    Args:
      of_each: run folder, data with their roles, seed and rows; all of the same table and images.
      config: theirs, but for fold and seed.

    Raises:
      WeightsError: the weights cannot be had, or do not fit.
      DataError: training images of one class only.
      RunError: a folder cannot be written to.
    """
    probes = probes_with_variables(of_each, config, interruption)
    for (run, prepared, member), (fitted, variables) in zip(of_each, probes, strict=False):
        if is_first_process():
            _write(run, prepared, rows_of(member), fitted, variables)
        yield fitted


def probes_with_variables(
    of_each: Sequence[tuple[Run, Prepared, Member]], config: Config, interruption: Interruption
) -> Iterator[tuple[Fitted, dict[str, Any]]]:
    """Probes, as `fit_probes`, with the variables of the network that they read; nothing is written of them.

    Random weights, and those that were pretrained without labels, differ from member to member, and so do features.
    """
    table = of_each[0][1].table
    network: Any = build_network(config, table.num_classes)
    pretrained, sublabels = pretrained_variables(config, network), subclass_labels(config, table)
    for run, prepared, member in of_each:
        if agree(np.array(bool(interruption.signal_number)), any_process=True):
            return
        variables = pretrained or _random_variables(network, config, member)
        try:
            if config.unlabelled.pretrain_epochs:
                variables = start_without_labels(run, prepared, member, config, network, variables)
            features = features_of_all(prepared, network, variables, config)
        except Interrupted:
            return
        began = time.perf_counter()
        data = ProbeData(
            network,
            features,
            table.labels,
            prepared.splits.frame["unit"].to_numpy(str),
            table.rows["group"].to_numpy(str),
            table.copy_mask,
            np.asarray(member.class_weights),
            sublabels,
        )
        probe, num_made_up = _fit(data, prepared, member, config)
        logits = logits_of(network.head, probe.params, features)
        yield Fitted(probe, logits, time.perf_counter() - began, num_made_up), variables


def _fit(data: ProbeData, prepared: Prepared, member: Member, config: Config) -> tuple[Probe, int | None]:
    """The probe of a member, and how many labels it has made up for itself; None where it makes up none."""
    known, seed = rows_of(member), f"{int(member.seed)}"
    probe, way = data.fit(known, seed), config.unlabelled.self_training
    if way == "none":
        return probe, None
    unknown = rows_without_label(prepared.table)
    made_up = data.make_up(probe, known, unknown, way, config.unlabelled.confidence)
    return data.fit(known, seed, made_up), made_up.num_images


def start_without_labels(
    run: Run, prepared: Prepared, member: Member, config: Config, network: Network, variables: Variables
) -> Variables:
    """The weights of a network's stages, from the given ones, after `unlabelled.pretrain_epochs`; of its head none.

    It sees the training images of the member, and rows to predict that are of nobody and no image with a label.

    Raises:
      As `train.contrastive.pretrain_once`.
    """
    stages: Any = without_head({kind: variables.get(kind, {}) for kind in ("params", "batch_stats")})
    rows = np.sort(np.concatenate([rows_of(member), rows_without_label(prepared.table)]))
    headless, folder = network.clone(head=None), run.path(PRETRAINED)
    return pretrain_once(folder, headless, stages, prepared.images, rows, config, int(member.seed))


def features_of_all(
    prepared: Prepared, network: Network, variables: dict[str, Any], config: Config
) -> Float[np.ndarray, "N d"]:
    """What a probe reads of every row, float32: computed once for all that is done with the prepared data.

    Those of published weights are kept on disk too, for later starts and other studies.
    """
    settings = (config.model.to_dict(), config.data.mean, config.data.std, config.predict.flip, config.predict.shift_px)
    key = f"{settings} {digest(without_head(variables))}"
    if key not in prepared.features:
        folder = features_dir() if keeps_features(config) else None
        with told_in_one_line(config):
            prepared.features[key] = pooled_features(prepared.images, network, variables, config, folder)
    return prepared.features[key]


def keeps_features(config: Config) -> bool:
    """Whether features are worth being kept on disk: nobody draws the same random weights again."""
    return bool(config.model.weights)


def describe_probe(config: Config, prepared: Prepared) -> str:
    """One line about what a probe reads."""
    network: Any = build_network(config, prepared.table.num_classes)
    head: ProbeHead = network.head
    weights = f"weights {config.model.weights}" if config.model.weights else "random weights"
    num_views = len(make_views(config.predict))
    views = f", mean of {num_views} views" if num_views > 1 else ""
    return f"probe: {config.model.name}, {weights}, {POOLED[head.pooling]} of {', '.join(head.stages)}{views}"


def _random_variables(network: Network, config: Config, member: Member) -> dict[str, Any]:
    image = jnp.zeros((1, *config.data.image_size, config.data.channels), jnp.float32)
    variables = jax.jit(partial(network.init, train=False))(address(jnp.asarray(member.seed), PARAMS), image)
    return {kind: dict(variables.get(kind, {})) for kind in ("params", "batch_stats")}


def _write(run: Run, prepared: Prepared, rows: np.ndarray, fitted: Fitted, variables: dict[str, Any]) -> None:
    """Writes log, out-of-fold predictions and, last, the weights."""
    probe, table, splits = fitted.probe, prepared.table, prepared.splits
    run.truncate_history(0)
    with Log([run]) as log:
        for line in _history(fitted, prepared, rows):
            log({0: line}, fitted.seconds / len(probe.trials), is_batched=False)
    inner = Predictions.make(table, splits, rows[probe.inner], probe.inner_logits, f"seed-{run.config.seed}")
    run.write_csv(INNER, inner.frame)
    params = {**variables["params"], HEAD: probe.params}
    weights = {"params": params, "batch_stats": variables.get("batch_stats", {})}
    shutil.rmtree(run.path("checkpoints/best"), ignore_errors=True)
    checkpoints.save(run.path("checkpoints/best"), probe.chosen + 1, weights)


def _history(fitted: Fitted, prepared: Prepared, rows: np.ndarray) -> list[dict[str, Any]]:
    """A line for each strength that was tried, in place of epochs; that of the chosen one has all scores."""
    lines = []
    for number, trial in enumerate(fitted.probe.trials, start=1):
        scores = {"strength": trial.strength, "balance": trial.balance}
        if fitted.probe.num_parts:
            scores |= {"selection_loss": trial.loss, "selection_accuracy": trial.accuracy}
        if number == fitted.probe.chosen + 1:
            for role, taken in (("train", rows), ("validation", prepared.splits.rows(VALIDATION))):
                of_role = scores_of(
                    jnp.asarray(fitted.logits[taken]),
                    jnp.asarray(prepared.table.labels[taken]),
                    jnp.ones(len(taken), bool),
                )
                scores |= {f"{role}_{name}": float(of_role[name]) for name in ("loss", "accuracy")}
        lines.append({"epoch": number, **scores})
    return lines
