"""What a person sees while something runs: lines, progress bars on a terminal, and a clean stop."""

from __future__ import annotations

import contextlib
import contextvars
import os
import pathlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from fpclass.errors import printable

SILENT_SECONDS = 20.0
"""Seconds until a line says how far something is, where there is no bar."""

_is_quiet = contextvars.ContextVar("is_quiet", default=False)


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop, within `interruptible`, while something was done that has no half result.

    Attributes:
      exit_code: 128 + the number of the signal.
    """

    def __init__(self, exit_code: int):
        super().__init__("stopped")
        self.exit_code = exit_code


def program() -> str:
    """The name that this program was started by, for hints: `fpclass`, or `python launch.py` in a checkout."""
    started = pathlib.Path(sys.argv[0])
    if started.parts[-2:] == ("fpclass", "__main__.py"):
        return "python -m fpclass"
    return "python launch.py" if started.name == "launch.py" else "fpclass"


def say(text: str = "") -> None:
    """Prints a line at once, or several; what a terminal would obey in them is written out."""
    if not _is_quiet.get():
        print(printable(text, keep="\n\t"), flush=True)


@contextlib.contextmanager
def silence(is_quiet: bool = True) -> Iterator[None]:
    """Within it nothing is said, and no bar is drawn; not in other threads."""
    token = _is_quiet.set(is_quiet or _is_quiet.get())
    try:
        yield
    finally:
        _is_quiet.reset(token)


def complain(text: str) -> None:
    """Prints what is wrong as one line to the standard error."""
    print(f"fpclass: {printable(' '.join(text.splitlines()))}", file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether somebody watches, rather than a file or a CI log, and wants to."""
    return sys.stderr.isatty() and not _is_quiet.get()


def is_watched() -> bool:
    """Whether a progress bar can be seen: on a terminal, or in a notebook."""
    return is_terminal() or "ipykernel" in sys.modules


def make_bar(items: Any = None, **options: Any) -> Any:
    """A progress bar of tqdm: on a terminal, or in a notebook, there of widgets or, without them, of text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no widgets
        from tqdm.auto import tqdm
    return tqdm(items, **options)


def progress(items: Iterable, total: int, what: str = "", unit: str = "image") -> Iterable:
    """Wraps an iterable in a progress bar on a terminal or in a notebook; elsewhere a line now and then says how far.

    Both are of the standard error, where they are in nobody's way.
    """
    if is_watched():
        return make_bar(items, total=total, desc=what, unit=unit, leave=False)
    return items if _is_quiet.get() else _in_lines(items, total, what)


def whisper(text: str) -> None:
    """Prints a line about how far long work is to the standard error, where it is in nobody's way."""
    if not _is_quiet.get():
        print(text, file=sys.stderr, flush=True)


def _in_lines(items: Iterable, total: int, what: str) -> Iterator[Any]:
    """The items; a line about them whenever nothing was said of them for `SILENT_SECONDS`."""
    began = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= SILENT_SECONDS and number < total:
            said = now
            of_what = f"{what}: " if what else ""
            whisper(f"{of_what}{number:,} of {total:,}, {duration(now - began)}")


def stoppable_progress(items: Iterable, total: int, what: str = "") -> Iterator[Any]:
    """As `progress`, and it ends with Interrupted where somebody asked to stop."""
    for item in progress(items, total, what):
        check_stop()
        yield item


def duration(seconds: float) -> str:
    """A span of time to two digits or so, in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


class Interruption:
    """Whether the user or the system asked to stop, or time is over; `signal_number` is 0 until then."""

    def __init__(self) -> None:
        self.signal_number = 0
        self.has_expired = False

    @contextlib.contextmanager
    def expiring(self, seconds: float) -> Iterator[None]:
        """Meanwhile it is as if somebody asked to stop after so many seconds; afterwards only if somebody did."""

        def expire() -> None:
            if not self.signal_number:
                self.has_expired, self.signal_number = True, signal.SIGTERM

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self.has_expired:
                self.has_expired, self.signal_number = False, 0

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells do; that of SIGTERM where another process of the job got it."""
        return 128 + (self.signal_number or signal.SIGTERM)


_current = Interruption()
"""What the innermost `interruptible` of the main thread gave."""


def check_stop() -> None:
    """Raises Interrupted where the user or the system asked to stop: for long work that is not given the request."""
    if _current.signal_number:
        raise Interrupted(_current.exit_code)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turns the first Ctrl-C or SIGTERM into a request that a loop can honour; the second one stops at once.

    Signals reach the main thread alone: in another one there are none to wait for.
    """
    global _current
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def request(number: int, frame: FrameType | None) -> None:
        del frame
        if interruption.signal_number and not interruption.has_expired:
            os._exit(128 + number)
        interruption.signal_number, interruption.has_expired = number, False
        say("stopping; once more to stop at once")

    numbers = (signal.SIGINT, signal.SIGTERM)
    outer, _current = _current, interruption
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield interruption
    finally:
        _current = outer
        for number, handler in before.items():
            signal.signal(number, handler)
