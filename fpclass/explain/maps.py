"""Raw maps: what is the matter with them, and as parts of a scale."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RawMaps = Float[np.ndarray, "n h w"]


def what_is_wrong(maps: RawMaps) -> list[str]:
    """Of each map why it shows nothing, or ""."""

    def of(heat: np.ndarray) -> str:
        if not np.isfinite(heat).all():
            return "the map is not finite: numbers overflowed on the way to it"
        if not heat.any():
            return "the map is zero everywhere"
        return "" if heat.max() > 0 else "the map is nowhere above zero"

    return [of(heat) for heat in maps]


def scale_maps(maps: RawMaps, scale: str = "own", quantile: float = 1.0) -> Float[np.ndarray, "n h w"]:
    """What is positive of each map, from 0 to 1; a map with nothing positive, or that is not finite, is zeros.

    Args:
      scale: "own" divides each by its own largest value, which hides how weak one is; "shared" all by the largest of
        all.
      quantile: of each map that is 1, and all above it; below 1 where single pixels would darken all others.
    """
    maps = np.asarray(maps)
    finite = np.isfinite(maps).all(axis=(1, 2), keepdims=True)
    positive = np.maximum(np.where(finite, maps, 0), 0)
    top = positive.max(axis=(1, 2), keepdims=True)
    if quantile < 1:
        lower = np.quantile(positive, quantile, axis=(1, 2), keepdims=True)
        top = np.where(lower > 0, lower, top)
    top = top.max(axis=0, keepdims=True) if scale == "shared" and len(top) else top
    return np.minimum(positive / np.where(top > 0, top, 1), 1)
