"""Functions of the user's own, which keys name as `package.module:function`: found, compared with the recorded, called.

Where a config is loaded, a digest of the source is put behind the name (`pinned`) and the folder of the module into
`code_folders`, so that both are in config.json: every later command finds the function, and refuses another one.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pathlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from fpclass.errors import ConfigError, FpclassError, one_line

EXPECTED = "or package.module:function of your own (docs/extending.md)"
_NAME = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)(?:#(?P<digest>[0-9a-f]{16}))?")


def is_own(value: object) -> bool:
    """Whether the value of a key names a function of the user's."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def bare(value: str) -> str:
    """A value as people read it: without the digest behind the name."""
    return value.partition("#")[0]


def add_folders(folders: Iterable[str]) -> None:
    """Lets Python find modules in these folders, behind all that it finds anyway; relative ones do not count."""
    for folder in folders:
        if isinstance(folder, str) and os.path.isabs(folder) and os.path.isdir(folder) and folder not in sys.path:
            sys.path.append(folder)


def load(value: str, key: str) -> Callable[..., Any]:
    """The function that the value of a key names.

    Raises:
      ConfigError: there is none, its module cannot be imported, or its source is not the recorded one.
    """
    module, function = _find(value, key)
    digest = value.partition("#")[2]
    if digest and (met := _digest(module, function)) != digest:
        raise ConfigError(
            f"{module.__file__} has changed since {key}={bare(value)} was recorded (sha256 {digest} then, {met} now): "
            "put it back as it was, or train into another --workdir"
        )
    return function


def pinned(value: str, key: str) -> str:
    """The value of a key with the digest of the source of its function; errors as `load`."""
    load(value, key)
    return f"{bare(value)}#{_digest(*_find(value, key))}"


def folder_of(value: str, key: str) -> str:
    """The folder that the module of a value is found in; "" for what is installed. Errors as `load`."""
    module, _ = _find(value, key)
    top = sys.modules[module.__name__.partition(".")[0]]
    place = next(iter(getattr(top, "__path__", ())), getattr(top, "__file__", None))
    folder = str(pathlib.Path(place).absolute().parent) if place else ""
    return "" if folder in map(sysconfig.get_path, ("purelib", "platlib")) else folder


def call(function: Callable[..., Any], value: str, key: str, *args: Any, **options: Any) -> Any:
    """Calls a function of the user's; what it raises is told in one line, with the place in its source.

    Raises:
      ConfigError: it raised something.
    """
    try:
        return function(*args, **options)
    except FpclassError:
        raise
    except Exception as error:
        raise ConfigError(f"{key}={bare(value)}: {type(error).__name__}: {_told(error, value)}") from error


def _find(value: str, key: str) -> tuple[ModuleType, Callable[..., Any]]:
    match = _NAME.fullmatch(value)
    if match is None:
        raise ConfigError(f"{key} is {value!r}: expected package.module:function (docs/extending.md)")
    name = match["module"]
    if name.partition(".")[0] in sys.stdlib_module_names:  # no config.json of a stranger's calls shutil.rmtree
        raise ConfigError(f"{key} is {bare(value)!r}: {name} is a module of Python's own; give yours another name")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{key} is {bare(value)!r}: {name} cannot be imported ({one_line(error)})") from error
        raise ConfigError(
            f"{key} is {bare(value)!r}: no module {error.name}, not in Python's path, nor in the folders that "
            "code_folders has; put it back, or give its folder with --config.code_folders=\"('DIR',)\" or PYTHONPATH"
        ) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {_told(error, value)}"
        raise ConfigError(f"{key} is {bare(value)!r}: {name} cannot be imported ({reason})") from error
    function = getattr(module, match["function"], None)
    if not callable(function):
        met = "no function" if function is None else "no function, but another thing,"
        raise ConfigError(f"{key} is {bare(value)!r}: {module.__file__ or name} has {met} {match['function']}")
    return module, function


def _digest(module: ModuleType, function: Callable[..., Any]) -> str:
    """16 hex digits of the sha256 of the module's source, and of that of the package's module it has it from."""
    origin = sys.modules.get(str(getattr(function, "__module__", "")), module)
    is_of_package = origin.__name__.partition(".")[0] == module.__name__.partition(".")[0]
    digest = hashlib.sha256()
    for part in (module, origin) if is_of_package and origin is not module else (module,):
        source = getattr(part, "__file__", None)
        digest.update(pathlib.Path(source).read_bytes() if source else b"")
    return digest.hexdigest()[:16]


def _told(error: Exception, value: str) -> str:
    """The message of an exception, and where in the user's package it came from."""
    top = value.partition(":")[0].partition(".")[0]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if top in pathlib.Path(frame.filename).parts
           or pathlib.Path(frame.filename).stem == top]  # fmt: skip
    place = f" ({pathlib.Path(own[-1].filename).name} line {own[-1].lineno})" if own else ""
    return f"{one_line(error, 200)}{place}"
