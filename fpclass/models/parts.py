"""How many images go through a network at once: as many as memory holds, and on a CPU as its cache holds."""

from __future__ import annotations

import math

import jax
from jaxtyping import PyTree

EVAL_BATCH = 256
"""Images that are evaluated at once, at most."""
EVAL_VALUES = EVAL_BATCH * 120 * 80
"""Values of all images that are evaluated at once, about: deep networks keep many times as many."""
CACHED_VALUES = 4 * 224 * 224 * 3
"""The same on a CPU, whose cache then holds what a network keeps of them: at 224 x 224, parts of 4 images take 0.93
(ResNet-50), 0.86 (ViT-B) and 0.66 (Lite0) of the time that 16 take at once (benchmarks/predict_parts.py)."""
LARGEST_KERNEL = 2**24
"""Values of a kernel. A larger one is better read for many images: AlexNet takes 1.4 of the time in parts of 4."""


def part_size(size: int, shape: tuple[int, ...], params: PyTree) -> int:
    """Images of a set [N, H, W, C] that take a network the least time at once: a batch of so many, fewer on a CPU.

    It is halved, so that batches of streamed images divide into the same parts.
    """
    largest = max((leaf.size for leaf in jax.tree.leaves(params)), default=0)
    if jax.default_backend() != "cpu" or largest > LARGEST_KERNEL:
        return size
    while size % 2 == 0 and size * math.prod(shape[1:]) > CACHED_VALUES:
        size //= 2
    return size


def eval_batch(shape: tuple[int, ...], num_rows: int) -> int:
    """Images that are predicted at once, of so many rows of a set [N, H, W, C]."""
    return min(max(16, EVAL_VALUES // math.prod(shape[1:])), EVAL_BATCH, max(num_rows, 1))
