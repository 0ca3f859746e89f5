"""Work in threads comes back in order, and ends when nobody wants the rest."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from fpclass.common import threads
from fpclass.common.threads import Background, in_threads, num_cores


def test_cores_are_those_of_this_process() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)


def test_results_come_in_order() -> None:
    assert list(in_threads(lambda row: row * row, 2500, 4)) == [row * row for row in range(2500)]
    assert list(in_threads(lambda row: row, 0)) == []


def test_an_error_is_raised_and_the_rest_is_not_begun() -> None:
    begun = []

    def work(row: int) -> int:
        begun.append(row)
        time.sleep(0.001)
        if row == 3:
            raise ValueError("three")
        return row

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, 1000, 2))
    assert len(begun) < 500


def test_what_is_closed_is_not_gone_on_with() -> None:
    begun, may_go_on = [], threading.Event()

    def work(row: int) -> int:
        begun.append(row)
        if row:
            may_go_on.wait(0.5)
        return row

    results = in_threads(work, 1000, 2)
    assert next(results) == 0
    results.close()
    may_go_on.set()
    assert len(begun) < 10


def test_what_goes_wrong_in_the_background_comes_out_at_the_next_thing_and_at_the_end():
    seen = []

    def fail():
        raise ValueError("the disk is full")

    with Background() as background:
        background(lambda: seen.append(1))
        background(lambda: seen.append(2))
        background.wait()
        assert seen == [1, 2]
        background(fail)
        with pytest.raises(ValueError, match="full"):
            background(lambda: seen.append(3))
    with pytest.raises(ValueError, match="full"), Background() as background:
        background(fail)
    with Background() as background:
        background(fail)
        time.sleep(0.05)
        with pytest.raises(ValueError, match="full"):
            background.check()
    with pytest.raises(KeyError, match="first"), Background() as background:
        _ = background(fail), {}["what went wrong first is what is said"]
    with Background() as background:
        background(lambda: (time.sleep(0.05), seen.append(4)))
    assert seen == [1, 2, 4], "the end waits"


LEAVER = """
import atexit, sys, threading
from fpclass.common.threads import UNSTOPPABLE, leave
atexit.register(lambda: print("at exit"))
print("said")
if sys.argv[1] == "compiling":
    threading.Thread(target=threading.Event().wait, name=UNSTOPPABLE, daemon=True).start()
leave(143)
"""


@pytest.mark.parametrize(("how", "said"), [("compiling", ["said"]), ("idle", ["said", "at exit"])])
def test_a_process_leaves_without_waiting_for_what_cannot_be_stopped(how, said):
    root = pathlib.Path(threads.__file__).parents[2]
    command = [sys.executable, "-c", LEAVER, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (143, said), done.stderr
