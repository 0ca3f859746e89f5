"""Whether networks are written in operations that every runtime has, or in those that XLA on a CPU is fast at.

Here a depthwise convolution is a sum of shifted images. Other runtimes have a kernel for it, by its name.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax

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


def with_derivative(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[..., tuple], nondiff_argnums: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """The function that `forward` computes, with `backward` as its derivative; plainly without one of its own.

    Args:
      forward: gives the value, and what `backward` needs of it.
      backward, nondiff_argnums: as for `jax.custom_vjp`.
    """

    def value(*args: Any) -> Any:
        return forward(*args)[0]

    derived = jax.custom_vjp(value, nondiff_argnums)
    derived.defvjp(forward, backward)
    return lambda *args: value(*args) if is_plain() else derived(*args)
