"""The tree of keys: compared, every key read by some code, every key explained."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest
from ml_collections import ConfigDict

import fpclass
from configs import base
from configs.footprints import baseline
from fpclass.config import apply_overrides, differences, flatten, read_config_file
from fpclass.errors import ConfigError
from fpclass.train import hyperparameters

PACKAGE = pathlib.Path(fpclass.__file__).parent


def test_differences_name_key_old_and_new() -> None:
    old, new = baseline.get_config(), baseline.get_config()
    assert differences(old, new) == {}
    new.optim.learning_rate = 2e-3
    new.data.image_size = (60, 40)
    assert differences(old, new) == {"data.image_size": ((120, 80), (60, 40)), "optim.learning_rate": (1e-3, 2e-3)}
    assert differences(ConfigDict({"a": 1}), ConfigDict({"b": {"c": 2}})) == {"a": (1, None), "b.c": (None, 2)}


def given(*flags: str, key: str = "data.classes") -> tuple:
    return flatten(apply_overrides(base.get_config().unlock(), flags, {}))[key]


def test_words_are_given_with_commas_between() -> None:
    """Beside Python's tuples, of which nothing is changed, and for keys of words alone."""
    assert given("--config.data.classes=cats,big dogs, Kätzchen") == ("cats", "big dogs", "Kätzchen")
    assert given("--config.data.classes", "cats,dogs") == ("cats", "dogs")
    assert given("--config.data.classes=cats,dogs", "--config.data.classes=a,b") == ("a", "b")
    assert given("--config.data.classes=('cats,dogs','owls')") == ("cats,dogs", "owls")
    assert given("--config.data.classes=cats") == ("cats",)
    assert given("--config.data.classes=1,0") == (1, 0)
    assert given("--config.evaluate.subgroups=hand,age", key="evaluate.subgroups") == ("hand", "age")
    assert given("--config.code_folders=a,b", key="code_folders") == ("a,b",), "the name of a folder"
    assert given("--config.name=a,b", key="name") == "a,b"
    with pytest.raises(ConfigError, match="unexpected argument 'a,b'"):
        given("--config.data.classes=cats", "a,b")


def test_a_config_file_knows_itself_and_what_is_beside_it(tmp_path: pathlib.Path) -> None:
    """Two folders with modules of the same name, and packages `configs` of the user's around and elsewhere."""
    text = "import beside\nimport pathlib\nfrom configs.{module} import {name}\n\ndef get_config():\n"
    text += "    config = {name}.get_config()\n"
    text += "    config.name = f'{{pathlib.Path(__file__).parent.name}} {{beside.WORD}}'\n    return config\n"
    known, path = set(sys.modules), [*sys.path]
    for folder, module in (("a", "footprints"), ("configs", "own")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "beside.py").write_text(f"WORD = 'of {folder}'\n")
        (tmp_path / folder / "mine.py").write_text(text.format(module=module, name="baseline"))
    (tmp_path / "configs/__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "configs/base.py").write_text("raise RuntimeError\n")
    (tmp_path / "configs/own").mkdir()
    (tmp_path / "configs/own/baseline.py").write_text("from configs.base import get_config\n")
    for folder in ("a", "configs"):
        assert read_config_file(str(tmp_path / folder / "mine.py"), {}).name == f"{folder} of {folder}"
    assert "beside" not in sys.modules
    assert sys.modules["configs.base"] is base, "nothing of it stays"
    assert path == sys.path
    assert not [name for name in set(sys.modules) - known if name.partition(".")[0] == "configs"]


def test_no_file_of_the_user_hides_a_config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    text = "from configs import base\n\ndef get_config():\n    config = base.get_config()\n    config.name = 'mine'\n"
    (tmp_path / "configs/demo.py").write_text(f"{text}    return config\n")
    monkeypatch.chdir(tmp_path)
    assert read_config_file("configs/demo.py", {}).name == "mine", "what is there is what is meant"
    assert read_config_file("fpclass/configs/demo.py", {}).name == "demo"
    assert read_config_file("configs/footprints/baseline.py", {}).name == "baseline"
    with pytest.raises(ConfigError, match=r"did you mean configs/footprints/baseline\.py"):
        read_config_file("configs/footprints/basline.py", {})


def attributes_read(package: pathlib.Path) -> set[tuple[str, str, str]]:
    """(module or package, owner, attribute) of all that are read: ("fitting", "optim", "name") of `c.optim.name`."""
    found = set()
    for file in package.rglob("*.py"):
        # These check a key without ever using it.
        if file in (package / f"{name}.py" for name in ("experiment", "conditions", "unread")):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
                module = file.stem if file.parent == package else file.parent.name
                found.add((module, owner, node.attr))
    return found


def is_read(key: str, attributes: set[tuple[str, str, str]]) -> bool:
    """Whether some code reads a key from its section, by the section's own name.

    A section is called like itself or `<section>_config` everywhere; the module of the section's own name may call
    it `config`. Anything else called like the key (`np.mean`, `Path.name`) does not count.
    """
    section, _, name = ("config." + key).rpartition(".")
    section = section.rpartition(".")[2]
    return any(
        attribute == name and (owner in (section, f"{section}_config") or (owner == "config" and file == section))
        for file, owner, attribute in attributes
    )


def test_every_key_is_read_by_some_code() -> None:
    attributes = attributes_read(PACKAGE)
    assert not is_read("optim.image_size", attributes), "a key of another section counts"
    assert not is_read("data.reshape", attributes), "a method of an array counts"
    as_data = set(hyperparameters.KEYS)  # read by their names
    unread = [key for key in flatten(base.get_config()) if key not in as_data and not is_read(key, attributes)]
    assert not unread, f"keys of configs/base.py that nothing in fpclass/ reads: {unread}"


def test_every_key_is_explained() -> None:
    """One comment per key, beside it: the file is the reference of what can be set."""
    lines = pathlib.Path(base.__file__).read_text(encoding="utf-8").splitlines()
    for key in flatten(base.get_config()):
        owner, _, name = ("config." + key).rpartition(".")
        owner = owner.rpartition(".")[2]
        line = next(line for line in lines if line.strip().startswith(f"{owner}.{name} = "))
        assert "#" in line, key
