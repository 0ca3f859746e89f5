"""What all formats of exports share: what a model that was written is run on, and how its packages are imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from fpclass.common.console import program
from fpclass.data.resize import Decoding
from fpclass.errors import ConfigError

Images = Sequence[UInt8[np.ndarray, "n H W C"]]
"""The same images for each decoding of a predictor."""
Run = Callable[[Images], Float[np.ndarray, "n K"]]


def input_name(decoding: Decoding) -> str:
    """What exports call the input of images of one decoding."""
    height, width, channels = decoding.shape
    return f"images_{height}x{width}x{channels}"


def import_or_say(name: str, extra: str) -> Any:
    """Imports a module that only one format needs.

    Raises:
      ConfigError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{program()} export --to={extra} needs the package {name} ({error}): see docs/bundles.md"
        ) from None
