"""Engine with loops on the host, for images on disk and for convolutions on a CPU.

What `make_engine` computes in one program over all images, this computes in a few, over the part of the images on the
device or batch by batch. `train_step`, `predict` and `judge` are the very same.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from fpclass.config import Config
from fpclass.parallel import fetch, put
from fpclass.train.device_engine import (
    epoch_batches,
    epoch_record,
    make_evaluate_epoch,
    make_judge,
    make_parts,
    no_record,
    stem_rows,
)
from fpclass.train.engine import Engine, Epoch
from fpclass.train.inputs.streaming import Window, is_streamed, num_parts, read_windows, with_images
from fpclass.train.predict import Predict, eval_batch
from fpclass.train.state import PADDING, Dataset, Member, TrainState
from fpclass.train.step import TrainStep


def make_host_engine(
    model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0, is_by_batch: bool
) -> Engine:
    """Builds the functions of `make_engine`, for images on disk or on the device; arguments as `make_parts` takes them.

    With `is_by_batch` a program is one step, called for every batch, otherwise all steps of a window of images.
    """
    parts = make_parts(model, config, batch_mesh, num_cached=num_cached)
    predict = make_host_predict(parts.predict, batch_mesh, is_by_batch=is_by_batch)
    make_run = step_by_step if is_by_batch else in_one_scan
    return Engine(
        init=make_host_init(parts.init, model, batch_mesh),
        train_epochs=tuple(make_host_train_epoch(make_run(step), config, batch_mesh) for step in parts.train_steps),
        evaluate_epoch=make_evaluate_epoch(predict, jax.jit(make_judge(config)), config),
        predict=predict,
        batch_size=config.train.batch_size,
        plan=parts.plan,
        mesh=batch_mesh,
    )


def make_host_init(
    init: Callable[[Member, Dataset], TrainState], model: nn.Module, mesh: Mesh | None
) -> Callable[[Member, Dataset], TrainState]:
    """Makes `Engine.init`; of images on disk it reads those that the network's first kernel is made of, if it is."""
    compiled = jax.jit(init)

    def host_init(member: Member, dataset: Dataset) -> TrainState:
        images: Any = dataset.images
        if is_streamed(images):
            rows = np.sort(fetch(stem_rows(member))) if getattr(model, "stem_of_images", None) else np.zeros(1, int)
            images = Window(*put((images[rows], rows), mesh))
        return compiled(member, with_images(dataset, images))

    return host_init


Run = Callable[[TrainState, Member, Dataset, Array], tuple[TrainState, dict[str, Array]]]
"""Trains on some batches [batches, B] one after the other; gives what `epoch_record` takes, [batches]."""


def in_one_scan(train_step: TrainStep) -> Run:
    """All batches in one program."""

    def run(state: TrainState, member: Member, dataset: Dataset, batches: Array) -> tuple[TrainState, Any]:
        return lax.scan(lambda s, rows: train_step(s, member, dataset, rows), state, batches)

    return jax.jit(run, donate_argnums=0)


def step_by_step(train_step: TrainStep) -> Run:
    """A program for one batch, called for each."""
    step = jax.jit(train_step, donate_argnums=0)

    def run(state: TrainState, member: Member, dataset: Dataset, batches: Array) -> tuple[TrainState, Any]:
        sums = []
        for rows in batches:
            state, of_step = step(state, member, dataset, rows)
            sums.append(of_step)
        return state, jax.tree.map(lambda *x: jnp.stack(x), *sums)

    return run


def make_host_train_epoch(run: Run, config: Config, mesh: Mesh | None) -> Epoch:
    """Makes one of `Engine.train_epochs`: the batches of one window after the other."""
    batch_size = config.train.batch_size
    batches_of = jax.jit(lambda member, epoch: epoch_batches(member, epoch, batch_size))
    record_of = jax.jit(epoch_record)

    def train_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Any]]:
        batches = fetch(batches_of(member, state.epoch))
        if bool(fetch(state.is_stopped)):
            return state, no_record(len(batches))
        images: Any = dataset.images
        parts = in_parts(images, batches, PADDING)
        sums: list[dict[str, Array]] = []
        for part, window in zip(parts, windows_of(images, parts, mesh), strict=False):
            state, of_window = run(state, member, with_images(dataset, window), put(part, mesh))
            sums.append(of_window)
            _wait(sums)
        whole = jax.tree.map(lambda *x: np.concatenate(x)[: len(batches)], *fetch(sums))
        return dataclasses.replace(state, epoch=state.epoch + 1), record_of(whole)

    return train_epoch


def windows_of(images: Any, parts: np.ndarray, mesh: Mesh | None) -> Iterator[Any]:
    """What holds the images of each part: a window read from disk, or all of them, which are on the device."""
    if is_streamed(images):
        return read_windows(images, parts.reshape(len(parts), -1), mesh)
    return itertools.repeat(images)


def make_host_predict(predict: Predict, mesh: Mesh | None, *, is_by_batch: bool) -> Predict:
    """Makes `Engine.predict`. Every image is in the batch in which it would be if one program did it all.

    Args:
      predict: from `make_predict`.
      mesh: devices that each get the images; None: the default one.
      is_by_batch: whether it is called for each batch, or for all of a window, over which it loops itself.
    """
    predict_rows = jax.jit(predict)

    def predict_all(params: PyTree, batch_stats: PyTree, images: Any, rows: Any) -> Float[Array, "n K"]:
        rows = np.asarray(fetch(rows))
        size = eval_batch(images.shape, len(rows))
        batches = np.pad(rows, (0, -len(rows) % size if len(rows) else size)).reshape(-1, size)
        # What is on the host would go to the device with every call.
        weights = put((params, batch_stats), mesh)
        images = images if is_streamed(images) else put(images, mesh)
        parts = in_parts(images, batches, 0)
        logits: list[Array] = []
        for part, window in zip(parts, windows_of(images, parts, mesh), strict=False):
            for batch in part if is_by_batch else [part.reshape(-1)]:
                logits.append(predict_rows(*weights, window, put(batch, mesh)))
                _wait(logits)
        return jnp.concatenate(logits)[: len(rows)]

    return predict_all


def _wait(results: list[Any]) -> None:
    """Waits for the last result but one: the device always has its next window, and never more than that."""
    jax.block_until_ready(results[-2:-1])


def in_parts(images: Any, batches: np.ndarray, filler: int) -> np.ndarray:
    """Divides batches of rows into windows of equal size, [windows, batches, B].

    Images on the device need no windows: there each batch is one, and a loop over it is none. Of images on disk some
    batches of `filler` come last.
    """
    if not is_streamed(images):
        return batches[:, None]
    count = num_parts(len(batches), batches.shape[1] * math.prod(images.shape[1:]))
    filled = np.pad(batches, ((0, -len(batches) % count), (0, 0)), constant_values=filler)
    return filled.reshape(count, -1, batches.shape[1])
