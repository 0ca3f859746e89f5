"""docs/architecture.md names functions that there are, every package says what it is, and the tests mirror them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pathlib
import re
import types

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


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_import_from_here_is_there(path: pathlib.Path) -> None:
    """Without running them: what they measure against need not be installed."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for whole in node.names if isinstance(node, ast.Import) else ():
            assert whole.name.split(".")[0] != "fpclass" or importlib.import_module(whole.name)
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        sibling = path.parent / f"{node.module}.py"
        if sibling.is_file():
            tree = ast.parse(sibling.read_text(encoding="utf-8"))
            there = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            assigned = [n for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)]
            there |= {name.id for n in assigned for name in ast.walk(n) if isinstance(name, ast.Name)}
        elif node.module.split(".")[0] in ("fpclass", "configs"):
            module = importlib.import_module(node.module)
            there = {name.name for name in node.names if hasattr(module, name.name) or _is_module(module, name.name)}
        else:
            continue
        assert {name.name for name in node.names} <= there, node.module


def _is_module(package: types.ModuleType, name: str) -> bool:
    return importlib.util.find_spec(f"{package.__name__}.{name}") is not None
