"""An epoch of the baseline against PyTorch, side by side in one run, on CPU.

Claim: an epoch of the baseline with flip and jitter (1,258 images of 120 x 80, batch 32, Adam) takes at most 0.60 of
PyTorch in the reference's way (PNG per item, Pillow augmentation, DataLoader) and at most 0.70 of PyTorch on tensors
in memory without augmentation.

Run: python benchmarks/train_epoch.py                                  (PyTorch in the same environment)
     python benchmarks/train_epoch.py --torch-python=TORCHENV/bin/python    (PyTorch in an environment of its own)

Every round runs one epoch of every way, in turn, in two processes of which one always waits; the fastest epoch of each
way counts. Both processes are bound to the same cores. Compilation and each way's first epoch are timed apart.

The reference's way is measured on PNGs of 120 x 80 and on PNGs of 403 x 619 (half the competition's size). The ratio
that the claim is about takes the former: the fewer pixels to decode, the better for PyTorch. torchvision is optional;
without it Pillow does the same operations directly.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_IMAGES, HEIGHT, WIDTH, BATCH_SIZE = 1258, 120, 80, 32
LARGE = (619, 403)
PROJECT, MEMORY, SMALL_PNG = "fpclass", "PyTorch, tensors in memory", "PyTorch, PNG 120x80, workers 0"
LIMITS = {SMALL_PNG: 0.60, MEMORY: 0.70}
WARM_UP = "first epoch"


def project_epoch() -> Callable[[], None]:
    """This project's training epoch: the function that `fpclass train` calls."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from configs.footprints import baseline
    from fpclass.models import build_model
    from fpclass.train import Dataset, Member, make_engine

    config = baseline.get_config()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, HEIGHT, WIDTH, 1), dtype=np.uint8)
    dataset = Dataset(jnp.asarray(images), jnp.asarray(rng.integers(0, 2, NUM_IMAGES, dtype=np.int32)))
    rows, nothing = jnp.arange(NUM_IMAGES), jnp.arange(0)
    member = Member(jnp.zeros((), jnp.uint32), rows, nothing, nothing, jnp.ones(2))
    engine = make_engine(build_model(config.model, 2, (HEIGHT, WIDTH)), config, NUM_IMAGES)
    state = engine.init(member, dataset)

    def epoch() -> None:
        nonlocal state
        state, record = engine.train_epoch(state, member, dataset)
        jax.block_until_ready((state, record))

    return epoch


def torch_epochs(folder: Path, num_threads: int) -> dict[str, Callable[[], None]]:
    """The ways of PyTorch by name; `folder` is for the PNGs."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision_or_pillow import make_transform  # type: ignore[reportMissingImports]
