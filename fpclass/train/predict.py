"""Prediction (with test-time augmentation) and scores: the half of the engine that learns nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from fpclass.augment.intensity import normalise
from fpclass.config import Config
from fpclass.models.build import has_matrix_form
from fpclass.models.parts import eval_batch, part_size
from fpclass.models.probe import PROBE
from fpclass.train.finetune import compute_in
from fpclass.train.state import Inputs

Predict = Callable[[PyTree, PyTree, Any, Any], Array]


def make_predict(model: nn.Module, config: Config, inputs: Inputs | None = None) -> Predict:
    """Makes the function from images to logits, for evaluation, submission and single files alike.

    The config's `data` tells how images are normalised, its `predict` over which views of an image the prediction is
    averaged (test-time augmentation): of a probe, which learnt from the mean of their features, the logits. `inputs`
    make what the network takes of rows, by default normalised images.

    Returns:
      (params, batch_stats, images uint8 [N, H, W, C], rows [n]) -> logits [n, K]. Averaged probabilities come back
      as their logarithms.
    """
    mean, std, dtype = config.data.mean, config.data.std, config.model.compute_dtype
    are_images = inputs is None or inputs.are_images
    logits_of = make_logits(model, config)

    def normalised(images: Array, rows: Int[Array, " n"]) -> Array:
        return normalise(images[rows], mean, std)

    def predict(params: PyTree, batch_stats: PyTree, images: Array, rows: Int[Array, " n"]) -> Float[Array, "n k"]:
        variables = {"params": compute_in(params, dtype), "batch_stats": batch_stats}
        size = eval_batch(images.shape, len(rows))
        size = size_at_once(config, params, images.shape, size) if are_images else size
        if inputs:
            size = math.ceil(size / inputs.num_devices) * inputs.num_devices
        padded = jnp.pad(rows, (0, -len(rows) % size)).reshape(-1, size)
        take = inputs.plain if inputs else normalised
        logits = lax.map(lambda part: logits_of(variables, compute_in(take(images, part), dtype)), padded)
        return logits.reshape(padded.size, logits.shape[-1])[: len(rows)]

    return predict


def size_at_once(config: Config, params: PyTree, shape: tuple[int, ...], at_most: int) -> int:
    """Images of a set [N, H, W, C] that take the network of a config the least time at once; see `part_size`."""
    return at_most if has_matrix_form(config.model) else part_size(at_most, shape, params)


def make_logits(model: nn.Module, config: Config) -> Callable[[PyTree, Array], Array]:
    """Makes the function (variables, normalised images [b, h, w, c]) -> logits [b, K], averaged over the views."""
    views = make_views(config.predict)
    averages_logits = config.predict.averaging == "logits" or config.model.head == PROBE

    def apply(variables: PyTree, taken: Array) -> Float[Array, "b k"]:
        return cast(Array, model.apply(variables, taken, train=False)).astype(jnp.float32)

    def logits_of(variables: PyTree, taken: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        each = [apply(variables, view(taken)) for view in views]
        if len(each) == 1:
            return each[0]
        if averages_logits:
            return jnp.mean(jnp.stack(each), axis=0)
        return jax.nn.logsumexp(jax.nn.log_softmax(jnp.stack(each)), axis=0) - jnp.log(len(each))

    return logits_of


def make_views(predict_config: Config) -> list[Callable[[Float[Array, "b h w c"]], Float[Array, "b h w c"]]]:
    """The views of an image that a prediction averages over: itself first, shifted copies, all of them mirrored.

    Pixels that a shift brings in repeat the border.
    """
    pixels = predict_config.shift_px
    steps = [(0, 0), (pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)] if pixels else [(0, 0)]

    def make_view(down: int, right: int, mirrored: bool) -> Callable[[Array], Array]:
        def view(images: Array) -> Array:
            if down or right:
                height, width = images.shape[1:3]
                rows = jnp.clip(jnp.arange(height) - down, 0, height - 1)
                columns = jnp.clip(jnp.arange(width) - right, 0, width - 1)
                images = images[:, rows][:, :, columns]
            return images[:, :, ::-1] if mirrored else images

        return view

    return [
        make_view(down, right, mirrored)
        for mirrored in ([False, True] if predict_config.flip else [False])
        for down, right in steps
    ]


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
