"""Optimisers and learning-rate schedules, from the section `optim` of a config."""

from __future__ import annotations

from typing import Any

import jax
import optax
import optax.contrib
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from fpclass.config import Config
from fpclass.errors import ConfigError


def make_schedule(optim_config: Config, num_epochs: int) -> optax.Schedule:
    """Learning rate by the epochs (float) that have passed, of the section `optim`; the schedule ends at `num_epochs`.

    Epochs, not steps: members of different sizes train together, and each has its own number of steps per epoch.
    "plateau" is constant here; `make_plateau` scales it between epochs.
    """
    rate = optim_config.learning_rate
    if optim_config.schedule in ("constant", "plateau"):
        return optax.constant_schedule(rate)
    if optim_config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, rate, optim_config.warmup_epochs, num_epochs)
    warmup = optim_config.warmup_epochs  # linear
    rise, fall = optax.linear_schedule(0.0, rate, warmup), optax.linear_schedule(rate, 0.0, num_epochs - warmup)
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall


def make_optimizer(optim_config: Config) -> optax.GradientTransformation:
    """The optimiser with weight decay, from the section `optim`; its updates are to be multiplied by -learning rate.

    Weight decay is decoupled (Loshchilov and Hutter, ICLR 2019) and pulls at kernels alone: not at biases, norms,
    scales, positions or class tokens.

    Raises:
      ConfigError: weight decay or Nesterov momentum asked of one that has none here.
    """
    name, decay = optim_config.name, optim_config.weight_decay
    builders = {
        "adam": lambda: optax.scale_by_adam(),
        "adamw": lambda: optax.scale_by_adam(),
        "sgd": lambda: optax.trace(decay=optim_config.momentum, nesterov=optim_config.nesterov),
        "rmsprop": lambda: optax.chain(optax.scale_by_rms(decay=0.9), optax.trace(decay=optim_config.momentum)),
    }
    if optim_config.nesterov and name != "sgd":
        raise ConfigError(f"optim.nesterov is True but optim.name is {name!r}: that is for sgd")
    if decay and name in ("adam", "rmsprop"):
        raise ConfigError(f"optim.weight_decay is {decay} but optim.name is {name!r}: choose adamw or sgd, or 0")
    parts = [builders[name]()]
    if decay:
        parts.append(optax.add_decayed_weights(decay, mask=kernels))
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


def clip_gradients(gradients: PyTree, optim_config: Config) -> PyTree:
    """Scales gradients down to the global norm that the config allows."""
    if not optim_config.gradient_clip_norm:
        return gradients
    clip = optax.clip_by_global_norm(optim_config.gradient_clip_norm)
    return clip.update(gradients, clip.init(gradients))[0]


def make_plateau(optim_config: Config) -> optax.GradientTransformationExtraArgs:
    """Reduces the learning rate when the selection loss stops falling; updated once per evaluation, not per step."""
    return optax.contrib.reduce_on_plateau(
        factor=optim_config.plateau_factor, patience=optim_config.plateau_patience, cooldown=0
    )
