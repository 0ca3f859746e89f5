"""Weights of images that come of drawing groups: kept by group, since nearly everything needs only sums over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Int

IMAGE_WEIGHTS_PER_PART = 1 << 20
"""Weights of single images held at once (8 MiB); the metrics need a few arrays of that size. Larger ones are slower."""

MAX_DISTINCT = 5000
"""Distinct values up to which resamples of ranks are exact; more are put together by their quantiles."""


def coarse_ranks(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """In which of `MAX_DISTINCT` parts of equally many each value is, from 0; equal ones are in the same part."""
    return np.searchsorted(np.quantile(values, np.arange(1, MAX_DISTINCT) / MAX_DISTINCT), values)


def sums_by_rank(ranks: Int[np.ndarray, " n"], is_so: np.ndarray) -> Any:
    """Sparse [N, 2 R]: weights [B, N] times it are the weights of each rank, of images that are so and of others."""
    from scipy import sparse

    num_images, size = len(ranks), int(ranks.max()) + 1
    places = np.arange(num_images), np.where(is_so, ranks, ranks + size)
    return sparse.csr_array((np.ones(num_images), places), shape=(num_images, 2 * size))


class Draws:
    """Stands for weights [B, N] where all images of a group weigh the same; sums of images cost as many as groups do.

    `draws @ values`, `draws.sum(axis=1)`, `len(draws)` and `draws[:, rows]` are those of the array; `parts` gives the
    array itself, some rows at a time, to what needs every image (`in_parts`).
    """

    def __init__(self, counts: Float[np.ndarray, "b g"], groups: Int[np.ndarray, " n"]):
        """Takes how often each group was drawn, and the group of each image, in [0, G)."""
        self.counts, self.groups = counts, groups
        self.shape = len(counts), len(groups)

    def __len__(self) -> int:
        return len(self.counts)

    def __matmul__(self, values: Any) -> np.ndarray:
        """Weighted sums over the images of values [N, ...], an array or sparse."""
        return self.counts @ (self._images_of_groups @ values)

    def sum(self, axis: int) -> np.ndarray:
        """The weight of all images, [B]; of axis 1 alone."""
        if axis != 1:
            raise ValueError(f"axis {axis}: weights are summed over images, axis 1")
        return self @ np.ones(len(self.groups))

    @overload
    def __getitem__(self, rows: tuple[slice, int]) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: tuple[slice, np.ndarray]) -> Draws: ...
    def __getitem__(self, rows: tuple[slice, Any]) -> Draws | np.ndarray:
        """The weights of some of the images, in the order of these; of one of them an array."""
        resamples, images = rows
        if np.ndim(images) == 0:
            return self.counts[resamples, self.groups[images]]
        there, groups = np.unique(self.groups[images], return_inverse=True)
        return Draws(self.counts[resamples, there], groups)

    def parts(self) -> Iterator[Float[np.ndarray, "b n"]]:
        """The array of weights, some rows after the other."""
        size = max(1, IMAGE_WEIGHTS_PER_PART // max(1, len(self.groups)))
        for start in range(0, len(self.counts), size):
            yield np.take(self.counts[start : start + size], self.groups, axis=1)

    @functools.cached_property
    def _images_of_groups(self) -> Any:
        """1 where an image is of a group, sparse [G, N]."""
        from scipy import sparse

        num_images = len(self.groups)
        entries = np.ones(num_images), (self.groups, np.arange(num_images))
        return sparse.csr_array(entries, shape=(self.counts.shape[1], num_images))


Weights = Float[np.ndarray, "b n"] | Draws
"""How often each image counts, not negative; one row per weighting."""


def in_parts(evaluate: Callable[[np.ndarray], np.ndarray]) -> Callable[[Weights], np.ndarray]:
    """For a function of weights [B, N] that needs those of every image: gives it `Draws` part after part."""

    @functools.wraps(evaluate)
    def evaluate_parts(weights: Weights) -> np.ndarray:
        if isinstance(weights, np.ndarray):
            return evaluate(weights)
        return np.concatenate([evaluate(part) for part in weights.parts()])

    return evaluate_parts
