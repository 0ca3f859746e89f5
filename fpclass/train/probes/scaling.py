"""Features as a probe is fitted to them: standardised, stages weighed, and in few coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

CONSTANT = 1e-5
"""A feature that varies by less than this share of its mean is constant but for rounding, and has no say."""
LEAST_SPREAD = 0.01
"""Share of the median deviation of a stage's features that is the least to divide one by: a feature that is silent in
all but a few training images would decide alone, and by hundreds of nats, about a new image that wakes it."""
ROUNDING = 1e-10
"""Of the mean square length of an image's features, what is added to the square of its own: alike images have no root
of their products without."""


def standardising(
    features: Float[np.ndarray, "n d"], widths: Sequence[int]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean of each feature, and what makes its standard deviation 1; of a constant one, 0.

    A deviation below `LEAST_SPREAD` of the median of those of its stage that vary counts as so large.
    """
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    varies = std > CONSTANT * np.abs(mean)
    stages = np.split(np.arange(len(std)), np.cumsum([*widths] or [len(std)])[:-1])
    least = [LEAST_SPREAD * (np.median(std[stage][varies[stage]]) if varies[stage].any() else 0.0) for stage in stages]
    spread = np.maximum(std, np.repeat(least, list(map(len, stages))))
    return mean, np.divide(1.0, spread, out=np.zeros_like(std), where=varies)


def factors_of(widths: Sequence[int], balance: float, num_features: int) -> Float[np.ndarray, " d"]:
    """What each standardised feature is multiplied by for a balance; the sum of their squares stays the same."""
    sizes = np.array([*widths] or [num_features])
    return np.repeat((num_features / (len(sizes) * sizes)) ** (balance / 2), sizes)


def compressed(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
    """The same images in coordinates of their own, where they have more features than there are images: r <= n.

    An L2 penalty is blind to rotations, so the regression is the same in them, and the faster the fewer they are. They
    are the lower triangular root of the images' products.
    """
    if x.shape[1] <= len(x) or not x.any():  # the images are all alike
        return x
    products = x @ x.T
    return np.linalg.cholesky(products + ROUNDING * np.trace(products) / len(x) * np.eye(len(x)))


def expanded(
    kernel: Float[np.ndarray, "r c"], root: Float[np.ndarray, "n r"], x: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "d c"]:
    """The kernel on features that gives what one on coordinates of `compressed` does."""
    return x.T @ solve_triangular(root, kernel, lower=True, trans=1)
