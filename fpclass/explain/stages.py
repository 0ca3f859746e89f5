"""The named stages of a network: their names in the order of the data flow, and their outputs as maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from fpclass.models.network import OUTPUT


class Stage(NamedTuple):
    """Path under which the output of a stage is recorded, and its shape with the batch."""

    path: tuple[str, ...]
    shape: tuple[int, ...]


def stage_names(model: nn.Module, images: Float[Array, "n h w c"]) -> tuple[str, ...]:
    """The named stages of a model for images of this shape, for example "conv2/relu" or "layer4_1"."""
    return tuple(find_stages(model, images))


def find_stages(model: nn.Module, images: Float[Array, "n h w c"]) -> dict[str, Stage]:
    """The stages by name, in the order of the data flow."""
    stages: dict[str, Stage] = {}

    def trace(images: Array) -> None:
        # What leaves a traced function is sorted by name; in here it still is in the order in which it was recorded.
        variables = model.init(jax.random.key(0), images, train=False)
        recorded: dict[tuple[str, ...], Any] = flatten_dict(variables.get("perturbations", {}))  # pyright: ignore[reportAssignmentType]
        stages.update({"/".join(path).removesuffix(OUTPUT): Stage(path, leaf.shape) for path, leaf in recorded.items()})

    jax.eval_shape(trace, images)
    return stages


def default_stage(model: nn.Module, images: Float[Array, "n h w c"]) -> str:
    """The stage that Grad-CAM looks at unless told otherwise: the model's own choice, or its last one with places.

    "" where there is none: a network of the user's need not name its stages.
    """
    if chosen := getattr(model, "cam_stage", ""):
        return chosen
    having = [name for name, stage in find_stages(model, images).items() if has_places(model, stage)]
    return having[-1] if having else ""


def has_places(model: nn.Module, stage: Stage) -> bool:
    """Whether the output of a stage is a map, or tokens that stand for places of the image."""
    return len(stage.shape) == 4 or (len(stage.shape) == 3 and _patch_size(model) > 0)


def as_maps(model: nn.Module, images: Float[Array, "n h w c"], output: Array) -> Float[Array, "n h2 w2 c2"]:
    """Maps as they are; of tokens those that stand for patches, laid out as these lie in the image."""
    if output.ndim == 4:
        return output
    patch_size, first = _patch_size(model), getattr(model, "prefix_tokens", 0)
    return output[:, first:].reshape(len(output), images.shape[1] // patch_size, images.shape[2] // patch_size, -1)


def _patch_size(model: nn.Module) -> int:
    """Pixels of a token's side; 0 for models without tokens."""
    return getattr(model, "patch_size", 0)
