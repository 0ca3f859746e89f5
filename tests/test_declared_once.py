"""One declaration for one thing: commands, sections of the config, architectures."""

from __future__ import annotations

import ast
import collections
import importlib
import pathlib

from ml_collections import ConfigDict

import configs
import fpclass
from configs import base
from fpclass import cli
from fpclass.common.flags import Command
from fpclass.models.registry import ARCHITECTURES

PACKAGE = pathlib.Path(fpclass.__file__).parent
CONFIGS = pathlib.Path(configs.__file__).parent


def test_every_module_with_commands_is_in_the_registry() -> None:
    names = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in PACKAGE.rglob("commands.py")}
    assert {module.__name__ for module in cli.MODULES} == names


def test_commands_are_declared_once() -> None:
    declared = [command for module in cli.MODULES for command in module.COMMANDS]
    assert all(isinstance(command, Command) for command in declared)
    counts = collections.Counter(command.name for command in declared)
    assert set(counts.values()) == {1}, counts
    assert {*counts, "completion"} == set(cli.COMMANDS)  # which is about all of them, and so the command line's own
    for command in declared:
        module = importlib.import_module(command.function.__module__)
        assert command in module.COMMANDS, f"{command.name}: its function lives in another module"
        assert command.name == command.function.__name__.replace("_", "-")
        assert command.description
    for file in PACKAGE.rglob("*.py"):
        if file.name == "commands.py":
            continue
        text = file.read_text(encoding="utf-8")
        assert "Command(" not in text or file.name in ("flags.py", "cli.py"), f"{file} declares a command"
        assert ".add_parser(" not in text or file.name == "cli.py", f"{file} adds a command"


def sections_made(file: pathlib.Path) -> list[str]:
    """Sections that a config file makes, `config.x = ConfigDict()`, as `config.x`."""
    made = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            function = node.value.func
            if getattr(function, "id", getattr(function, "attr", "")) == "ConfigDict":
                made += [ast.unparse(target) for target in node.targets if isinstance(target, ast.Attribute)]
    return made


def test_config_sections_are_declared_once() -> None:
    config = base.get_config()
    made = sections_made(pathlib.Path(base.__file__))
    assert len(made) == len(set(made))
    assert {name.partition(".")[2] for name in made if name.startswith("config.")} == {
        key for key, value in config.items() if isinstance(value, ConfigDict)
    }
    for file in CONFIGS.rglob("*.py"):
        if file != pathlib.Path(base.__file__):
            assert "ConfigDict(" not in file.read_text(encoding="utf-8"), f"{file} makes a section of its own"


def test_architectures_are_declared_in_one_file_each() -> None:
    """Whatever else `fpclass.models` says of an architecture stands beside its name; the published weights name it."""
    texts = {
        file: file.read_text(encoding="utf-8")
        for file in (PACKAGE / "models").rglob("*.py")
        if "pretrained" not in file.relative_to(PACKAGE).parts
    }
    for name in ARCHITECTURES:
        files = [str(file.relative_to(PACKAGE)) for file, text in texts.items() if f'"{name}"' in text]
        assert len(files) == 1, f"{name} is declared in {files}"
