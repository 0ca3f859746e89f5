"""What a caller says of a training, as arguments of the command line: there is one way into a config, and one check."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.data.files import csv_files
from fpclass.errors import ConfigError
from fpclass.files import expanded
from fpclass.models.pretrained.manifest import MANIFEST

CONFIG = "configs/base.py"
"""What a training starts from where nothing else is said."""
SIZE = 128
"""Height and width, in pixels, where nobody says."""


def overrides_for(
    root: str | pathlib.Path,
    *,
    is_described: bool = False,
    model: str | None = None,
    label: str | None = None,
    group: str | None = None,
    size: int | tuple[int, int] | None = None,
) -> list[str]:
    """The keys that a data set and the short words for it stand for, as arguments of the command line.

    Args:
      root: folder of the data set, with a CSV in it or a folder per class, or an archive.
      is_described: whether the file of an experiment says what the data are; then only the root is put into it.
      model: a network, or published weights of one.
      label: column of the classes.
      group: column of the people who must not be split.
      size: height and width, or one for both, pixels.

    Raises:
      ConfigError: columns are named, and there is no CSV.
    """
    keys: dict[str, Any] = {"data.root": str(root)}
    if not is_described:
        folder = expanded(str(root))
        has_csv = folder.is_dir() and bool(csv_files(folder))
        if folder.is_dir() and not has_csv and (label or group):
            raise ConfigError(f"{root}: label and group name columns of a CSV, and there is none; leave them out")
        keys |= {"name": folder.name.partition(".")[0] or "run", "data.source": "csv" if has_csv else "folder"}
        keys |= {"data.channels": 3, "data.image_size": (SIZE, SIZE)}
    if model is not None:
        keys["model.weights" if model in MANIFEST else "model.name"] = model
    given: dict[str, Any] = {"data.label_column": label, "data.group_column": group}
    given["data.image_size"] = (size, size) if isinstance(size, int) else size
    return as_overrides(keys | {key: value for key, value in given.items() if value is not None})


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
