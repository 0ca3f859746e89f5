"""The named stages of a network: their names in the order of the data flow, and their outputs as maps."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from fpclass.errors import ConfigError
from fpclass.models.network import OUTPUT

SMALLEST_SIDE = 7
"""Places at least, high and wide, of the maps of a stage that is chosen by itself: fewer are a blob in the picture."""


class Stage(NamedTuple):
    """Path under which the output of a stage is recorded, and its shape with the batch."""

    path: tuple[str, ...]
    shape: tuple[int, ...]


def stage_names(model: nn.Module, images: Float[Array, "n h w c"]) -> tuple[str, ...]:
    """The named stages of a model for images of this shape, for example "conv2/relu" or "layer4_1"."""
    return tuple(find_stages(model, images))


def find_stages(model: nn.Module, images: Float[Array, "n h w c"]) -> dict[str, Stage]:
    """The stages by name, in the order of the data flow; the shapes are those of one image."""
    return dict(_stages_of(model, tuple(images.shape[1:])))


@functools.lru_cache(maxsize=64)
def _stages_of(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}

    def trace(images: Array) -> None:
        # What leaves a traced function is sorted by name; in here it still is in the order in which it was recorded.
        variables = model.init(jax.random.key(0), images, train=False)
        recorded: dict[tuple[str, ...], Any] = flatten_dict(variables.get("perturbations", {}))  # pyright: ignore[reportAssignmentType]
        stages.update({"/".join(path).removesuffix(OUTPUT): Stage(path, leaf.shape) for path, leaf in recorded.items()})

    jax.eval_shape(trace, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return stages


def find_path(model: nn.Module, image_shape: tuple[int, ...], stage: str) -> tuple[str, ...]:
    """Where a model records the output of a stage that can be looked at, for images of [h, w, c].

    Raises:
      ConfigError: the model has no such stage, or the stage has no places.
    """
    stages = _stages_of(model, tuple(image_shape))
    if stage not in stages:
        raise ConfigError(f"explain.stage is {stage!r}: the model's stages are {', '.join(stages)}")
    if not has_places(model, stages[stage]):
        having = [name for name, other in stages.items() if has_places(model, other)]
        raise ConfigError(
            f"explain.stage is {stage!r}: its output {stages[stage].shape[1:]} has no places to look at; stages with "
            f"places are {', '.join(having)}"
        )
    return stages[stage].path


def default_stage(model: nn.Module, images: Float[Array, "n h w c"]) -> str:
    """The stage that is looked at unless told otherwise: the last one whose maps are no blob in the picture.

    That is the model's own choice, or its last stage with places; where those are fewer than `SMALLEST_SIDE` on a side,
    the last stage before it that has so many, or of those that there are the first with the most.

    "" where there is none: a network of the user's need not name its stages.
    """
    sizes = {name: map_size(model, images, name) for name in _having_places(model, images)}
    if not sizes:
        return ""
    chosen = preferred_stage(model, images)
    if min(sizes[chosen]) >= SMALLEST_SIDE:
        return chosen
    earlier = list(sizes)[: list(sizes).index(chosen) + 1]
    fine = [name for name in earlier if min(sizes[name]) >= SMALLEST_SIDE]
    return fine[-1] if fine else max(earlier, key=lambda name: min(sizes[name]))


def preferred_stage(model: nn.Module, images: Float[Array, "n h w c"]) -> str:
    """The model's own choice, or its last stage with places, however coarse; "" where there is none."""
    having = _having_places(model, images)
    chosen = getattr(model, "cam_stage", "")
    return chosen or (having[-1] if having else "")


def map_size(model: nn.Module, images: Float[Array, "n h w c"], stage: str) -> tuple[int, int]:
    """(height, width) of the maps of a stage with places."""
    shape = find_stages(model, images)[stage].shape
    if len(shape) == 4:
        return shape[1], shape[2]
    patch_size = _patch_size(model)
    return images.shape[1] // patch_size, images.shape[2] // patch_size


def has_places(model: nn.Module, stage: Stage) -> bool:
    """Whether the output of a stage is a map, or tokens that stand for places of the image."""
    return len(stage.shape) == 4 or (len(stage.shape) == 3 and _patch_size(model) > 0)


def as_maps(model: nn.Module, images: Float[Array, "n h w c"], output: Array) -> Float[Array, "n h2 w2 c2"]:
    """Maps as they are; of tokens those that stand for patches, laid out as these lie in the image."""
    if output.ndim == 4:
        return output
    patch_size = _patch_size(model)
    patches = output[:, prefix_tokens(model, output) :]
    return patches.reshape(len(output), images.shape[1] // patch_size, images.shape[2] // patch_size, -1)


def prefix_tokens(model: nn.Module, output: Array) -> int:
    """How many tokens of a stage's output come before those of the patches; 0 of maps."""
    return 0 if output.ndim == 4 else getattr(model, "prefix_tokens", 0)


def _having_places(model: nn.Module, images: Float[Array, "n h w c"]) -> list[str]:
    return [name for name, stage in find_stages(model, images).items() if has_places(model, stage)]


def _patch_size(model: nn.Module) -> int:
    """Pixels of a token's side; 0 for models without tokens."""
    return getattr(model, "patch_size", 0)
