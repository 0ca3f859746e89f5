"""Threads: how many, and work done in them in order. NumPy and Pillow let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def num_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(pool: ThreadPoolExecutor, function: Callable[[int], Any], num_rows: int) -> Generator[Any, None, None]:
    """What a function gives for 0, 1, … num_rows - 1, in this order; when it is closed, the rest is not begun."""
    # In stretches, because map() makes a future of every row at once: 1 kB each, and a long wait after Ctrl-C.
    for start in range(0, num_rows, 1024):
        yield from pool.map(function, range(start, min(start + 1024, num_rows)))
