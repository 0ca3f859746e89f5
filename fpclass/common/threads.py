"""Work divided over the cores of this machine, without JAX."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NoReturn, TypeVar

Result = TypeVar("Result")
UNSTOPPABLE = "unstoppable"
"""Name of threads that compile: they can neither be told to stop, nor go on while Python takes itself apart."""


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


class Background(contextlib.AbstractContextManager["Background"]):
    """A thread that does one thing after the other while its owner goes on, and none of them after an error.

    What goes wrong comes out where the owner gives it the next thing, waits for it, or leaves the `with` block, whose
    end waits for all of them.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __call__(self, work: Callable[[], None]) -> None:
        """Begins a thing when the one before it is done, which is waited for: no more than one at a time is kept."""
        self.wait()
        self._last = self._pool.submit(work)

    def check(self) -> None:
        """Says what went wrong, if that is known already; waits for nothing."""
        if self._last and self._last.done():
            self.wait()

    def wait(self) -> None:
        """Waits for what was begun."""
        last, self._last = self._last, None
        if last:
            last.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.wait()


def leave(code: int) -> NoReturn:
    """Ends the process with an exit code; at once where a thread compiles, which nobody needs any more."""
    if any(thread.name == UNSTOPPABLE for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
