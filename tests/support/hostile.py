"""Hostile inputs for the command line, and what becomes of them: `python hostile.py AREA FOLDER COUNT SEED`.

An area runs in a process of its own, because libraries leave threads behind when a file of theirs is broken, and calls
`cli.main` for every input. The last line that it prints is the counts as JSON, with the worst examples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

LIMIT_SECONDS = 60
"""No input here takes a tenth of it where it is refused or used as it should."""


@dataclasses.dataclass
class Counts:
    """How many inputs came to which end.

    Attributes:
      one_line: refused, in one line or with the usage of the command.
      accepted: used; right as far as the area can tell.
      wrong: used, and the answer is another one, or what was there is gone.
    """

    inputs: int = 0
    one_line: int = 0
    accepted: int = 0
    tracebacks: int = 0
    hangs: int = 0
    wrong: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Case:
    """An input: the command's arguments, how many inputs it stands for, and what else is to be looked at.

    `is_wrong` gets what was printed if the command did not refuse; `is_spoilt` is asked afterwards whatever it did.
    Threads that wait for `pipe` are let go when the time is over.
    """

    argv: list[str]
    what: str = ""
    size: int = 1
    is_wrong: Callable[[str], bool] = lambda text: False
    is_spoilt: Callable[[], bool] = lambda: False
    pipe: pathlib.Path | None = None


class Hang(BaseException):
    """It took too long."""


def run_case(case: Case, call: Callable[[list[str]], int]) -> tuple[str, str]:
    """The end that an input came to (a field of `Counts`), and what was said."""
    out, err = io.StringIO(), io.StringIO()

    def stop(*_: object) -> None:
        if case.pipe and case.pipe.is_fifo():
            os.close(os.open(case.pipe, os.O_RDWR | os.O_NONBLOCK))
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: Any = call(case.argv)
    except SystemExit as stopped:
        code = stopped.code
        if code == 2 and "error: " in err.getvalue():
            return "one_line", err.getvalue()
    except Hang:
        return "hangs", traceback.format_exc()[-600:]
    except BaseException:
        return "tracebacks", traceback.format_exc()[-600:]
    finally:
        signal.alarm(0)
    said = err.getvalue()
    if code == 2:
        return ("one_line" if is_refusal(said) else "tracebacks"), said[-600:]
    if code not in (0, 1) or "Traceback" in said:
        return "tracebacks", f"exit code {code}: {said[-600:]}"
    return ("wrong" if case.is_wrong(out.getvalue()) else "accepted"), said[-300:]


def is_refusal(said: str) -> bool:
    """Whether it is one line of the program, or, if files were named that cannot be read, a line of each before it."""
    *before, last = said.removesuffix("\n").split("\n")
    is_last = last.startswith("fpclass: ") and (not before or last.endswith("files could be read; see above"))
    own = ("fpclass: ", "probabilities: ")
    return is_last and all(line.startswith(own) for line in before) and all(map(str.isprintable, [*before, last]))


def run_all(cases: Iterator[Case], call: Callable[[list[str]], int]) -> Counts:
    """Runs one case after the other; each is made when the one before is over."""
    counts = Counts()
    for case in cases:
        end, said = run_case(case, call)
        if case.is_spoilt():
            end, said = "wrong", f"what was there is gone; {said}"
        counts.inputs += case.size
        setattr(counts, end, getattr(counts, end) + (case.size if end in ("one_line", "accepted") else 1))
        if end in ("tracebacks", "hangs", "wrong"):
            counts.examples.append(f"{end}: {case.what}: {' '.join(case.argv)}\n{said}"[:1500])
    return counts


def damaged(rng: random.Random, data: bytes, *, shapes: tuple[bytes, ...] = ()) -> tuple[bytes, str]:
    """A file's bytes with a bit flipped, cut short, empty, with a hole of zeros, garbage in it, or of another shape."""
    at, size = rng.randrange(max(len(data), 1)), len(data)
    kind = rng.choice(["flip", "flip", "cut", "empty", "hole", "garbage", "twice", *(["shape"] * 2 if shapes else [])])
    if kind == "flip" and data:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :], f"flip at {at}"
    if kind == "cut":
        return data[:at], f"cut at {at}"
    if kind == "hole":
        return data[:at] + bytes(min(64, size - at)) + data[at + 64 :], f"hole at {at}"
    if kind == "garbage":
        return data[:at] + rng.randbytes(32) + data[at + 32 :], f"garbage at {at}"
    if kind == "twice":
        return data + data, "twice"
    if kind == "shape":
        shape = rng.choice(shapes)
        return shape, f"shape {shape[:30]!r}"
    return b"", "empty"


@contextlib.contextmanager
def put_in_place(path: pathlib.Path, data: bytes) -> Iterator[None]:
    """Has other bytes in a file until the end of the `with` block."""
    whole = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)


if __name__ == "__main__":
    from hostile_areas import AREAS

    from fpclass import cli

    area, folder, count, seed = sys.argv[1:]
    os.environ.setdefault("FPCLASS_OFFLINE", "1")
    found = run_all(AREAS[area](random.Random(f"{area} {seed}"), pathlib.Path(folder), int(count)), cli.main)
    print(json.dumps(dataclasses.asdict(found)), flush=True)
    os._exit(0)  # threads of libraries that broken files have left
