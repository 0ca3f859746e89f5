"""Feature maps: the channels of each stage that vary most over one image."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from fpclass.explain.stages import as_maps, find_stages, has_places

MAX_STAGES = 8
"""Stages of which feature maps are shown, at most."""
MAX_CHANNELS = 16
"""Channels that are shown of each."""


@dataclasses.dataclass(frozen=True)
class FeatureMaps:
    """Some channels of a stage's output for one image, as pictures.

    Attributes:
      shape: (height, width, channels) of the whole.
      channels: numbers of the channels that are shown, those first that vary most; none that is the same everywhere.
      maps: the channels from `scale_channels`, [shown, height, width] in [0, 1].
    """

    stage: str
    shape: tuple[int, int, int]
    channels: Int[np.ndarray, " shown"]
    maps: Float[np.ndarray, "shown h w"]


def feature_maps(
    model: nn.Module, variables: dict[str, Any], image: Float[Array, "h w c"]
) -> tuple[list[FeatureMaps], int]:
    """The channels that vary most over an image, of stages from the first to the last.

    Stages that are vectors have no maps, nor has one place alone; and where one stage hands on what the last one was,
    the two are shown as one. Of more than `MAX_STAGES` so many are taken at equal distances, both ends among them.

    The model is in a form that has these stages, the image normalised.

    Returns:
      The stages in the order of the data flow; and how many they were taken from.
    """
    images = image[None]
    if not (known := find_stages(model, images)):
        return [], 0
    recorded = _record(model, variables, images)
    maps_of: dict[str, np.ndarray] = {}
    for name, stage in known.items():
        if has_places(model, stage):
            maps = np.asarray(as_maps(model, images, recorded[stage.path])[0], np.float32)
            is_new = not maps_of or not np.array_equal(maps, list(maps_of.values())[-1])
            if is_new and maps.shape[0] * maps.shape[1] > 1:
                maps_of[name] = maps
    names = list(maps_of)
    shown = np.linspace(0, len(names) - 1, min(MAX_STAGES, len(names))).round().astype(int)
    result = []
    for name in (names[i] for i in shown):
        maps = maps_of[name]
        channels = most_varied(maps, MAX_CHANNELS)
        result.append(FeatureMaps(name, maps.shape, channels, scale_channels(maps[..., channels])))
    return result, len(maps_of)


def most_varied(maps: Float[np.ndarray, "h w c"], num_channels: int) -> Int[np.ndarray, " shown"]:
    """Numbers of the channels that vary over the places, largest standard deviation first; of equals the first."""
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
    _, recorded = model.apply(variables, images, train=False, mutable=["stages"])
    return flatten_dict(recorded["stages"])  # pyright: ignore[reportReturnType]
