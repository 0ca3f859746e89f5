"""Whether networks are written in operations that every runtime has, or in those that XLA on a CPU is fast at.

Here a depthwise convolution is a sum of shifted images. Other runtimes have a kernel for it, by its name.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_is_plain = contextvars.ContextVar("is_plain", default=False)


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Within it networks are traced with convolutions and windows by their names; the numbers differ by rounding."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def is_plain() -> bool:
    """Whether operations are to be written by their names."""
    return _is_plain.get()
