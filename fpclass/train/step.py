"""The training step: a pure function, for any network, any part of it that learns, and any member."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from fpclass.augment.mixing import make_mixing
from fpclass.config import Config, subclass_counts
from fpclass.models.build import has_matrix_form
from fpclass.models.convolution import divided_over
from fpclass.models.layers import merge_logits
from fpclass.train.finetune import Plan, batch_norm_mode, compute_in, dense_penalty, divide, model_of_phase, unite
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.keys import DROPOUT, MIXING, address
from fpclass.train.optim import clip_gradients, learning_rate, make_optimizer, norm_biases
from fpclass.train.state import PADDING, Dataset, Inputs, Member, TrainState, select

IMAGES_IN_CACHE = (8, 7, 6, 5, 4)
"""Images of a part of a batch on a CPU, the first that divides it. Chosen: 32 in parts of 8 take 0.83 to 0.90 of the
time that they take at once, less than in parts of 16 or 4 (ResNet-18 and -50, Lite0, at 128 x 128)."""
TrainStep = Callable[[TrainState, Member, Dataset, Hyperparameters, Array], tuple[TrainState, dict[str, Array]]]


def make_train_step(model: nn.Module, config: Config, inputs: Inputs, plan: Plan, phase: int) -> TrainStep:
    """Makes `train_step(state, member, dataset, hyper, rows) -> (state, sums)`; rows [B] may end in `PADDING`.

    Only what learns in this phase of the plan is differentiated: the backward pass ends where frozen stages begin.
    """
    gradients_of = make_gradients(model_of_phase(model, config, plan, phase), config, inputs)
    draw_batch, subclasses = make_draw_batch(config, inputs), subclass_counts(config)

    def train_step(
        state: TrainState, member: Member, dataset: Dataset, hyper: Hyperparameters, rows: Int[Array, " B"]
    ) -> tuple[TrainState, dict[str, Array]]:
        optimizer = make_optimizer(config.optim, hyper)
        mask, labels = rows != PADDING, dataset.labels[rows]
        images, targets = draw_batch(state, member, dataset, hyper, rows)
        weights = mask * member.class_weights[labels]
        groups, resting = divide(state.params, plan, phase)
        batch = (images, targets, weights)
        loss, logits, batch_stats, gradients = gradients_of(groups, resting, state, *batch, member, hyper)
        gradients = clip_gradients(gradients, config.optim, hyper)
        steps_per_epoch = -(-jnp.sum(member.train_rows != PADDING) // len(rows))
        rate = learning_rate(config.optim, hyper, state.step / steps_per_epoch) * state.plateau.scale
        opt_state, rates = list(state.opt_state), plan.rates(state.params)
        rates |= {path: rates[path] * config.optim.norm_bias_rate for path in norm_biases(state.batch_stats)}
        for i, group in enumerate(groups):
            updates, opt_state[i] = optimizer.update(gradients[i], opt_state[i], group)
            groups[i] = {p: x - rate * rates[p] * updates[p] for p, x in group.items()}  # pyright: ignore
        params = unite(groups, resting)
        average = _moving_average(hyper.ema_decay, state, (params, batch_stats)) if config.train.ema_decay else ()
        # A batch of nothing but padding, where members of different sizes train together, changes nothing.
        updated = (params, batch_stats, tuple(opt_state), average)
        before = (state.params, state.batch_stats, state.opt_state, state.average)
        params, batch_stats, opt_state, average = select(mask[0], updated, before)
        state = dataclasses.replace(
            state,
            step=state.step + mask[0],
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            average=average,
        )
        logits = merge_logits(logits, subclasses)
        predicted = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1]) * mask[:, None]
        correct = predicted * jax.nn.one_hot(labels, logits.shape[-1])
        loss = jnp.where(mask[0], loss, 0)  # of nothing but padding it may be anything
        by_class = {"correct": correct.sum(axis=0), "predicted": predicted.sum(axis=0)}
        return state, {"loss": loss, "weight": jnp.sum(weights), **by_class}

    return train_step


def make_draw_batch(config: Config, inputs: Inputs) -> Callable[..., tuple[Array, Float[Array, "B K"]]]:
    """Makes `draw_batch(state, member, dataset, hyper, rows) -> (inputs, targets)`: augmented and mixed."""
    mix, subclasses = make_mixing(config.augment), subclass_counts(config)

    def draw_batch(
        state: TrainState, member: Member, dataset: Dataset, hyper: Hyperparameters, rows: Int[Array, " B"]
    ) -> tuple[Array, Float[Array, "B K"]]:
        images = inputs.draw(member, state.epoch, dataset, rows)
        if member.targets is not None:
            targets = member.targets[rows]
        elif dataset.sublabels is None:
            targets = jax.nn.one_hot(dataset.labels[rows], len(member.class_weights))
        else:
            targets = jax.nn.one_hot(dataset.sublabels[rows], sum(subclasses))
        if config.train.label_smoothing:
            targets = optax.smooth_labels(targets, hyper.label_smoothing)
        if mix:
            images, targets = mix(address(member.seed, MIXING, state.step), images, targets, rows != PADDING)
        return images, targets

    return draw_batch


def make_gradients(
    model: nn.Module, config: Config, inputs: Inputs
) -> Callable[..., tuple[Array, Array, PyTree, list[Any]]]:
    """Makes `gradients_of(groups, resting, state, images, targets, weights, member, hyper)`.

    It returns the loss, the logits [B, K], the updated batch statistics, and the gradients of the groups. With
    `train.accumulate` the batch goes through the network in so many parts, one after the other, whose gradients add
    up to those of the whole; batch norm in mode "train" then normalises each part by itself. On a CPU a batch goes in
    small parts anyway, where no batch norm asks for all of it: see `parts_in_cache`.
    """
    dtype = config.model.compute_dtype
    hidden_dense = getattr(model, "hidden_dense", ())

    def loss_fn(
        groups: list[Any], resting: Any, batch_stats: PyTree, images: Array, targets: Array, weights: Array,
        total: Array, hyper: Hyperparameters, key: Array, num_parts: int,
    ) -> Any:  # fmt: skip
        params = compute_in(unite(groups, resting), dtype)
        logits, updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            compute_in(images, dtype),
            train=True,
            mask=weights > 0,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        logits = logits.astype(jnp.float32)
        loss = jnp.sum(optax.softmax_cross_entropy(logits, targets) * weights) / jnp.maximum(total, 1e-12)
        if config.model.dense_l2:
            loss += dense_penalty(groups, hidden_dense, hyper.dense_l2) / num_parts
        return loss, (logits, updated.get("batch_stats", {}))

    def differentiate(*args: Any) -> Any:
        with divided_over(inputs.num_devices):
            return jax.value_and_grad(loss_fn, has_aux=True)(*args)

    def gradients_of(
        groups: list[Any], resting: Any, state: TrainState, images: Array, targets: Array, weights: Array,
        member: Member, hyper: Hyperparameters,
    ) -> tuple[Array, Array, PyTree, list[Any]]:  # fmt: skip
        total, key = jnp.sum(weights), address(member.seed, DROPOUT, state.step)
        has_batch_norm = bool(jax.tree.leaves(state.batch_stats))
        num_parts = max(config.train.accumulate, parts_in_cache(model, config, inputs, len(images), has_batch_norm))
        if num_parts == 1:
            batch = (images, targets, weights, total, hyper, key, 1)
            (loss, (logits, batch_stats)), gradients = differentiate(groups, resting, state.batch_stats, *batch)
            return loss, logits, batch_stats, gradients

        def one_part(carry: Any, part: Any) -> Any:
            batch_stats, loss, gradients = carry
            (i, *batch) = part
            own = map(inputs.shard, batch)  # or every device would compute the whole part
            of_part = (jax.random.fold_in(key, i), num_parts)
            result = differentiate(groups, resting, batch_stats, *own, total, hyper, *of_part)
            (part_loss, (logits, batch_stats)), part_gradients = result
            return (batch_stats, loss + part_loss, jax.tree.map(jnp.add, gradients, part_gradients)), logits

        parts = [x.reshape(num_parts, -1, *x.shape[1:]) for x in (images, targets, weights)]
        nothing = (state.batch_stats, jnp.zeros(()), jax.tree.map(jnp.zeros_like, groups))
        carry, logits = lax.scan(one_part, nothing, (jnp.arange(num_parts), *parts))
        batch_stats, loss, gradients = carry
        return loss, logits.reshape(-1, logits.shape[-1]), batch_stats, gradients

    return gradients_of


def parts_in_cache(model: nn.Module, config: Config, inputs: Inputs, batch_size: int, has_batch_norm: bool) -> int:
    """In how many parts a batch goes through a network on a CPU, whose cache does not hold all of its activations.

    Of 4 to 8 images. 1 elsewhere, and where batch norm needs the whole batch, devices share it already, or there is
    little to keep: heads behind cached features, and networks whose layers divide their work themselves.
    """
    needs_all = has_batch_norm and batch_norm_mode(config) in ("train", "train_all")
    is_one_device = jax.default_backend() == "cpu" and inputs.num_devices == 1
    is_head = not inputs.are_images and not getattr(model, "stages", ())
    if not is_one_device or is_head or needs_all or has_matrix_form(config.model):
        return 1
    return next((batch_size // size for size in IMAGES_IN_CACHE if batch_size % size == 0), 1)


def _moving_average(decay: Float[Array, ""], state: TrainState, weights: PyTree) -> PyTree:
    """The exponential moving average of the weights after this step.

    The decay rises to its value over the first steps, (1 + t) / (10 + t), so that the average does not remember the
    initial weights. What does not change is its own average, bit for bit.
    Source: tf.train.ExponentialMovingAverage(num_updates).
    """
    rising = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: new + rising * (old - new), state.average, weights)
