"""The engine whose loops run on the host: for images on disk, and for convolutions on a CPU.

What `make_engine` computes in one program over all images, this computes in a few: over the part of the images that is
on the device, or batch by batch. `train_step`, `predict` and `judge` are the very same.
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
from fpclass.data.cache import StoredImages
from fpclass.models.network import HEAD
from fpclass.parallel import fetch, member_mesh, put
from fpclass.train.engine import (
    Engine,
    Epoch,
    epoch_batches,
    epoch_record,
    judged_rows,
    judged_weights,
    make_engine,
    make_judge,
    make_parts,
    no_record,
    stem_rows,
)
from fpclass.train.members import Company, are_batched, take_member
from fpclass.train.predict import Predict, eval_batch
from fpclass.train.state import PADDING, Dataset, Member, TrainState
from fpclass.train.step import TrainStep
from fpclass.train.streaming import Window, num_parts, read_windows


def is_streamed(dataset: Dataset) -> bool:
    """Whether the images of a data set stay on disk."""
    return isinstance(dataset.images, StoredImages)


def put_dataset(dataset: Dataset, mesh: Mesh | None) -> Dataset:
    """Puts a data set onto the devices of a mesh, whole on each; images on disk stay there."""
    if not is_streamed(dataset):
        return put(dataset, mesh)
    return with_images(put(with_images(dataset, ()), mesh), dataset.images)


def with_images(dataset: Dataset, images: Any) -> Dataset:
    """The data set with other images, or with a window of its own."""
    return dataclasses.replace(dataset, images=images)


def describe_stream(dataset: Dataset) -> str:
    """One line about a data set whose images stay on disk."""
    size = dataset.images.nbytes / 1e9
    return f"images: {len(dataset.images):,}, {size:.1f} GB, streamed from disk: they are more than data.memory_gb"


def needs_host_loop(config: Config, num_cached: int = 0) -> bool:
    """Whether the loop over batches has to run on the host because compiled loops are slow.

    Inside `scan`, `map` and `cond` XLA's convolutions on CPU take many times as long as outside (docs/performance.md).
    The footprint CNN is written as matrix products, and so is a head behind cached features: these are as fast in a
    compiled loop, and there members can share the cores.

    Args:
      config: the whole config.
      num_cached: leading stages of the network whose features are the data set.
    """
    if jax.default_backend() != "cpu" or are_batched(config, member_mesh()):
        return False
    is_products = config.model.name == "cnn" and config.model.conv_form != "direct"
    is_head = num_cached > 0 and config.finetune.freeze_until == HEAD and not config.finetune.unfreeze
    return not (is_products or is_head)


def engine_for(
    images: Any, model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0
) -> Engine:
    """The engine that suits the network and where its images are; arguments as `make_engine` takes them."""
    if isinstance(images, StoredImages) or needs_host_loop(config, num_cached):
        return make_host_engine(model, config, batch_mesh, num_cached=num_cached)
    return make_engine(model, config, batch_mesh, num_cached=num_cached)


def make_host_engine(
    model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0
) -> Engine:
    """Builds the functions of `make_engine`, for images on disk (`StoredImages`) or on the device.

    Args:
      model: the network; or its part behind cached features.
      config: the whole config.
      batch_mesh: devices that share every batch; None: one device.
      num_cached: leading stages of the whole network whose features are the data set; 0: it has images.

    Raises:
      ConfigError: as `make_engine`.
    """
    parts = make_parts(model, config, batch_mesh, num_cached=num_cached)
    is_by_batch = needs_host_loop(config, num_cached)
    predict = make_host_predict(parts.predict, batch_mesh, is_by_batch=is_by_batch)
    make_run = step_by_step if is_by_batch else in_one_scan
    return Engine(
        init=make_host_init(parts.init, model, batch_mesh),
        train_epochs=tuple(make_host_train_epoch(make_run(step), config, batch_mesh) for step in parts.train_steps),
        evaluate_epoch=make_host_evaluate_epoch(predict, config),
        predict=predict,
        batch_size=config.train.batch_size,
        plan=parts.plan,
    )


def make_host_init(
    init: Callable[[Member, Dataset], TrainState], model: nn.Module, mesh: Mesh | None
) -> Callable[[Member, Dataset], TrainState]:
    """Makes `Engine.init`; of images on disk it reads those that the network's first kernel is made of, if it is."""
    compiled = jax.jit(init)

    def host_init(member: Member, dataset: Dataset) -> TrainState:
        images: Any = dataset.images
        if isinstance(images, StoredImages):
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
    if isinstance(images, StoredImages):
        return read_windows(images, parts.reshape(len(parts), -1), mesh)
    return itertools.repeat(images)


def make_host_evaluate_epoch(predict: Predict, config: Config) -> Epoch:
    """Makes `Engine.evaluate_epoch`: logits by windows, judged as those of the resident engine are."""
    judge = jax.jit(make_judge(config))

    def evaluate_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        weights = judged_weights(state, config)
        logits = {role: predict(*weights, dataset.images, rows) for role, rows in judged_rows(member).items()}
        return judge(state, member, dataset.labels, logits)

    return evaluate_epoch


def make_host_predict(predict: Predict, mesh: Mesh | None, *, is_by_batch: bool) -> Predict:
    """Makes `Engine.predict`.

    Every image is predicted in the batch in which it would be if one program did it all.

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
        images = images if isinstance(images, StoredImages) else put(images, mesh)
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
    if not isinstance(images, StoredImages):
        return batches[:, None]
    count = num_parts(len(batches), batches.shape[1] * math.prod(images.shape[1:]))
    filled = np.pad(batches, ((0, -len(batches) % count), (0, 0)), constant_values=filler)
    return filled.reshape(count, -1, batches.shape[1])


def make_host_company(config: Config, model: nn.Module, mesh: Mesh, *, num_cached: int = 0) -> Company:
    """A company whose members train one after the other, each with a loop of its own.

    Args:
      config: the whole config.
      model: the network; or its part behind cached features.
      mesh: of one device.
      num_cached: stages before that.
    """
    alone = make_host_engine(model, config, num_cached=num_cached)

    def each_member(function: Callable, num_mapped: int) -> Any:
        def call(*args: Any) -> Any:
            mapped, shared = args[:num_mapped], args[num_mapped:]
            num_members = len(jax.tree.leaves(mapped[0])[0])
            whole: Any = None
            for position in range(num_members):
                result = fetch(function(*take_member(mapped, position), *shared))
                if whole is None:
                    whole = jax.tree.map(lambda x: np.empty((num_members, *x.shape), x.dtype), result)
                # Into its place, or all results would be there twice until the last one is.
                for of_all, own in zip(jax.tree.leaves(whole), jax.tree.leaves(result), strict=True):
                    of_all[position] = own
            return whole

        return call

    engine = Engine(
        init=each_member(alone.init, 1),
        train_epochs=tuple(each_member(epoch, 2) for epoch in alone.train_epochs),
        evaluate_epoch=each_member(alone.evaluate_epoch, 2),
        predict=each_member(alone.predict, 2),
        batch_size=alone.batch_size,
        plan=alone.plan,
    )
    return Company(engine, alone, mesh, is_batched=False)
