"""Self-supervised pretraining: without labels, a network learns to tell two views of an image from those of others.

Source: Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations
(SimCLR), ICML 2020. The loss is their equation 1; batches are smaller, the optimiser is AdamW, and crops keep their
scale, so that what the frequencies of an image say (ridges, textures) is left to be learnt.
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from fpclass.augment.compose import make_augment_batch
from fpclass.common.console import SILENT_SECONDS, check_stop, duration, say
from fpclass.common.parallel import agree, is_first_process, num_processes
from fpclass.config import Config, base_config
from fpclass.data.decode import Images
from fpclass.errors import LossError, TrainingError, is_out_of_memory, one_line
from fpclass.models.network import Network, moments
from fpclass.train import checkpoints
from fpclass.train.keys import CONTRAST, address

VIEWS = {
    "flip_probability": 0.5,
    "brightness": 0.3,
    "contrast": 0.3,
    "max_rotation_deg": 20.0,
    "zoom": (0.1,),
    "fill_mode": "reflect",
    "erasing_probability": 0.3,
}
"""Of the section `augment`: what a view is, beside its crop. Those of training may be none at all."""
OF_COLOURS = {"saturation": 0.3, "hue": 0.1}
"""Beside them, where images have colours: without it the colours of an image tell its views from all others."""
CROP = 0.65
"""Of the height and of the width."""
TEMPERATURE = 0.2
BATCH = 128
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.05, 0.05
"""The rate at its highest, and the share of the steps in which it rises; then it falls along a cosine to 0."""
Variables = dict[str, Any]
AfterEpoch = Callable[[int, float, float], None]
"""Called with the epoch, from 1 on, its loss, and how often the other view of an image was the nearest one."""


class Projection(nn.Module):
    """From features to unit vectors that are compared: [n, d] -> [n, 64]. It is thrown away afterwards."""

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n 64"]:
        x = nn.Dense(64)(nn.relu(nn.Dense(128)(x)))
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def contrastive_loss(z: Float[Array, "two_n k"]) -> tuple[Array, Array]:
    """The loss of unit vectors, whose second half are the other views of the first, and how often these are nearest."""
    similar = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T / TEMPERATURE)
    other = jnp.roll(jnp.arange(len(z)), len(z) // 2)
    return optax.softmax_cross_entropy_with_integer_labels(similar, other).mean(), (similar.argmax(1) == other).mean()


def crop_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the views of images of a size, pixels."""
    height, width = (max(round(CROP * side), 1) for side in image_size)
    return height, width


def pretrain(
    network: Network,
    variables: Variables,
    images: Images,
    rows: Int[np.ndarray, " n"],
    config: Config,
    seed: int,
    after_epoch: AfterEpoch = lambda *_: None,
    after_step: Callable[[], None] = lambda: None,
) -> Variables:
    """Trains a network without a head on images alone, for `config.unlabelled.pretrain_epochs`.

    Args:
      variables: of the network, where it begins.
      images: uint8 [N, H, W, C].
      rows: those that it sees, two or more.
      config: for the number of epochs, and how images are normalised.
      seed: of the projection, the order of images, and their views.
      after_step: may raise something, which ends it.

    Returns:
      params and batch_stats, on the host.
    """
    key, num_epochs = address(seed, CONTRAST), config.unlabelled.pretrain_epochs
    size = min(BATCH, len(rows))
    num_batches = len(rows) // size
    step, state = _make_step(network, variables, config, key, num_batches * num_epochs)
    order = np.random.default_rng(seed)
    for epoch in range(num_epochs):
        records, drawn = [], order.permutation(rows)[: num_batches * size].reshape(num_batches, size)
        for i, batch in enumerate(drawn, start=epoch * num_batches):
            state, record = step(state, jax.random.fold_in(key, i), jnp.asarray(images[np.sort(batch)]))
            records.append(record)
            after_step()
        loss, share = np.mean(jax.device_get(records), axis=0)
        after_epoch(epoch + 1, float(loss), float(share))
    params, statistics, _ = jax.device_get(state)
    return {"params": params["network"], "batch_stats": statistics}


def pretrain_once(
    folder: pathlib.Path,
    network: Network,
    variables: Variables,
    images: Images,
    rows: Int[np.ndarray, " n"],
    config: Config,
    seed: int,
) -> Variables:
    """As `pretrain`; what it gives is a checkpoint in a folder, and is not computed again once it is there.

    Says how far it is.

    Raises:
      Interrupted: somebody asked to stop.
      LossError: the loss is not finite any more.
      RunError: the folder cannot be written to, or the checkpoint is damaged.
      TrainingError: there is not enough memory.
    """
    is_there = is_first_process() and checkpoints.latest_step(folder) is not None
    if agree(np.array(is_there)):
        found = checkpoints.restore(folder, variables) if is_first_process() else variables
        return jax.tree.map(agree, jax.device_get(found))
    num_epochs, began = config.unlabelled.pretrain_epochs, time.perf_counter()
    said = began
    say(f"pretraining without labels: {len(rows):,} images, {num_epochs} epochs …")

    def after_epoch(epoch: int, loss: float, share: float) -> None:
        nonlocal said
        if not math.isfinite(loss):
            raise LossError(
                f"pretraining without labels: the loss of seed {seed} is not finite in epoch {epoch}; try another "
                "--config.seed, or --config.unlabelled.pretrain_epochs=0, in a new --workdir"
            )
        now = time.perf_counter()
        if now - said > SILENT_SECONDS or epoch == num_epochs:
            near, said = f"the other view is the nearest of {share:.0%}", now
            say(f"pretraining: epoch {epoch} of {num_epochs}, loss {loss:.3f}, {near}; {duration(now - began)}")

    # Where one of several processes stopped, the others would wait for it.
    after_step = check_stop if num_processes() == 1 else lambda: None
    try:
        found = pretrain(network, variables, images, rows, config, seed, after_epoch, after_step)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"pretraining without labels: out of memory ({one_line(error, 150)})"
        raise TrainingError(f"{what}; lower data.image_size, or model.conv_features") from error
    found = jax.tree.map(agree, found)
    if is_first_process():
        checkpoints.save(folder, num_epochs, found)
    return found


def make_views(config: Config) -> Callable[[Array, Array], Array]:
    """(key, images uint8 [n, H, W, C]) -> a view of each: augmented, normalised and cropped, [n, h, w, C]."""
    augment, size = base_config().augment, crop_size(config.data.image_size)
    augment.update(VIEWS | (OF_COLOURS if config.data.channels == 3 else {}))
    augment_batch = make_augment_batch(augment, mean=config.data.mean, std=config.data.std)

    def views(key: Array, images: Array) -> Array:
        of_images, of_crops = jax.random.split(key)
        seen = augment_batch(jax.random.split(of_images, len(images)), images, jnp.zeros(len(images), jnp.int32))
        room = jnp.array(images.shape[1:3]) - jnp.array(size) + 1
        corners = jax.random.randint(of_crops, (len(images), 2), 0, room)
        cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (*size, image.shape[-1]))  # noqa: E731
        return jax.vmap(cut)(seen, corners)

    return views


def _make_step(network: Network, variables: Variables, config: Config, key: Array, num_steps: int) -> Any:
    """Makes `step(state, key, images) -> (state, (loss, share))`, and the first state."""
    views, projection = make_views(config), Projection()
    example = jnp.zeros((2, *crop_size(config.data.image_size), config.data.channels))
    features = jax.eval_shape(lambda: moments(network.apply(variables, example, train=False)))  # pyright: ignore
    of_projection = projection.init(key, jnp.zeros(features.shape))["params"]
    params = {"network": variables["params"], "projection": of_projection}
    warmup = max(int(WARMUP * num_steps), 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, warmup, max(num_steps, warmup + 1))
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    def loss_of(params: Any, statistics: Any, key: Array, images: Array) -> Any:
        *of_views, of_dropout = jax.random.split(key, 3)
        both = jnp.concatenate([views(one, images) for one in of_views])
        of_network = {"params": params["network"], "batch_stats": statistics}
        rngs = {"dropout": of_dropout}
        maps, changed = network.apply(of_network, both, train=True, mutable=["batch_stats"], rngs=rngs)
        loss, share = contrastive_loss(projection.apply({"params": params["projection"]}, moments(maps)))  # pyright: ignore
        return loss, (changed.get("batch_stats", {}), share)

    @jax.jit
    def step(state: Any, key: Array, images: Array) -> Any:
        params, statistics, of_optimizer = state
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (statistics, share)), gradients = grad(params, statistics, key, images)
        updates, of_optimizer = optimizer.update(gradients, of_optimizer, params)
        return (optax.apply_updates(params, updates), statistics, of_optimizer), (loss, share)

    return step, (params, variables.get("batch_stats", {}), optimizer.init(params))
