"""docs/first_hour.md: what is refused there, word for word."""

from __future__ import annotations

import pathlib
import re
import shlex

import pytest
from pictures import draw_picture

from fpclass import cli

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "first_hour.md").read_text(encoding="utf-8")
REFUSED = re.findall(r"^\$ fpclass (.+)\n(fpclass: .+)$", PAGE, flags=re.MULTILINE)


@pytest.fixture
def folders(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folders of the page, with drawn images."""
    lines = ["file;person;sex;hand;age"]
    for k in range(8):
        for folder in ("photos/cats", "photos/dogs", "animals/scans"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            draw_picture(k, (40, 40)).save(tmp_path / folder / f"{k}.png")
        lines.append(f"{k}.png;{k // 2};{'fm'[k % 2]};l;{20 + k}")
    (tmp_path / "animals" / "list.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_refusals() -> None:
    assert len(REFUSED) == 5


@pytest.mark.parametrize(("command", "said"), REFUSED)
def test_what_the_page_says_is_refused(
    command: str, said: str, folders: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fpclass"])
    before = sorted(folders.rglob("*"))
    assert cli.main(shlex.split(command)) == 2
    assert capsys.readouterr().err.startswith(said.removesuffix("…"))
    assert sorted(folders.rglob("*")) == before
