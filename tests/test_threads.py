"""Work in threads comes back in order, and ends when nobody wants the rest."""

from __future__ import annotations

import os
import threading
import time

import pytest

from fpclass.threads import in_threads, num_cores


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
