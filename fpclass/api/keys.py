"""What a caller says of a training, as arguments of the command line: there is one way into a config, and one check."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.errors import ConfigError
from fpclass.experiment.propose import Short


def short_of(
    root: str | pathlib.Path,
    model: str | None,
    label: str | None,
    group: str | None,
    size: int | tuple[int, int] | None,
    minutes: float | None = None,
) -> Short:
    """The arguments of a call as the command line has them; None where they are not given."""
    sides = "x".join(map(str, size)) if isinstance(size, tuple) else str(size or "")
    return Short(
        root=str(root), label=label or "", group=group or "", size=sides, minutes=str(minutes or ""), model=model or ""
    )


def as_overrides(keys: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys of a config, dotted or nested, as arguments of the command line.

    Raises:
      ConfigError: a value that no key takes.
    """
    overrides = []
    for key, value in keys.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            overrides += as_overrides(value, f"{name}.")
        else:
            overrides.append(f"--config.{name}={_text(value, name)}")
    return overrides


def _text(value: Any, key: str) -> str:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return repr(_as_tuple(value))
    if isinstance(value, bool | int | float | str | pathlib.Path):
        return str(value)
    raise ConfigError(f"config.{key} is {value!r}: expected a number, a text, or a tuple of them")


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value
