"""Images that do not fit into memory, read from disk by Grain a window at a time, ahead of the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt8

from fpclass.common.parallel import MEMBER, agree, device_memory, member_mesh, put
from fpclass.common.threads import num_cores
from fpclass.data.cache import StoredImages
from fpclass.train.state import Dataset

RESIDENT_SHARE = 0.25
"""Of what members may take of a device's memory, the part that decoded images may have: a device holds them once, the
host as well, and what a network keeps of a batch is often more."""
WINDOW_BYTES = 2**22
"""Images that are read and moved to the device at once, about. Small beside any memory, large beside what starting a
program costs."""
NUM_AHEAD = 2
"""Windows that are read before the device asks for them."""


def memory_for_images(memory_gb: float) -> float:
    """Bytes of decoded images that stay in memory; more of them are streamed.

    A budget of 0 stands for a quarter of what members may take on a device, or on the host if that is less.
    """
    if memory_gb:
        return memory_gb * 1e9
    host = Mesh(np.array(jax.local_devices(backend="cpu")[:1]), (MEMBER,))
    budget = RESIDENT_SHARE * min(device_memory(member_mesh()), device_memory(host))
    return float(agree(np.array(budget)))  # or the processes of a job would run different programs


def is_streamed(images: Any) -> bool:
    """Whether images stay on disk."""
    return isinstance(images, StoredImages)


def put_dataset(dataset: Dataset, mesh: Mesh | None) -> Dataset:
    """Puts a data set onto the devices of a mesh, whole on each; images on disk stay there."""
    if not is_streamed(dataset.images):
        return put(dataset, mesh)
    return with_images(put(with_images(dataset, ()), mesh), dataset.images)


def with_images(dataset: Dataset, images: Any) -> Dataset:
    """The data set with other images, or with a window of its own."""
    return dataclasses.replace(dataset, images=images)


def describe_stream(dataset: Dataset) -> str:
    """One line about a data set whose images stay on disk."""
    size = dataset.images.nbytes / 1e9
    return f"images: {len(dataset.images):,}, {size:.1f} GB, streamed from disk: they are more than data.memory_gb"


@flax.struct.dataclass
class Window:
    """Some images of a set, on the device, that are indexed by row as the whole set would be.

    The rows are ascending; a row may be there more than once.
    """

    images: UInt8[Array, "n H W C"]
    rows: Int[Array, " n"]

    def __getitem__(self, rows: Int[Array, " B"]) -> UInt8[Array, "B H W C"]:
        """Images of rows that are all in this window; of `PADDING`, as of any index -1, the last of the set."""
        return self.images[jnp.searchsorted(self.rows, rows, method="compare_all")]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, H, W, C)."""
        return self.images.shape


def num_parts(num_batches: int, batch_bytes: int) -> int:
    """How many windows a row of batches is divided into: of about `WINDOW_BYTES`, but at least two batches each.

    XLA unrolls a loop over a single batch, and then may round otherwise than in a loop over all of them.
    """
    return -(-num_batches // max(2, WINDOW_BYTES // batch_bytes))


def read_windows(images: StoredImages, parts: Int[np.ndarray, "P n"], mesh: Mesh | None) -> Iterator[Window]:
    """Reads the images of each part (rows in any order), in threads and ahead of whoever takes them.

    Each device of the mesh gets the window; None: the default device.
    """
    import grain

    options = grain.ReadOptions(num_threads=min(num_cores(), NUM_AHEAD), prefetch_buffer_size=NUM_AHEAD)
    # What is on disk side by side is read side by side: each window in the order of the file.
    source = _Windows(images, np.sort(parts, axis=1))
    for read, rows in grain.MapDataset.source(source).to_iter_dataset(options):
        yield Window(*put((read, rows), mesh))


@dataclasses.dataclass(frozen=True)
class _Windows:
    """What Grain reads: the images of a part, with their rows, by the number of the part."""

    images: StoredImages
    parts: Int[np.ndarray, "P n"]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.parts[index]
        return self.images[rows], rows
