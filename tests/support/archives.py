"""Arrays of .npz files."""

from __future__ import annotations

import pathlib

import numpy as np


def arrays_of(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a file, closed: left to the garbage collector that is now and then a warning, an error here."""
    with np.load(path) as file:
        return dict(file)
