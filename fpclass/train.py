"""The training engine: a state, pure steps over it, and the loop that calls them.

An epoch is one jitted scan over batches that are gathered from the data set on the device. Every random number has an
address, key = f(seed, purpose, epoch, example), so a result depends neither on the order in which things run nor on
an interruption.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8

from fpclass.augment import make_augment
from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.inference import Predict, make_predict, scores_of
from fpclass.mixing import make_mixing
from fpclass.optim import make_optimizer, make_plateau, make_schedule
from fpclass.parallel import fetch

PARAMS, ORDER, AUGMENT, DROPOUT, MIXING = range(5)
"""Purposes of random numbers: the first part of their address."""
PADDING = -1
"""Row number that stands for "no example" in the last batch of an epoch."""
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
    """The weights of the best epoch so far by the selection metric, or of the last one where nothing is selected.

    Where a moving average of the weights is kept (`train.ema_decay`), they are those of the average.
    """

    params: PyTree
    batch_stats: PyTree
    score: Float[Array, ""]
    epoch: Int[Array, ""]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; what a checkpoint holds and a resume restores.

    `average` is the moving average of params and batch_stats, empty where none is kept. A state that `is_stopped`
    no longer changes: its member waits for the others of its company.
    """

    step: Int[Array, ""]
    epoch: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    plateau: PyTree
    average: PyTree
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
      train_epoch: (state, member, dataset) -> (state, record): record has loss, accuracy and step_loss [steps], all
        nan for a member that has stopped.
      evaluate_epoch: (state, member, dataset) -> (state, record): scores of the selection and validation rows; keeps
        the best weights and decides about stopping.
      predict: as `make_predict` says.
      batch_size: examples per optimiser step.
    """

    init: Callable[[Member, Dataset], TrainState]
    train_epoch: Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]
    evaluate_epoch: Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]
    predict: Predict
    batch_size: int


def make_train_step(
    model: nn.Module, config: Config, shard: Callable[[Array], Array]
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """Makes `train_step(state, member, dataset, rows) -> (state, sums)`; rows [B] may end in `PADDING`.

    Args:
      model: the network.
      config: the whole config.
      shard: spreads the first axis of a batch over devices; the identity where there is one.
    """
    optimizer = make_optimizer(config.optim)
    schedule = make_schedule(config.optim, config.train.num_epochs)
    augment = make_augment(config.augment, mean=config.data.mean, std=config.data.std)
    mix = make_mixing(config.augment)

    def loss_fn(params: PyTree, state: TrainState, images: Array, targets: Array, weights: Array, seed: Array) -> Any:
        variables = {"params": params, "batch_stats": state.batch_stats}
        rngs = {"dropout": address(seed, DROPOUT, state.step)}
        logits, updated = model.apply(
            variables, images, train=True, mask=weights > 0, rngs=rngs, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy(logits, targets)
        loss = jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-12)
        return loss, (logits, updated.get("batch_stats", {}))

    def draw_batch(
        state: TrainState, member: Member, dataset: Dataset, rows: Int[Array, " B"]
    ) -> tuple[Float[Array, "B h w c"], Float[Array, "B K"]]:
        key = address(member.seed, AUGMENT, state.epoch)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        images = jax.vmap(augment)(keys, shard(dataset.images[rows]))
        targets = jax.nn.one_hot(dataset.labels[rows], len(member.class_weights))
        targets = optax.smooth_labels(targets, config.train.label_smoothing)
        if mix:
            images, targets = mix(address(member.seed, MIXING, state.step), images, targets, rows != PADDING)
        return images, targets

    def train_step(
        state: TrainState, member: Member, dataset: Dataset, rows: Int[Array, " B"]
    ) -> tuple[TrainState, dict[str, Array]]:
        mask, labels = rows != PADDING, dataset.labels[rows]
        images, targets = draw_batch(state, member, dataset, rows)
        weights = mask * member.class_weights[labels]
        grads_of = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (logits, batch_stats)), grads = grads_of(state.params, state, images, targets, weights, member.seed)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        steps_per_epoch = -(-jnp.sum(member.train_rows != PADDING) // len(rows))
        rate = schedule(state.step / steps_per_epoch) * state.plateau.scale
        params = optax.apply_updates(state.params, jax.tree.map(lambda update: -rate * update, updates))
        average = _moving_average(config.train.ema_decay, state, (params, batch_stats))
        # A batch of nothing but padding, where members of different sizes train together, changes nothing.
        updated = (params, batch_stats, opt_state, average)
        before = (state.params, state.batch_stats, state.opt_state, state.average)
        params, batch_stats, opt_state, average = _select(mask[0], updated, before)
        state = dataclasses.replace(
            state,
            step=state.step + mask[0],
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            average=average,
        )
        correct = jnp.sum(mask * (jnp.argmax(logits, -1) == labels))
        loss = jnp.where(mask[0], loss, 0)  # of nothing but padding it may be anything
        return state, {"loss": loss, "weight": jnp.sum(weights), "correct": correct, "count": jnp.sum(mask)}

    return train_step


def _moving_average(decay: float, state: TrainState, weights: PyTree) -> PyTree:
    """The exponential moving average of the weights after this step; () where none is kept.

    The decay rises to its value over the first steps, (1 + t) / (10 + t), so that the average does not remember the
    initial weights. Source: tf.train.ExponentialMovingAverage(num_updates).
    """
    if not decay:
        return ()
    rising = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: rising * old + (1 - rising) * new, state.average, weights)


def _select(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def make_engine(model: nn.Module, config: Config, batch_mesh: jax.sharding.Mesh | None = None) -> Engine:
    """Builds the functions that train, evaluate and predict with one config.

    Args:
      model: the network.
      config: the whole config.
      batch_mesh: devices that share every batch, a mesh with the one axis "batch"; None: one device.

    Raises:
      ConfigError: values of `train` or `optim` that do not exist.
    """
    _check_choices(config.train)

    def shard(batch: Array) -> Array:
        if batch_mesh is None:
            return batch
        spread = jax.sharding.NamedSharding(batch_mesh, jax.sharding.PartitionSpec("batch"))
        return lax.with_sharding_constraint(batch, spread)

    predict = make_predict(model, config)
    return Engine(
        init=jax.jit(make_init(model, config)),
        train_epoch=jax.jit(make_train_epoch(make_train_step(model, config, shard), config), donate_argnums=0),
        evaluate_epoch=jax.jit(make_evaluate_epoch(predict, config)),
        predict=jax.jit(predict),
        batch_size=config.train.batch_size,
    )


def make_init(model: nn.Module, config: Config) -> Callable[[Member, Dataset], TrainState]:
    """Makes `Engine.init`."""
    optimizer, plateau = make_optimizer(config.optim), make_plateau(config.optim)

    def copied(tree: PyTree) -> PyTree:  # donated buffers must not appear twice
        return jax.tree.map(jnp.copy, tree)

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
            average=copied((params, batch_stats)) if config.train.ema_decay else (),
            best=Best(copied(params), copied(batch_stats), jnp.array(-jnp.inf, jnp.float32), zero),
            stale_evaluations=zero,
            # A member without rows only fills up a company: it has stopped before it began.
            is_stopped=jnp.all(member.train_rows == PADDING),
        )

    return init


def make_train_epoch(
    train_step: Callable[..., tuple[TrainState, dict[str, Array]]], config: Config
) -> Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]:
    """Makes `Engine.train_epoch`: one scan over the batches of an epoch."""

    def train_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        batches = epoch_batches(member, state.epoch, config.train.batch_size)

        def train(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            state, sums = lax.scan(lambda s, rows: train_step(s, member, dataset, rows), state, batches)
            record = {
                "loss": jnp.sum(sums["loss"] * sums["weight"]) / jnp.sum(sums["weight"]),
                "accuracy": jnp.sum(sums["correct"]) / jnp.sum(sums["count"]),
                "step_loss": sums["loss"],
            }
            return dataclasses.replace(state, epoch=state.epoch + 1), record

        def wait(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            nothing = jnp.array(jnp.nan)
            return state, {"loss": nothing, "accuracy": nothing, "step_loss": jnp.full(len(batches), jnp.nan)}

        return lax.cond(state.is_stopped, wait, train, state)

    return train_epoch


def make_evaluate_epoch(
    predict: Predict, config: Config
) -> Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]:
    """Makes `Engine.evaluate_epoch`: scores, the best weights, the plateau and the early stop."""
    train_config, plateau = config.train, make_plateau(config.optim)

    def evaluate_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        params, batch_stats = state.average if train_config.ema_decay else (state.params, state.batch_stats)

        def score_rows(rows: Array) -> dict[str, Array]:
            logits = predict(params, batch_stats, dataset.images, rows)
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
        best = _select(is_better, Best(params, batch_stats, score, state.epoch), state.best)
        stale = jnp.where(is_better, 0, state.stale_evaluations + 1)
        lr_plateau = state.plateau
        if config.optim.schedule == "plateau":
            _, lr_plateau = plateau.update({}, state.plateau, value=record["selection_loss"])
        is_stopped = (train_config.early_stopping == "patience") & (stale >= train_config.patience)
        evaluated = dataclasses.replace(
            state, best=best, stale_evaluations=stale, plateau=lr_plateau, is_stopped=is_stopped
        )
        return _select(state.is_stopped, state, evaluated), record

    return evaluate_epoch


def _check_choices(train_config: Config) -> None:
    metric, stopping = train_config.selection_metric, train_config.early_stopping
    if metric not in SELECTION_METRICS:
        raise ConfigError(f"train.selection_metric is {metric!r}: expected {', '.join(SELECTION_METRICS)}")
    if stopping not in ("none", "restore_best", "patience"):
        raise ConfigError(f"train.early_stopping is {stopping!r}: expected none, restore_best or patience")


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
      engine: functions of the config; those of a company train all of its members, of which state, member and
        records then have one more axis in front.
      state: fresh, or restored from a checkpoint.
      member: seed and rows.
      dataset: on the device.
      train_config: the section `train` of the config.
      on_epoch: gets the state and the record of each epoch (NumPy scalars; step_loss [steps]); says whether to go on.

    Returns:
      The state after the last epoch that ran.
    """
    every, num_epochs = train_config.eval_every_epochs, train_config.num_epochs
    epoch, is_stopped = epochs_passed(state), have_all_stopped(state)
    while epoch < num_epochs and not is_stopped:
        state, record = engine.train_epoch(state, member, dataset)
        epoch += 1
        record = {"epoch": epoch} | {f"train_{k}" if k != "step_loss" else k: v for k, v in record.items()}
        if epoch == 1 or epoch % every == 0 or epoch == num_epochs:
            state, scores = engine.evaluate_epoch(state, member, dataset)
            record |= scores
            is_stopped = have_all_stopped(state)
        if not on_epoch(state, fetch(record)):
            break
    return state


def epochs_passed(state: TrainState) -> int:
    """Epochs that a member, or the longest-running member of a company, has behind it."""
    return int(np.max(fetch(state.epoch)))


def have_all_stopped(state: TrainState) -> bool:
    """Whether a member, or every member of a company, has stopped early."""
    return bool(np.all(fetch(state.is_stopped)))
