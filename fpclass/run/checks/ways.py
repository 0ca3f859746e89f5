"""The ways of making maps of a network, by the names of flags: what is checked, and how a reader is told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from fpclass.explain.checks.maps import edges
from fpclass.explain.checks.words import CONTROL
from fpclass.explain.grad_cam import find_path, grad_cam
from fpclass.explain.stages import default_stage


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of making maps.

    Attributes:
      title: what a reader is told.
      make_maps: raw maps, of variables, normalised images and a class of each.
      needs_network: whether variables have any influence on them.
    """

    title: str
    make_maps: Callable[..., Any]
    needs_network: bool = True


def ways_of(model: nn.Module, images: Any, methods: Sequence[str], stage: str) -> list[Way]:
    """The ways of making maps that some methods are, and edges of the picture to compare them with."""
    chosen = stage or default_stage(model, images)
    find_path(model, images.shape[1:], chosen)
    ways = [Way(f"Grad-CAM of {chosen}", lambda variables, x, k: grad_cam(model, variables, x, k, chosen))]
    return [*ways, Way(CONTROL, lambda variables, x, k: edges(x, k), needs_network=False)]
