"""Engine for images on disk: an epoch in windows of images, which are read ahead of the device.

The compiled functions are those of `device_engine`: a window is a part of an epoch, with images of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from fpclass.common.parallel import fetch, put
from fpclass.config import Config
from fpclass.models.parts import eval_batch
from fpclass.train.device_engine import (
    compile_train_parts,
    epoch_batches,
    make_evaluate_epoch,
    make_functions,
    make_judge,
    stem_rows,
)
from fpclass.train.engine import Engine, Pace
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.inputs.streaming import Window, num_parts, read_windows, with_images
from fpclass.train.predict import Predict
from fpclass.train.state import Dataset, Member, TrainState


class StreamEngine(Engine):
    """An engine whose parts of an epoch are windows of images on disk."""

    def parts(
        self, state: TrainState, member: Member, dataset: Dataset, start: int, pace: Pace | None
    ) -> Iterator[tuple[int, Dataset]]:
        """Divides an epoch from batch `start` on into windows; a window in which it begins is read whole."""
        del pace
        images: Any = dataset.images
        batches = np.asarray(fetch(epoch_batches(member, state.epoch, self.batch_size)))
        per_window = -(-len(batches) // num_parts(len(batches), _batch_bytes(images, self.batch_size)))
        stops = range(start + per_window, len(batches) + per_window, per_window)
        # The last one is filled up, since a window of another size would be another program.
        rows = np.pad(batches[start:], ((0, stops[-1] - len(batches)), (0, 0)), mode="edge")
        windows = read_windows(images, rows.reshape(len(stops), -1), self.mesh)
        for stop, window in zip(stops, windows, strict=True):
            yield min(stop, len(batches)), with_images(dataset, window)


def make_stream_engine(
    model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0
) -> StreamEngine:
    """Compiles the engine of images on disk; arguments as `make_functions` takes them."""
    functions = make_functions(model, config, batch_mesh, num_cached=num_cached)
    predict = make_stream_predict(functions.predict, batch_mesh)
    return StreamEngine(
        init=make_stream_init(functions.init, model, batch_mesh),
        train_parts=compile_train_parts(functions, config),
        evaluate_epoch=make_evaluate_epoch(predict, jax.jit(make_judge(config)), config),
        predict=predict,
        batch_size=config.train.batch_size,
        plan=functions.plan,
        mesh=batch_mesh,
        hyper=put(Hyperparameters.of(config), batch_mesh),
        num_ahead=1,  # or the device would wait for its next window
    )


def make_stream_init(
    init: Callable[[Member, Dataset], TrainState], model: nn.Module, mesh: Mesh | None
) -> Callable[[Member, Dataset], TrainState]:
    """Makes `Engine.init`, which reads the images that the network's first kernel is made of, if it is."""
    compiled = jax.jit(init)

    def stream_init(member: Member, dataset: Dataset) -> TrainState:
        rows = np.sort(fetch(stem_rows(member))) if getattr(model, "stem_of_images", None) else np.zeros(1, int)
        images: Any = dataset.images
        return compiled(member, with_images(dataset, Window(*put((images[rows], rows), mesh))))

    return stream_init


def make_stream_predict(predict: Predict, mesh: Mesh | None) -> Predict:
    """Makes `Engine.predict`. Every image is in the batch in which it would be if one program did it all.

    Args:
      predict: from `make_predict`.
      mesh: devices that each get the images; None: the default one.
    """
    predict_rows = jax.jit(predict)

    def predict_all(params: PyTree, batch_stats: PyTree, images: Any, rows: Any) -> Float[Array, "n K"]:
        rows = np.asarray(fetch(rows))
        size = eval_batch(images.shape, len(rows))
        batches = np.pad(rows, (0, -len(rows) % size if len(rows) else size)).reshape(-1, size)
        # What is on the host would go to the device with every call.
        weights = put((params, batch_stats), mesh)
        count = num_parts(len(batches), _batch_bytes(images, size))
        parts = np.pad(batches, ((0, -len(batches) % count), (0, 0))).reshape(count, -1)
        logits: list[Array] = []
        for part, window in zip(parts, read_windows(images, parts, mesh), strict=True):
            logits.append(predict_rows(*weights, window, put(part, mesh)))
            # The device always has its next window, and never more than that.
            jax.block_until_ready(logits[-2:-1])
        return jnp.concatenate(logits)[: len(rows)]

    return predict_all


def _batch_bytes(images: Any, batch_size: int) -> int:
    return batch_size * math.prod(images.shape[1:])
