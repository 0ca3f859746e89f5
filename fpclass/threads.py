"""Work divided over the cores of this machine, without JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[int], Result], num_rows: int, num_threads: int | None = None
) -> Generator[Result, None, None]:
    """What a function gives for 0, 1, … num_rows - 1, in this order; it is called from a thread per core.

    After an error, Ctrl-C or `close` the rest is not begun. NumPy and Pillow let go of the interpreter's lock.
    """
    pool = ThreadPoolExecutor(num_threads or num_cores())
    try:
        # In stretches, because map() makes a future of every row at once: 1 kB each, and a long wait after Ctrl-C.
        for start in range(0, num_rows, 1024):
            yield from pool.map(function, range(start, min(start + 1024, num_rows)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
