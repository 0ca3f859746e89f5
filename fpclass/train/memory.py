"""Memory that is not there: what XLA says in pages becomes one line with the keys that ask for less."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import jax
from jaxtyping import PyTree

from fpclass.common.parallel import host_memory, memory_limit
from fpclass.config import Config
from fpclass.errors import MemoryShortage, is_out_of_memory, one_line


@contextlib.contextmanager
def told_in_one_line(config: Config) -> Iterator[None]:
    """Turns "out of memory", on the device or of this computer, into an error that names the keys and their values.

    Raises:
      MemoryShortage: there is not enough memory for the config.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        train, (height, width) = config.train, config.data.image_size
        kind = jax.local_devices()[0].device_kind
        raise MemoryShortage(
            f"out of memory on {kind} ({one_line(error, 150)}): lower train.batch_size (now {train.batch_size}), or "
            f"go through a batch in parts by train.accumulate (now {train.accumulate}), set train.remat=True (now "
            f"{train.remat}; backbones), or lower data.image_size (now {height} x {width})"
        ) from error


def check_fits(state: PyTree) -> None:
    """Refuses a training state, arrays or their shapes, that is larger than the memory of a device or computer.

    XLA on a CPU says so by itself only for results; for what it needs on the way to them, it waits for ever.

    Raises:
      MemoryError: it is larger.
    """
    needed = num_bytes(state)
    there = memory_limit(jax.local_devices()[0]) or host_memory() or math.inf
    if needed > there:
        raise MemoryError(f"the state of training takes {needed / 1e9:,.0f} GB, and there are {there / 1e9:,.0f}")


def num_bytes(tree: PyTree) -> int:
    """Bytes that arrays take, or would take where these are only their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def fitted_batch(config: Config, num_images: int, num_devices: int = 1) -> Config:
    """The config with a batch that is no larger than the data set: the rest would be padding, which weighs nothing.

    Of the whole table, not of the training rows: folds differ by a few, and a member alone has to have the same batch,
    and so the same order of additions, as among others.

    Args:
      num_devices: that share every part of a batch (`train.accumulate`), which stays divisible.
    """
    step = config.train.accumulate * num_devices
    largest = math.ceil(max(num_images, 1) / step) * step
    if config.train.batch_size <= largest:
        return config
    fitted = config.copy_and_resolve_references()
    with fitted.unlocked():
        fitted.train.batch_size = largest
    return fitted
