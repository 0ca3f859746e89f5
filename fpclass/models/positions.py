"""Learnt position embeddings of square images, made to fit images of other sizes the way their originals do it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Resampling = Callable[[int, int], Float[np.ndarray, "new old"]]
"""From how many numbers there are in a row, and how many there shall be, to the matrix that makes these of those."""


def resize_positions(
    positions: Float[np.ndarray, "1 t c"],
    image_size: tuple[int, int],
    *,
    patch_size: int,
    resampling: Resampling,
    has_class_token: bool = True,
) -> Float[np.ndarray, "1 t2 c"]:
    """Makes the position embedding of square images fit others, along each axis by itself.

    The class token keeps its own; where the grid is the same, the array itself is returned.

    Args:
      positions: of the class token, if there is one, then of square-many patches, row by row; any float type. Another
        array is left as it is, for the loader to refuse.
    """
    grid = (image_size[0] // patch_size, image_size[1] // patch_size)
    first = int(has_class_token)
    side = math.isqrt(max(0, positions.shape[1] - first)) if positions.ndim == 3 else 0
    if side == 0 or positions.shape[:2] != (1, first + side**2) or grid == (side, side):
        return positions
    rows, columns = (resampling(side, number) for number in grid)
    old = positions[0, first:].reshape(side, side, -1).astype(np.float64)
    new = np.einsum("ri,cj,ijf->rcf", rows, columns, old, optimize=True).astype(positions.dtype)
    return np.concatenate([positions[:, :first], new.reshape(1, grid[0] * grid[1], -1)], axis=1)


def cubic_between_corners(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Bicubic; patches at the corners keep their positions.

    Source: torchvision.models.vision_transformer.interpolate_embeddings (align_corners=True).
    """
    return _interpolation(np.linspace(0, old - 1, new), old, _cubic)


def linear_between_corners(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Bilinear; patches at the corners keep their positions.

    Source: big_vision.models.vit.resample_posemb (scipy.ndimage.zoom of order 1).
    """
    return _interpolation(np.linspace(0, old - 1, new), old, lambda d: np.maximum(0, 1 - d))


def cubic_of_dinov2(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Bicubic; a patch lies where its centre does, but the new ones are 0.1 patches too narrow, as in DINO and DINOv2.

    Source: DinoVisionTransformer.interpolate_pos_encoding of Meta's dinov2, with interpolate_offset=0.1.
    """
    return _interpolation((np.arange(new) + 0.5) * old / (new + 0.1) - 0.5, old, _cubic)


def antialiased_cubic(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Bicubic; a patch lies where its centre does, and fewer of them average over what lies between.

    Source: torch.nn.functional.interpolate with antialias=True, where a = -0.5, as Pillow's; DINOv2 with registers and
    open_clip use it.
    """
    width = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = _cubic(np.abs(centres[:, None] - np.arange(old)) / width, a=-0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _interpolation(
    centres: Float[np.ndarray, " new"], old: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, "new old"]:
    """What interpolates a row of numbers at places between them; beyond an end the number there is repeated."""
    taps = np.arange(-3, old + 3)
    return kernel(np.abs(centres[:, None] - taps)) @ np.eye(old)[np.clip(taps, 0, old - 1)]


def _cubic(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    """The cubic convolution kernel at distances; Keys, Cubic convolution interpolation, 1981, equation 15."""
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))
