"""Progress bars where they are hard to show."""

import sys
import types
import warnings

from fpclass.common import console
from fpclass.common.console import progress


def test_a_notebook_without_widgets_has_bars_of_text_and_no_warning(monkeypatch, capsys):
    """Tqdm would warn of it in the first line that a newcomer sees."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    notebook = dict.fromkeys(("ipykernel", "ipykernel.zmqshell"), types.ModuleType("ipykernel"))
    notebook["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
    for name, module in (notebook | {"ipywidgets": None}).items():
        monkeypatch.setitem(sys.modules, name, module)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert list(progress([1, 2], 2, "features")) == [1, 2]
    assert warned == []
    assert "features:   0%|" in capsys.readouterr().err


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(monkeypatch, capsys):
    assert list(progress("abc", 3, "features")) == [*"abc"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(console, "SILENT_SECONDS", 0.0)
    assert list(progress("abc", 3, "features")) == [*"abc"]
    out, err = capsys.readouterr()
    assert out == "", "where results go"
    assert err.splitlines() == ["features: 1 of 3, 0 s", "features: 2 of 3, 0 s"]
    with console.silence():
        assert list(progress("abc", 3)) == [*"abc"]
    assert capsys.readouterr() == ("", "")
