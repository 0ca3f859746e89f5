"""docs/architecture.md names functions that there are, every package says what it is, and the tests mirror them."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re

import pytest

import fpclass

PACKAGE = pathlib.Path(fpclass.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\| [^|]+ \| ([^|]*`[^|]*) \| [^|]+ \|$", PAGE.partition("Where a new thing")[0], re.MULTILINE)
PACKAGES = sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file())


@pytest.mark.parametrize("name", [name for step in STEPS for name in re.findall(r"`(\w+\.[\w.]+)`", step)])
def test_the_way_of_the_data_names_functions_that_there_are(name: str) -> None:
    parts = name.split(".")
    places = {n: PACKAGE / "/".join(parts[:n]) for n in range(len(parts), 0, -1)}
    count = next(n for n, p in places.items() if p.with_suffix(".py").is_file() or (p / "__init__.py").is_file())
    owner = importlib.import_module(".".join(["fpclass", *parts[:count]]))
    for part in parts[count:]:
        owner = getattr(owner, part)
    assert callable(owner)


def test_the_way_of_the_data_is_there() -> None:
    assert len(STEPS) > 10


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(\w+/[\w/]*\.py)`", PAGE))))
def test_files_that_the_page_names_are_there(path: str) -> None:
    assert any((home / path).is_file() for home in (PACKAGE, PACKAGE.parent))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_what_it_is_and_has_tests(name: str) -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(text) > 150
    assert list((PACKAGE.parent / "tests" / name).rglob("test_*.py"))
