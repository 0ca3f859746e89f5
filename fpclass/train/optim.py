"""Optimisers and learning-rate schedules, from the section `optim` of a config."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, PyTree

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.train.hyperparameters import Hyperparameters


def learning_rate(optim_config: Config, hyper: Hyperparameters, epochs: Float[Array, ""]) -> Float[Array, ""]:
    """Learning rate after so many epochs, of the section `optim`; it ends with the last epoch.

    Epochs, not steps: members of different sizes train together, and each has its own number of steps per epoch.
    "plateau" is constant here; `make_plateau` scales it between epochs. Optax's own schedules take constants alone.
    """
    rate, warmup = hyper.learning_rate, hyper.warmup_epochs
    if optim_config.schedule in ("constant", "plateau"):
        return rate
    since, length = epochs, hyper.num_epochs
    if optim_config.warmup_epochs:
        since, length = epochs - warmup, hyper.num_epochs - warmup
    since = jnp.minimum(since, length)
    if optim_config.schedule == "cosine":
        falling = rate * (0.5 * (1 + jnp.cos(jnp.pi * since / length)))
    else:
        falling = rate * (1 - since / length)
    if not optim_config.warmup_epochs:
        return falling
    return jnp.where(epochs < warmup, rate - rate * (1 - epochs / warmup), falling)


def make_optimizer(optim_config: Config, hyper: Hyperparameters | None = None) -> optax.GradientTransformation:
    """The optimiser with weight decay, from the section `optim`; its updates are to be multiplied by -learning rate.

    Weight decay is decoupled (Loshchilov and Hutter, ICLR 2019) and pulls at kernels alone: not at biases, norms,
    scales, positions or class tokens.

    Args:
      hyper: momentum and decay, where they are data; None: those of the section.

    Raises:
      ConfigError: weight decay or Nesterov momentum asked of one that has none here.
    """
    name, decay, numbers = optim_config.name, optim_config.weight_decay, hyper or optim_config
    builders = {
        "adam": lambda: optax.scale_by_adam(),
        "adamw": lambda: optax.scale_by_adam(),
        "sgd": lambda: optax.trace(decay=numbers.momentum, nesterov=optim_config.nesterov),
        "rmsprop": lambda: optax.chain(optax.scale_by_rms(decay=0.9), optax.trace(decay=numbers.momentum)),
    }
    if optim_config.nesterov and name != "sgd":
        raise ConfigError(f"optim.nesterov is True but optim.name is {name!r}: that is for sgd")
    if decay and name in ("adam", "rmsprop"):
        raise ConfigError(f"optim.weight_decay is {decay} but optim.name is {name!r}: choose adamw or sgd, or 0")
    parts = [builders[name]()]
    if decay:
        parts.append(optax.add_decayed_weights(numbers.weight_decay, mask=kernels))
    return optax.chain(*parts)


def kernels(params: PyTree) -> PyTree:
    """Which of these parameters, nested or by path, are kernels of convolutions, dense layers and attention."""

    def is_kernel(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        name = path[-1].key
        return (name[-1] if isinstance(name, tuple) else name) == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def norm_biases(batch_stats: PyTree) -> set[tuple[str, ...]]:
    """Paths of the biases of the batch norms that have these statistics."""
    return {(*path[:-1], "bias") for path in flatten_dict(batch_stats)}


def clip_gradients(gradients: PyTree, optim_config: Config, hyper: Hyperparameters | None = None) -> PyTree:
    """Scales gradients down to the global norm that the config allows; `hyper` as for `make_optimizer`."""
    if not optim_config.gradient_clip_norm:
        return gradients
    clip = optax.clip_by_global_norm((hyper or optim_config).gradient_clip_norm)
    return clip.update(gradients, clip.init(gradients))[0]


def make_plateau(optim_config: Config) -> optax.GradientTransformationExtraArgs:
    """Reduces the learning rate when the selection loss stops falling; updated once per evaluation, not per step."""
    return optax.contrib.reduce_on_plateau(
        factor=optim_config.plateau_factor, patience=optim_config.plateau_patience, cooldown=0
    )
