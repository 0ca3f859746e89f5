"""Grad-CAM for any named stage, any class and any batch of images, by `jax.grad`."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from fpclass.errors import ConfigError


def stage_names(model: nn.Module, images: Float[Array, "n h w c"]) -> tuple[str, ...]:
    """The named stages of a model for images of this shape, for example "conv2/relu"."""
    return tuple("/".join(path) for path in _perturbations(model, images))


def grad_cam(
    model: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    classes: Int[Array, " n"],
    stage: str,
) -> Float[Array, "n h2 w2"]:
    """Computes how much each place of a stage speaks for a class.

    The channels of the stage are weighted by the gradient of the class's logit, averaged over places, and added up;
    what is negative is cut off.

    Args:
      model: the network, in a form that has this stage.
      variables: its params and batch_stats.
      images: normalised, as the model takes them.
      classes: class index to explain, one per image.
      stage: one of `stage_names`.

    Returns:
      Raw maps at the stage's (height, width), at least 0, in units of the logit per place; see `scale_maps`.

    Raises:
      ConfigError: the model has no such stage.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    names = stage_names(model, images)
    if stage not in names:
        raise ConfigError(f"explain.stage is {stage!r}: the model's stages are {', '.join(names)}")
    return _grad_cam(model, variables, images, jnp.asarray(classes), tuple(stage.split("/")))


def scale_maps(maps: Float[Array, "n h w"]) -> Float[Array, "n h w"]:
    """Divides each map by its own maximum, so that it lies in [0, 1]; a map of zeros stays one."""
    top = maps.max(axis=(1, 2), keepdims=True)
    return maps / jnp.where(top > 0, top, 1)


@partial(jax.jit, static_argnames=("model", "path"))
def _grad_cam(
    model: nn.Module, variables: dict[str, Any], images: Array, classes: Array, path: tuple[str, ...]
) -> Array:
    def score(perturbations: Any) -> tuple[Array, Any]:
        inputs = {**variables, "perturbations": perturbations}
        logits, recorded = model.apply(inputs, images, train=False, mutable=["stages"])
        # In evaluation mode images do not see each other: the gradient of the sum is each image's own.
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum(), recorded["stages"]

    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)["perturbations"]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    gradients, stages = jax.grad(score, has_aux=True)(zeros)
    gradient: Array = flatten_dict(gradients)[path]  # pyright: ignore[reportAssignmentType]
    activation: Array = flatten_dict(stages)[path]  # pyright: ignore[reportAssignmentType]
    weights = gradient.mean(axis=(1, 2))
    return nn.relu(jnp.einsum("nhwc,nc->nhw", activation, weights))


def _perturbations(model: nn.Module, images: Array) -> dict[tuple[str, ...], Any]:
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    return flatten_dict(shapes.get("perturbations", {}))
