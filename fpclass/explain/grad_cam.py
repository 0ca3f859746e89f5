"""What a network sees: Grad-CAM for any named stage, any class and any images, and feature maps of all stages."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from fpclass.errors import ConfigError
from fpclass.models.network import OUTPUT

MAX_STAGES = 8
"""Stages of which feature maps are shown, at most."""
MAX_CHANNELS = 16
"""Channels that are shown of each."""


@dataclasses.dataclass(frozen=True)
class FeatureMaps:
    """What a stage makes of one image: some of its channels, as pictures.

    Attributes:
      stage: its name.
      shape: (height, width, channels) of the whole.
      channels: numbers of the channels that are shown, those first that vary most; none that is the same everywhere.
      maps: the channels from `scale_channels`, [shown, height, width] in [0, 1].
    """

    stage: str
    shape: tuple[int, int, int]
    channels: Int[np.ndarray, " shown"]
    maps: Float[np.ndarray, "shown h w"]


def stage_names(model: nn.Module, images: Float[Array, "n h w c"]) -> tuple[str, ...]:
    """The named stages of a model for images of this shape, for example "conv2/relu" or "layer4_1"."""
    return tuple(_stages(model, images))


def grad_cam(
    model: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    classes: Int[Array, " n"],
    stage: str,
) -> Float[Array, "n h2 w2"]:
    """Computes how much each place of a stage speaks for a class.

    The channels of the stage are weighted by the gradient of the class's logit, averaged over places, and added up;
    what is negative is cut off. Of tokens only the patches are places, the class token is none. (Where the
    classifier reads the class token alone, the patches have no say behind the last attention: there the map is zero.)

    Args:
      model: the network, in a form that has this stage.
      variables: its params and batch_stats.
      images: normalised, as the model takes them.
      classes: class index to explain, one per image.
      stage: one of `stage_names`.

    Returns:
      Raw maps at the stage's (height, width), at least 0, in units of the logit per place; see `scale_maps`. Tokens
      are laid out as their patches lie in the image.

    Raises:
      ConfigError: the model has no such stage, or the stage has no places.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    stages = _stages(model, images)
    if stage not in stages:
        raise ConfigError(f"explain.stage is {stage!r}: the model's stages are {', '.join(stages)}")
    path, shape = stages[stage]
    if not _has_places(model, shape):
        having = [name for name, (_, other) in stages.items() if _has_places(model, other)]
        raise ConfigError(
            f"explain.stage is {stage!r}: its output {shape} has no places to look at; stages with places are "
            f"{', '.join(having)}"
        )
    return _grad_cam(model, variables, images, jnp.asarray(classes), path)


def scale_maps(maps: Float[Array, "n h w"]) -> Float[Array, "n h w"]:
    """Divides each map by its own maximum, so that it lies in [0, 1]; a map of zeros stays one."""
    top = maps.max(axis=(1, 2), keepdims=True)
    return maps / jnp.where(top > 0, top, 1)


def feature_maps(
    model: nn.Module, variables: dict[str, Any], image: Float[Array, "h w c"]
) -> tuple[list[FeatureMaps], int]:
    """The channels that vary most over an image, of stages from the first to the last.

    Stages that are vectors have no maps, nor has one place alone; and where one stage hands on what the last one was,
    the two are shown as one. Of more than `MAX_STAGES` so many are taken at equal distances, both ends among them.

    Args:
      model: the network, in a form that has the stages that are to be seen.
      variables: its params and batch_stats.
      image: normalised, as the model takes it.

    Returns:
      The stages in the order of the data flow; and how many they were taken from.
    """
    images = image[None]
    recorded = _record(model, variables, images)
    found: dict[str, np.ndarray] = {}
    for name, (path, shape) in _stages(model, images).items():
        if _has_places(model, shape):
            maps = np.asarray(_as_maps(model, images, recorded[path])[0], np.float32)
            is_new = not found or not np.array_equal(maps, list(found.values())[-1])
            if is_new and maps.shape[0] * maps.shape[1] > 1:
                found[name] = maps
    names = list(found)
    shown = np.linspace(0, len(names) - 1, min(MAX_STAGES, len(names))).round().astype(int)
    result = []
    for name in (names[i] for i in shown):
        maps = found[name]
        channels = most_varied(maps, MAX_CHANNELS)
        result.append(FeatureMaps(name, maps.shape, channels, scale_channels(maps[..., channels])))
    return result, len(found)


def most_varied(maps: Float[np.ndarray, "h w c"], num_channels: int) -> Int[np.ndarray, " shown"]:
    """The channels with the largest standard deviation over the places, largest first.

    None that is the same everywhere. Where two are alike the one with the lower number comes first.
    """
    spread = np.where(np.ptp(maps, axis=(0, 1)) > 0, maps.std(axis=(0, 1), dtype=np.float64), 0)
    order = np.argsort(-spread, kind="stable")
    return order[spread[order] > 0][:num_channels]


def scale_channels(maps: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "c h w"]:
    """Each channel on a scale of its own: its mean is 1/2, two standard deviations below are 0, two above are 1.

    What lies beyond is cut off, so that one bright place does not darken all others. No channel may be the same
    everywhere.
    """
    mean, sd = (of(maps, axis=(0, 1), dtype=np.float64) for of in (np.mean, np.std))
    return np.moveaxis(np.clip(0.5 + (maps - mean) / (4 * sd), 0, 1), -1, 0)


@partial(jax.jit, static_argnames=("model",))
def _record(model: nn.Module, variables: dict[str, Any], images: Array) -> dict[tuple[str, ...], Array]:
    """The outputs of all named stages."""
    _, recorded = model.apply(variables, images, train=False, mutable=["stages"])
    return flatten_dict(recorded["stages"])  # pyright: ignore[reportReturnType]


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
    gradient, activation = (_as_maps(model, images, x) for x in (gradient, activation))
    weights = gradient.mean(axis=(1, 2))
    return nn.relu(jnp.einsum("nhwc,nc->nhw", activation, weights))


def _stages(model: nn.Module, images: Array) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Where each named stage is recorded and the shape of its output, in the order of the data flow."""
    found: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}

    def trace(images: Array) -> None:
        # What leaves a traced function is sorted by name; in here it still is in the order in which it was recorded.
        variables = model.init(jax.random.key(0), images, train=False)
        recorded: dict[tuple[str, ...], Any] = flatten_dict(variables.get("perturbations", {}))  # pyright: ignore[reportAssignmentType]
        found.update({"/".join(path).removesuffix(OUTPUT): (path, leaf.shape) for path, leaf in recorded.items()})

    jax.eval_shape(trace, images)
    return found


def _has_places(model: nn.Module, shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 or (len(shape) == 3 and _patch_size(model) > 0)


def _patch_size(model: nn.Module) -> int:
    """Pixels of a token's side; 0 for models without tokens."""
    return getattr(model, "patch_size", 0)


def _as_maps(model: nn.Module, images: Array, x: Array) -> Float[Array, "n h w c"]:
    """Maps as they are; of tokens those behind the class token, laid out as their patches lie in the image."""
    if x.ndim == 4:
        return x
    patch_size = _patch_size(model)
    return x[:, 1:].reshape(len(x), images.shape[1] // patch_size, images.shape[2] // patch_size, -1)
