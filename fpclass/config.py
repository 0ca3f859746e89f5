"""Configs as trees of keys: read from files, changed by the command line, flattened and compared.

What the keys mean, and which values they may have, `fpclass.experiment` knows.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import pathlib
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from absl import flags
from ml_collections import ConfigDict, config_flags

from fpclass import __version__
from fpclass.errors import ConfigError, RunError, did_you_mean, one_line

Config: TypeAlias = Any
"""A `ConfigDict`, or a section of one. Its attributes are dynamic, which no type checker can follow."""

NUM_LISTED = 6
"""Candidates that a message names."""
FORMAT = 3
"""Of run and study folders, as config.json and study.json say. Those of fpclass 0.1.0 say nothing: format 1."""


SHIPPED = "fpclass/configs"
"""What the path of a config of this project may begin with, from any folder, whatever else is there."""
_HERE = pathlib.Path(__file__).absolute().parent
HOME = next(home for home in (_HERE / "configs", _HERE.parent / "configs") if (home / "base.py").is_file())
"""Folder of the configs of this project: inside the package where it is installed, beside it in a checkout."""
SPACES = "spaces"
"""Folder of the files in it that say what is searched: `fpclass tune --space`."""
SIZES = ("data.image_size", "data.synthetic.image_size")
"""Keys of a (height, width), for which the command line also takes one number: a square."""
WORDS = ("data.classes", "data.class_names", "evaluate.subgroups")
"""Keys of several words, for which the command line also takes them with commas between: cats,dogs."""
_LISTED = re.compile(r"[^,()\[\]'\"]+(,[^,()\[\]'\"]+)+")
_NUMBERS = re.compile(r"[\s\d.+,-]*")


def base_config() -> Config:
    """Every key with its default."""
    return _base().get_config()


@functools.cache
def _base() -> types.ModuleType:
    return _run_file("fpclass_configs_base", HOME / "base.py")


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Leaf values by dotted key, in the order of the config."""
    flat = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, with (old, new); None stands for a key that is not there."""
    was, now = flatten(old), flatten(new)
    keys = list(dict.fromkeys([*was, *now]))
    return {k: (was.get(k), now.get(k)) for k in keys if was.get(k) != now.get(k)}


def read_config_file(path: str, renamed: Mapping[str, str]) -> Config:
    """Runs `get_config()` of a file: a config of every key of configs/base.py and no other, not locked.

    Args:
      path: a Python file, which may import modules beside it. The project's own, `configs/…`, are found from any
        folder; so they are as `fpclass/configs/…` where a folder of the user's has that name.
      renamed: for keys of earlier versions, what to say of each.

    Raises:
      ConfigError: no such file, no config in it, unknown or missing keys, or a value of another type.
    """
    file = _find(path)
    try:
        with _imports_of(file):
            config = _run_file("config_file", file).get_config()
    except Exception as error:  # a config file is a program: whatever it raises is about the file
        text = str(error).partition(". Other fields present")[0]  # ml_collections lists them all
        reason = one_line(text or error, 200)
        words = set(re.findall(r"\w+", text)) if isinstance(error, AttributeError | KeyError) else ()
        notes = [f"; config.{key}: {note}" for key, note in renamed.items() if key.rpartition(".")[2] in words]
        raise ConfigError(f"{path}: no config to load ({type(error).__name__}: {reason}){''.join(notes)}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config() gave a {type(config).__name__}, expected a ConfigDict")
    return from_values(flatten(config), path, "configs/base.py lists every key", renamed)


def from_values(values: dict[str, Any], where: str, advice: str, renamed: Mapping[str, str]) -> Config:
    """Makes a config of values by dotted key (lists for tuples), every one of which must be there and of its type.

    Raises:
      ConfigError: unknown or missing keys, or a value of another type.
    """
    config = base_config()
    known = list(flatten(config))
    for key in sorted(values.keys() ^ set(known)):
        if key in values and key in renamed:
            raise ConfigError(f"{where}: config.{key}: {renamed[key]}")
        if key in values:
            raise ConfigError(f"{where}: no such key {key}{suggest_key(key, known)}; {advice}")
        raise ConfigError(f"{where}: key {key} is missing; {advice}")
    for key, value in values.items():
        value = _as_tuples(value)
        try:
            config.update_from_flattened_dict({key: value})
            is_fine = value is not None  # the only value that ml_collections takes for any type
        except TypeError:
            is_fine = False
        if not is_fine:
            expected = type(flatten(base_config())[key]).__name__
            raise ConfigError(f"{where}: {key} is {value!r}, expected a value of type {expected}; {advice}")
    return config


def apply_overrides(config: Config, overrides: Sequence[str], renamed: Mapping[str, str]) -> Config:
    """Puts the values of the command line into a config, which is changed, and locks it.

    Args:
      overrides: arguments like `--config.optim.learning_rate=3e-4`, or the same in two parts; of a key given twice the
        last one counts.

    Raises:
      ConfigError: an unknown key, or a value of another type.
    """
    overrides = _without_earlier_tuples(config, _with_words(_with_squares(overrides)))
    known = [*flatten(config), *(key for key, value in config.items() if isinstance(value, ConfigDict))]
    for argument in overrides:
        key = _key_of(argument)
        if key is not None and key not in known:
            if key in renamed:
                raise ConfigError(f"--config.{key}: {renamed[key]}")
            raise ConfigError(f"--config.{key}: no such key{suggest_key(key, known)}; configs/base.py lists every key")
        if argument.split("=")[0] in ("--config", "-config"):
            raise ConfigError(f"{argument}: one config only, and a run folder has its own; leave it out")
    flag_values = flags.FlagValues()
    argv = ["fpclass", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv)
    try:
        rest = flag_values(argv)[1:]
    except flags.IllegalFlagValueError as error:
        raise ConfigError(f"{error}; configs/base.py has the type of every key") from None
    except flags.Error as error:
        raise ConfigError(f"{error}; see --help") from None
    if rest:
        name, equals, value = rest[0].partition("=")
        meant = suggest_key(name, known, flag=f"--config.{{}}={value}") if equals else ""
        raise ConfigError(f"unexpected argument {rest[0]!r}{meant}; values are given as --config.KEY=VALUE, see --help")
    return config.lock()


def given_keys(overrides: Sequence[str]) -> set[str]:
    """The keys that arguments of the command line name."""
    return {key for key in map(_key_of, overrides) if key is not None}


def split_overrides(overrides: Sequence[str], section: str) -> tuple[list[str], list[str]]:
    """The arguments about keys of a section, also those in two parts, and all others."""
    of_section: list[str] = []
    others: list[str] = []
    into = others
    for argument in overrides:
        key = _key_of(argument)
        if key is not None or argument.startswith("-"):
            into = of_section if key is not None and key.startswith(f"{section}.") else others
        into.append(argument)
    return of_section, others


def _key_of(argument: str) -> str | None:
    """The key that an argument such as `--config.seed=3` or `--noconfig.split.grouped` names; None for other ones."""
    prefix, dot, key = argument.split("=")[0].partition("config.")
    return key if dot and prefix in ("--", "-", "--no", "-no") else None


def _with_squares(overrides: Sequence[str]) -> list[str]:
    """The arguments with (n, n) for a single number n where a key of `SIZES` is given."""
    squared = []
    for before, argument in zip(["", *overrides], overrides, strict=False):
        head, equals, value = argument.rpartition("=")
        is_side = _key_of(head or before) in SIZES and value.strip().isdigit()
        squared.append(f"{head}{equals}({value},{value})" if is_side else argument)
    return squared


def _with_words(overrides: Sequence[str]) -> list[str]:
    """The arguments with ('a', 'b') for words with commas between them, a,b, where a key of `WORDS` is given."""
    words = []
    for before, argument in zip(["", *overrides], overrides, strict=False):
        head, equals, value = argument.partition("=") if "=" in argument else ("", "", argument)
        is_listed = (_key_of(head) if head else "=" not in before and _key_of(before)) in WORDS
        if is_listed and _LISTED.fullmatch(value) and not _NUMBERS.fullmatch(value):
            value = str(tuple(word.strip() for word in value.split(",")))
        words.append(f"{head}{equals}{value}")
    return words


def _without_earlier_tuples(config: Config, overrides: Sequence[str]) -> list[str]:
    """The arguments with only the last one of every tuple; an empty tuple goes into the config.

    ml_collections would put the tuples of two arguments together, and take none for no argument at all.
    """
    defaults, rest, last = flatten(config), [], {}
    arguments = iter(overrides)
    for argument in arguments:
        key = _key_of(argument)
        if isinstance(defaults.get(key or ""), tuple):
            last[key] = [argument] if "=" in argument else [argument, *itertools.islice(arguments, 1)]
        else:
            rest.append(argument)
    for key, of_key in last.items():
        if of_key[-1].rpartition("=")[2].strip() in ("()", "[]"):
            config.update_from_flattened_dict({key: ()})
        else:
            rest += of_key
    return rest


def shipped(path: str) -> str:
    """Where a path or pattern of a config of this project, `configs/…` or `fpclass/configs/…`, is; "" for others."""
    parts = pathlib.PurePath(path).parts
    for prefix in (("configs",), tuple(SHIPPED.split("/"))):
        if parts[: len(prefix)] == prefix:
            return str(HOME.joinpath(*parts[len(prefix) :]))
    return ""


def is_user_path(path: str) -> bool:
    """Whether a path or pattern may be one of the user's: nobody but this project has `fpclass/configs/…`."""
    return pathlib.PurePath(path).parts[:2] != tuple(SHIPPED.split("/"))


def config_files() -> list[str]:
    """The config files of this project, configs/FILE.py, sorted; those of `SPACES` are none."""
    files = (file for file in HOME.rglob("*.py") if file.name[0] != "_" and file.parent.name != SPACES)
    return sorted(("configs" / file.relative_to(HOME)).as_posix() for file in files)


def _find(path: str) -> pathlib.Path:
    """The config file, also where the working folder is not the project's, or by the beginning of its name.

    Raises:
      ConfigError: there is none, or several begin like that.
    """
    file, own = pathlib.Path(path), pathlib.Path(shipped(path) or path)
    if file.is_file() and is_user_path(path):
        return file.absolute()
    if own.is_file():
        return own
    there = config_files()
    named = [name for name in there if pathlib.Path(name).stem == path]
    found = named or [name for name in there if path and _begins(name, path)]
    if len(found) > 1:
        more = f" and {len(found) - NUM_LISTED} more" if len(found) > NUM_LISTED else ""
        raise ConfigError(f"--config={path}: which one? {', '.join(found[:NUM_LISTED])}{more}")
    if found:
        return pathlib.Path(shipped(found[0]))
    stems = {pathlib.Path(name).stem: name for name in there}
    raise ConfigError(f"--config={path}: no such file{did_you_mean(path, [*there, *stems])}")


def _begins(name: str, start: str) -> bool:
    """Whether the path of a config, the path below `configs/`, or the name of its file begins like that."""
    return any(text.startswith(start) for text in (name, name.removeprefix("configs/"), pathlib.Path(name).name))


def _run_file(name: str, file: pathlib.Path, **options: Any) -> types.ModuleType:
    """Runs a Python file as a module of a name, under which other modules do not find it."""
    spec: Any = importlib.util.spec_from_file_location(name, file, **options)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _imports_of(file: pathlib.Path) -> Iterator[None]:
    """What a config file can import: modules beside it, and as `configs` those of this project, whoever has that name.

    A folder `configs` of the user's that the file is in is searched behind them. Nothing of it stays: the next config
    may have other modules of the same names beside it.
    """
    places = [HOME, *(folder for folder in file.parents if folder.name == "configs")][:2]
    with _set_aside("configs"):
        configs = {"submodule_search_locations": [str(place) for place in places]}
        sys.modules["configs"] = _run_file("configs", HOME / "__init__.py", **configs)
        known, folder = set(map(_top, sys.modules)), str(file.parent)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if _top(name) not in known and _is_in(folder, _top(name))]:
                del sys.modules[name]


@contextlib.contextmanager
def _set_aside(package: str) -> Iterator[None]:
    """Within, a package is not imported yet; afterwards it is what it was before."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _top(name) == package}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _top(name) == package]:
            del sys.modules[name]
        sys.modules.update(before)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_in(folder: str, name: str) -> bool:
    """Whether a module or package was found in this folder."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
    return any(str(pathlib.Path(place).parent) == folder for place in places)


def _as_tuples(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again, however deep."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def suggest_key(word: str, known: Sequence[str] = (), flag: str = "{}") -> str:
    """The end of a message about a key that there is not: the one that is called so in a section, or the nearest.

    Args:
      known: keys; none: those of `base_config`.
      flag: how to write it.
    """
    known = known or list(flatten(base_config()))
    last = word.rsplit(".", 1)[-1]
    same = sorted((key for key in known if key.rsplit(".", 1)[-1] == last), key=lambda key: key.count("."))
    found = did_you_mean(word, same) or (f", did you mean {same[0]}?" if same else did_you_mean(word, known))
    head, _, key = found.rstrip("?").rpartition(" ")
    return f"{head} {flag.format(key)}?" if found else ""


def folder_format() -> dict[str, Any]:
    """What config.json and study.json begin with."""
    return {"format": FORMAT, "fpclass": __version__}


def read_format(values: dict[str, Any], where: str) -> tuple[int, str]:
    """The format of config.json or study.json, and the version of fpclass that wrote it.

    Raises:
      RunError: a later version wrote it, or it is something else.
    """
    if not isinstance(values, dict):
        raise RunError(f"{where}: cannot be read; train again into a new --workdir")
    number, version = values.get("format", 1), values.get("fpclass", "0.1.0")
    if number not in range(1, FORMAT + 1):
        raise RunError(
            f"{where}: was written by fpclass {version} in format {number}, and this is {__version__}, which reads "
            f"formats up to {FORMAT}: install that version, or train again into a new --workdir"
        )
    return number, version


def subclass_counts(config: Config) -> tuple[int, ...]:
    """How many classes `data.merge` puts into each, where `model.subclasses` has them learnt one by one; else ()."""
    return tuple(len(members) for _, members in config.data.merge) if config.model.subclasses else ()
