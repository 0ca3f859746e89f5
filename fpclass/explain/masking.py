"""Maps by taking something away, without gradients: Score-CAM, Ablation-CAM and occlusion."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Float

from fpclass.errors import ConfigError
from fpclass.explain.cam import no_perturbations
from fpclass.explain.parts import at_once, in_parts, scores
from fpclass.explain.stages import as_maps, find_path, prefix_tokens
from fpclass.explain.targets import AnyTarget, Target, as_target

WINDOWS = 7
"""Occlusion: the square is a part of the image's shorter side, one of so many."""


def score_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """Score-CAM: a channel weighs what the network says of the image seen through it alone.

    A channel is enlarged to the image (bilinear), scaled to [0, 1], and multiplied with the normalised image; the
    softmax of the target over the channels are their weights. As many passes as the stage has channels. What a channel
    hides becomes 0, the mean colour.

    Returns:
      Raw maps, at least 0, at the stage's (height, width), in units of the stage's activations.

    Raises:
      ConfigError: as `grad_cam`.

    Source: Wang et al., Score-CAM, CVPR 2020 Workshops, algorithm 1.
    """
    return _score_cam(model, variables, images, as_target(target), find_path(model, images.shape[1:], stage))


def ablation_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """Ablation-CAM: a channel weighs by how much the target falls where the channel is set to 0.

    As many passes through what follows the stage as this has channels; of tokens only those of patches are set to 0.

    Returns:
      Raw maps, at least 0, at the stage's (height, width), in units of the target. The paper divides by the target
      itself, which turns the map round where that is negative; this does not.

    Raises:
      ConfigError: as `grad_cam`.

    Source: Desai and Ramaswamy, Ablation-CAM, WACV 2020, equations 4 and 5.
    """
    return _ablation_cam(model, variables, images, as_target(target), find_path(model, images.shape[1:], stage))


def occlusion(
    model: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    target: AnyTarget,
    *,
    window: int = 0,
    stride: int = 0,
    baseline: float | Float[Array, " c"] = 0.0,
) -> Float[Array, "n h w"]:
    """Occlusion: how much the target falls where a square of the image is covered, at every place.

    Args:
      window: side of the square in pixels; 0: a `WINDOWS`-th of the shorter side.
      stride: pixels from one square to the next; 0: half a window. Squares overlap, and a pixel has the mean of those
        that cover it; the last ones are cut off at the edge.
      baseline: what covers, in normalised intensities of each channel; 0 is the mean colour.

    Returns:
      Raw maps of the size of the image, in units of the target; negative where covering helps.

    Raises:
      ConfigError: a window that is larger than the image, or squares that leave pixels out.

    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2.
    """
    height, width, channels = images.shape[1:]
    window = window or max(1, round(min(height, width) / WINDOWS))
    stride = stride or max(1, window // 2)
    if not 1 <= stride <= window <= min(height, width):
        raise ConfigError(
            f"occlusion by squares of {window} pixels, {stride} apart: expected 1 <= distance <= side <= "
            f"{min(height, width)}, the image's shorter side"
        )
    fill = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), (channels,))
    return _occlusion(model, variables, images, as_target(target), fill, window, stride)


@partial(jax.jit, static_argnames=("model", "path"))
def _score_cam(
    model: nn.Module, variables: dict[str, Any], images: Array, target: Target, path: tuple[str, ...]
) -> Array:
    size, image_shape = at_once(images.shape[1:], variables), images.shape[1:]

    def of_image(row: tuple[Array, Target]) -> Array:
        image, of = row
        _, recorded = model.apply(variables, image[None], train=False, mutable=["stages"])
        maps = as_maps(model, image[None], flatten_dict(recorded["stages"])[path])[0]  # pyright: ignore[reportArgumentType]

        def score(channels: Array) -> Array:
            masks = jax.image.resize(channels, (len(channels), *image_shape[:2]), "bilinear")
            low, high = (of_each(masks, axis=(1, 2), keepdims=True) for of_each in (jnp.min, jnp.max))
            masks = jnp.where(high > low, (masks - low) / jnp.where(high > low, high - low, 1), 0)
            return scores(model, variables, masks[..., None] * image, of)

        weights = jax.nn.softmax(in_parts(score, jnp.moveaxis(maps, -1, 0), size))
        return nn.relu(maps @ weights)

    return lax.map(of_image, (images, target))


@partial(jax.jit, static_argnames=("model", "path"))
def _ablation_cam(
    model: nn.Module, variables: dict[str, Any], images: Array, target: Target, path: tuple[str, ...]
) -> Array:
    size = at_once(images.shape[1:], variables)

    def of_image(row: tuple[Array, Target]) -> Array:
        image, of = row[0][None], row[1]
        logits, recorded = model.apply(variables, image, train=False, mutable=["stages"])
        output: Array = flatten_dict(recorded["stages"])[path]  # pyright: ignore[reportAssignmentType]
        zeros = flatten_dict(no_perturbations(model, image))
        first = prefix_tokens(model, output)

        def without(channels: Array) -> Array:
            def score(channel: Array) -> Array:
                taken = jnp.where(jnp.arange(output.shape[-1]) == channel, -output, 0).at[:, :first].set(0)
                changed = {**variables, "perturbations": unflatten_dict({**zeros, path: taken})}
                return scores(model, changed, image, of)[0]

            # What comes before the stage does not depend on the channel, and is computed once.
            return jax.vmap(score)(channels)

        weights = of.of(logits)[0] - in_parts(without, jnp.arange(output.shape[-1]), size)  # pyright: ignore[reportArgumentType]
        return nn.relu(as_maps(model, image, output)[0] @ weights)

    return lax.map(of_image, (images, target))


@partial(jax.jit, static_argnames=("model", "window", "stride"))
def _occlusion(
    model: nn.Module,
    variables: dict[str, Any],
    images: Array,
    target: Target,
    fill: Array,
    window: int,
    stride: int,
) -> Array:
    image_shape = images.shape[1:]
    tops, lefts = (jnp.arange(math.ceil((side - window) / stride) + 1) * stride for side in image_shape[:2])
    rows, columns = (
        ((jnp.arange(side) >= starts[:, None]) & (jnp.arange(side) < starts[:, None] + window)).astype(jnp.float32)
        for side, starts in zip(image_shape[:2], (tops, lefts), strict=True)
    )
    places = jnp.stack(jnp.meshgrid(jnp.arange(len(tops)), jnp.arange(len(lefts)), indexing="ij"), -1).reshape(-1, 2)
    size = at_once(image_shape, variables)

    def of_image(row: tuple[Array, Target]) -> Array:
        image, of = row

        def score(part: Array) -> Array:
            covered = rows[part[:, 0], :, None, None] * columns[part[:, 1], None, :, None]
            return scores(model, variables, jnp.where(covered > 0, fill, image), of)

        falls = scores(model, variables, image[None], of)[0] - in_parts(score, places, size)
        total = jnp.einsum("ph,pq,qw->hw", rows, falls.reshape(len(tops), len(lefts)), columns)
        return total / (rows.sum(axis=0)[:, None] * columns.sum(axis=0))

    return lax.map(of_image, (images, target))
