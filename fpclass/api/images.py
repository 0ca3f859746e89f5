"""What may be given as images: paths, bytes, pictures of Pillow, arrays; one, or many in whatever holds them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from fpclass.errors import DataError
from fpclass.run.predictor import ImageSource, find_inputs

CHANNELS = (1, 3, 4)
"""Of the last axis of an array: grey, RGB, RGBA."""


@dataclasses.dataclass(frozen=True)
class GivenImages:
    """Images as a caller gave them.

    Attributes:
      images: N files, bytes of files, or pictures.
      names: what tables call them: the path, or "image 3".
      folders: that were given, whose images are among them.
      is_single: whether one image was given, not a list of one.
    """

    images: list[ImageSource]
    names: list[str]
    folders: list[pathlib.Path]
    is_single: bool


def read_given(x: Any) -> GivenImages:
    """Takes what was given apart; decodes nothing.

    Args:
      x: an image: a path, bytes, a picture of Pillow, or an array as `to_picture` takes it; a folder of images; or
        several of all these: a list, anything to iterate over, or an array [N, H, W, C].

    Raises:
      DataError: something else, no such file, or an array of which it is not clear what it holds.
    """
    if isinstance(x, str | os.PathLike):
        path = pathlib.Path(x)
        if path.is_dir():
            return _several([path])
    elif not isinstance(x, bytes | bytearray | memoryview | Image.Image):
        if (array := _as_array(x)) is None:
            if not isinstance(x, Iterable):
                raise DataError(f"a {type(x).__name__} is no image; give a path, bytes, a PIL image or an array")
            return _several(x)
        if array.ndim == 4 or array.dtype.kind in "OUS":
            return _several(array)
        x = array
    return dataclasses.replace(_several([x]), is_single=True)


def _several(items: Iterable[Any]) -> GivenImages:
    images: list[ImageSource] = []
    names, folders = [], []
    for item in items:
        if isinstance(item, str | os.PathLike):
            path = pathlib.Path(item)
            files = find_inputs([path])
            folders += [path] if path.is_dir() else []
            images += files
            names += map(str, files)
            continue
        images.append(_image(item))
        names.append(f"image {len(names)}")
    return GivenImages(images, names, folders, is_single=False)


def _image(item: Any) -> ImageSource:
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, Image.Image):
        return item
    if (array := _as_array(item)) is None:
        raise DataError(f"a {type(item).__name__} is no image; give a path, bytes, a PIL image or an array")
    return to_picture(array)


def _as_array(x: Any) -> np.ndarray | None:
    """An array of NumPy, JAX, PyTorch or a data frame's column; None of anything else, such as a list."""
    return np.asarray(x) if hasattr(x, "__array__") else None


def to_picture(array: np.ndarray) -> Image.Image:
    """An array as a picture.

    Args:
      array: (H, W) grey or (H, W, C) with C grey, RGB or RGBA: uint8, or floats in [0, 1].

    Raises:
      DataError: another shape or type, or floats beyond [0, 1].
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in CHANNELS) or not array.size:
        advice = "np.moveaxis(x, -3, -1) puts channels last, x[..., None] makes grey images of (N, H, W)"
        wanted = "expected (H, W), or (H, W, C) with C 1, 3 or 4"
        raise DataError(f"an array of shape {array.shape} is no image: {wanted}; {advice}")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # false for NaN as well
            advice = "divide by 255, or give np.uint8"
            raise DataError(f"an array of floats from {low:g} to {high:g}: expected intensities in [0, 1]; {advice}")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"an array of {array.dtype}: expected np.uint8 from 0 to 255, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))
