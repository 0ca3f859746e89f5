"""Grad-CAM for any named stage, any class and any images."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from fpclass.errors import ConfigError
from fpclass.explain.stages import as_maps, find_stages, has_places


def grad_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], classes: Int[Array, " n"], stage: str
) -> Float[Array, "n h2 w2"]:
    """Computes how much each place of a stage speaks for a class, from normalised images.

    The channels of the stage are weighted by the gradient of the class's logit, averaged over places, and added up;
    what is negative is cut off. Of tokens only the patches are places, the class token is none. (Where the
    classifier reads the class token alone, the patches have no say behind the last attention: there the map is zero.)

    Returns:
      Raw maps at the stage's (height, width), at least 0, in units of the logit per place; see `scale_maps`. Tokens
      are laid out as their patches lie in the image.

    Raises:
      ConfigError: the model has no such stage, or the stage has no places.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    return _grad_cam(model, variables, images, jnp.asarray(classes), find_path(model, images.shape[1:], stage))


def find_path(model: nn.Module, image_shape: tuple[int, ...], stage: str) -> tuple[str, ...]:
    """Where a model records the output of a stage that Grad-CAM can look at, for images of [h, w, c].

    Raises:
      ConfigError: the model has no such stage, or the stage has no places.
    """
    images: Any = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    stages = find_stages(model, images)
    if stage not in stages:
        raise ConfigError(f"explain.stage is {stage!r}: the model's stages are {', '.join(stages)}")
    path, shape = stages[stage]
    if not has_places(model, stages[stage]):
        having = [name for name, other in stages.items() if has_places(model, other)]
        raise ConfigError(
            f"explain.stage is {stage!r}: its output {shape[1:]} has no places to look at; stages with places are "
            f"{', '.join(having)}"
        )
    return path


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
    gradient, activation = (as_maps(model, images, x) for x in (gradient, activation))
    weights = gradient.mean(axis=(1, 2))
    return nn.relu(jnp.einsum("nhwc,nc->nhw", activation, weights))
