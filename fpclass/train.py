"""The training engine: a state, pure steps over it, and the loop that calls them.

An epoch is one jitted scan over batches that are gathered from the data set on the device. Every random number has an
address, key = f(seed, purpose, epoch, example), so a result depends neither on the order in which things run nor on
an interruption.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8

from fpclass.augment import make_augment, normalise
from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.optim import make_optimizer, make_plateau, make_schedule

PARAMS, ORDER, AUGMENT, DROPOUT = range(4)
"""Purposes of random numbers: the first part of their address."""
PADDING = -1
"""Row number that stands for "no example" in the last batch of an epoch."""
EVAL_BATCH = 256
SELECTION_METRICS = ("accuracy", "loss", "macro_f1")


@flax.struct.dataclass
class Dataset:
    """All images of a run, on the device."""

    images: UInt8[Array, "N H W C"]
    labels: Int[Array, " N"]


@flax.struct.dataclass
class Member:
    """What distinguishes one training from another of the same config: its seed and its rows.

    Attributes:
      seed: of initial weights, order, augmentation and dropout.
      train_rows: rows to train on, filled up with `PADDING` where members of different sizes train together.
      selection_rows: rows on which the best epoch is chosen; may be empty.
      validation_rows: rows that are watched, never used.
      class_weights: weight of an example in the loss by its class.
    """

    seed: Int[Array, ""]
    train_rows: Int[Array, " n"]
    selection_rows: Int[Array, " s"]
    validation_rows: Int[Array, " v"]
    class_weights: Float[Array, " K"]


@flax.struct.dataclass
class Best:
    """The weights of the best epoch so far by the selection metric, or of the last one where nothing is selected."""

    params: PyTree
    batch_stats: PyTree
    score: Float[Array, ""]
    epoch: Int[Array, ""]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; what a checkpoint holds and a resume restores."""

    step: Int[Array, ""]
    epoch: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    plateau: PyTree
    best: Best
    stale_evaluations: Int[Array, ""]
    is_stopped: Bool[Array, ""]


def address(seed: Int[Array, ""], purpose: int, *where: Int[Array, ""]) -> Key[Array, ""]:
    """The random key at an address: seed, purpose, then for example epoch and example."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    for part in where:
        key = jax.random.fold_in(key, part)
    return key


def epoch_batches(member: Member, epoch: Int[Array, ""], batch_size: int) -> Int[Array, "steps B"]:
    """Shuffles the training rows of an epoch into batches; `PADDING` comes last.

    Every row draws its own number, so a row's place relative to another does not depend on who else is there.
    """
    rows = member.train_rows
    key = address(member.seed, ORDER, epoch)
    draws = jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row)))(rows)
    _, _, rows = lax.sort((rows == PADDING, draws, rows), num_keys=2)
    return jnp.pad(rows, (0, -len(rows) % batch_size), constant_values=PADDING).reshape(-1, batch_size)


@dataclasses.dataclass(frozen=True)
class Engine:
    """The pure functions of one config, for any member of it.

    Attributes:
      init: (member, dataset) -> TrainState.
      train_epoch: (state, member, dataset) -> (state, record): record has loss, accuracy and step_loss [steps].
      evaluate_epoch: (state, member, dataset) -> (state, record): scores of the selection and validation rows; keeps
        the best weights and decides about stopping.
      predict: (params, batch_stats, images uint8 [N, H, W, C], rows [n]) -> logits [n, K].
      batch_size: examples per optimiser step.
    """

    init: Callable[[Member, Dataset], TrainState]
    train_epoch: Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]
    evaluate_epoch: Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]
    predict: Callable[[PyTree, PyTree, Array, Array], Array]
    batch_size: int


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, augment: Callable, label_smoothing: float
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """Makes `train_step(state, member, dataset, rows) -> (state, sums)`; rows [B] may end in `PADDING`."""

    def loss_fn(params: PyTree, state: TrainState, images: Array, labels: Array, weights: Array, seed: Array) -> Any:
        variables = {"params": params, "batch_stats": state.batch_stats}
        rngs = {"dropout": address(seed, DROPOUT, state.step)}
        logits, updated = model.apply(
            variables, images, train=True, mask=weights > 0, rngs=rngs, mutable=["batch_stats"]
        )
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
        losses = optax.softmax_cross_entropy(logits, targets)
        loss = jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-12)
        return loss, (logits, updated.get("batch_stats", {}))

    def train_step(
        state: TrainState, member: Member, dataset: Dataset, rows: Int[Array, " B"]
    ) -> tuple[TrainState, dict[str, Array]]:
        mask = rows != PADDING
        labels = dataset.labels[rows]
        key = address(member.seed, AUGMENT, state.epoch)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        images = jax.vmap(augment)(keys, dataset.images[rows])
        weights = mask * member.class_weights[labels]
        grads_of = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (logits, batch_stats)), grads = grads_of(state.params, state, images, labels, weights, member.seed)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: u * state.plateau.scale, updates)
        updated = (optax.apply_updates(state.params, updates), batch_stats, opt_state)
        # A batch of nothing but padding, where members of different sizes train together, changes nothing.
        before = (state.params, state.batch_stats, state.opt_state)
        params, batch_stats, opt_state = jax.tree.map(lambda new, old: jnp.where(mask[0], new, old), updated, before)
        state = dataclasses.replace(
            state, step=state.step + mask[0], params=params, batch_stats=batch_stats, opt_state=opt_state
        )
        correct = jnp.sum(mask * (jnp.argmax(logits, -1) == labels))
        return state, {"loss": loss, "weight": jnp.sum(weights), "correct": correct, "count": jnp.sum(mask)}

    return train_step


def scores_of(logits: Float[Array, "n K"], labels: Int[Array, " n"], mask: Bool[Array, " n"]) -> dict[str, Array]:
    """Accuracy, macro F1 and mean log-loss (nats) of the rows in `mask`, scalars; for choosing, not for reporting."""
    num_classes = logits.shape[-1]
    predicted = jax.nn.one_hot(jnp.argmax(logits, -1), num_classes)
    matrix = (jax.nn.one_hot(labels, num_classes) * mask[:, None]).T @ predicted
    f1 = 2 * jnp.diag(matrix) / jnp.maximum(matrix.sum(0) + matrix.sum(1), 1)
    count = jnp.maximum(jnp.sum(mask), 1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {
        "accuracy": jnp.trace(matrix) / count,
        "macro_f1": jnp.mean(f1),
        "loss": jnp.sum(jnp.where(mask, losses, 0)) / count,
    }


def make_engine(model: nn.Module, config: Config, num_train: int) -> Engine:
    """Builds the functions that train, evaluate and predict with one config.

    Args:
      model: the network.
      config: the whole config.
      num_train: training rows of a member; fixes the steps per epoch and with them the schedule.

    Raises:
      ConfigError: values of `train` or `optim` that do not exist.
    """
    train_config, data = config.train, config.data
    if train_config.selection_metric not in SELECTION_METRICS:
        raise ConfigError(
            f"train.selection_metric is {train_config.selection_metric!r}: expected {', '.join(SELECTION_METRICS)}"
        )
    if train_config.early_stopping not in ("none", "restore_best", "patience"):
        raise ConfigError(
            f"train.early_stopping is {train_config.early_stopping!r}: expected none, restore_best or patience"
        )
    steps_per_epoch = -(-num_train // train_config.batch_size)
    schedule = make_schedule(config.optim, steps_per_epoch, train_config.num_epochs)
    optimizer = make_optimizer(config.optim, schedule)
    plateau = make_plateau(config.optim)
    mean, std = data.mean, data.std
    augment = make_augment(config.augment, mean=mean, std=std)
    train_step = make_train_step(model, optimizer, augment, train_config.label_smoothing)

    def init(member: Member, dataset: Dataset) -> TrainState:
        images = jnp.zeros((1, *dataset.images.shape[1:]), jnp.float32)
        variables = model.init(address(member.seed, PARAMS), images, train=False)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        zero = jnp.zeros((), jnp.int32)
        return TrainState(
            step=zero,
            epoch=zero,
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            plateau=plateau.init(params),
            best=Best(jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, batch_stats), jnp.array(-jnp.inf), zero),
            stale_evaluations=zero,
            is_stopped=jnp.zeros((), bool),
        )

    def train_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        batches = epoch_batches(member, state.epoch, train_config.batch_size)
        state, sums = lax.scan(lambda s, rows: train_step(s, member, dataset, rows), state, batches)
        record = {
            "loss": jnp.sum(sums["loss"] * sums["weight"]) / jnp.sum(sums["weight"]),
            "accuracy": jnp.sum(sums["correct"]) / jnp.sum(sums["count"]),
            "step_loss": sums["loss"],
        }
        return dataclasses.replace(state, epoch=state.epoch + 1), record

    def predict(params: PyTree, batch_stats: PyTree, images: Array, rows: Int[Array, " n"]) -> Float[Array, "n K"]:
        def logits_of(rows: Array) -> Array:
            inputs = normalise(images[rows], mean, std)
            logits = model.apply({"params": params, "batch_stats": batch_stats}, inputs, train=False)
            return cast(Array, logits)

        size = min(EVAL_BATCH, max(len(rows), 1))
        padded = jnp.pad(rows, (0, -len(rows) % size)).reshape(-1, size)
        logits = lax.map(logits_of, padded)
        return logits.reshape(padded.size, logits.shape[-1])[: len(rows)]

    def evaluate_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        def score_rows(rows: Array) -> dict[str, Array]:
            logits = predict(state.params, state.batch_stats, dataset.images, rows)
            return scores_of(logits, dataset.labels[rows], rows != PADDING)

        record = {}
        for role, rows in (("validation", member.validation_rows), ("selection", member.selection_rows)):
            if len(rows):
                record |= {f"{role}_{name}": value for name, value in score_rows(rows).items()}
        score, is_better = jnp.array(jnp.nan), jnp.array(True)
        if train_config.early_stopping != "none":
            score = record[f"selection_{train_config.selection_metric}"]
            score = -score if train_config.selection_metric == "loss" else score
            is_better = score > state.best.score
        new = Best(state.params, state.batch_stats, score, state.epoch)
        best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), new, state.best)
        stale = jnp.where(is_better, 0, state.stale_evaluations + 1)
        lr_plateau = state.plateau
        if config.optim.schedule == "plateau":
            _, lr_plateau = plateau.update({}, state.plateau, value=record["selection_loss"])
        is_stopped = (train_config.early_stopping == "patience") & (stale >= train_config.patience)
        state = dataclasses.replace(
            state, best=best, stale_evaluations=stale, plateau=lr_plateau, is_stopped=is_stopped
        )
        return state, record

    return Engine(
        init=jax.jit(init),
        train_epoch=jax.jit(train_epoch, donate_argnums=0),
        evaluate_epoch=jax.jit(evaluate_epoch),
        predict=jax.jit(predict),
        batch_size=train_config.batch_size,
    )


def fit(
    engine: Engine,
    state: TrainState,
    member: Member,
    dataset: Dataset,
    train_config: Config,
    on_epoch: Callable[[TrainState, dict[str, Any]], bool],
) -> TrainState:
    """Trains from where `state` stands to the last epoch, an early stop, or until `on_epoch` returns False.

    Args:
      engine: functions of the config.
      state: fresh, or restored from a checkpoint.
      member: seed and rows.
      dataset: on the device.
      train_config: the section `train` of the config.
      on_epoch: gets the state and the record of each epoch (NumPy scalars; step_loss [steps]); says whether to go on.

    Returns:
      The state after the last epoch that ran.
    """
    every, num_epochs = train_config.eval_every_epochs, train_config.num_epochs
    epoch = int(state.epoch)
    is_stopped = bool(state.is_stopped)
    while epoch < num_epochs and not is_stopped:
        state, record = engine.train_epoch(state, member, dataset)
        epoch += 1
        record = {"epoch": epoch} | {f"train_{k}" if k != "step_loss" else k: v for k, v in record.items()}
        if epoch == 1 or epoch % every == 0 or epoch == num_epochs:
            state, scores = engine.evaluate_epoch(state, member, dataset)
            record |= scores
            is_stopped = bool(state.is_stopped)
        if not on_epoch(state, jax.device_get(record)):
            break
    return state


def balanced_class_weights(labels: Int[np.ndarray, " n"], num_classes: int) -> Float[np.ndarray, " K"]:
    """Weights n / (K n_k), so that every class weighs the same in the loss, float32 [K]."""
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * np.maximum(counts, 1))).astype(np.float32)
