"""The ways of making maps of a network, by the names of flags: what is checked, and how a reader is told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn

from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.explain.checks.maps import edges
from fpclass.explain.checks.words import CONTROL
from fpclass.explain.methods import METHODS, Method
from fpclass.explain.stages import default_stage, find_path


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


def ways_of(model: nn.Module, images: Any, methods: Sequence[str], config: Config) -> list[Way]:
    """The ways of making maps that some methods are, and edges of the picture to compare them with.

    Raises:
      ConfigError: the network has no stage with maps, which a method needs, or not the one that `explain.stage` names.
    """
    stage = config.explain.stage or default_stage(model, images)
    needing = [METHODS[name].title for name in methods if METHODS[name].needs_stage]
    if needing and not stage:
        others = [name for name, method in METHODS.items() if not method.needs_stage]
        raise ConfigError(
            f"{bare(config.model.name)} names no stage with maps, which {needing[0]} looks at: choose --method of "
            f"{', '.join(others)}, or name one by fpclass.models.layers.stage (docs/extending.md)"
        )
    if needing:
        find_path(model, images.shape[1:], stage)
    return [
        *(way_of(model, METHODS[name], stage) for name in methods),
        Way(CONTROL, lambda variables, x, classes: edges(x, classes), needs_network=False),
    ]


def way_of(model: nn.Module, method: Method, stage: str) -> Way:
    """One method, at a stage where it needs one."""
    if method.needs_stage:
        return Way(f"{method.title} of {stage}", partial(_maps, method, model, {"stage": stage}))
    return Way(method.title, partial(_maps, method, model, {}))


def _maps(method: Method, model: nn.Module, settings: dict[str, Any], variables: Any, images: Any, classes: Any) -> Any:
    return method.function(model, variables, images, classes, **settings)
