"""Messages of other libraries, made fit for one line."""

from __future__ import annotations

from fpclass.errors import one_line


def test_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError"
    assert one_line("x" * 500) == "x" * 120
    assert one_line(OSError("y" * 500), 200) == "y" * 200
