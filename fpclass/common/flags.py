"""How a command is declared, and the flags that several commands share.

A package with commands has a module `commands.py` with a tuple `COMMANDS`. Such modules import nothing heavy before a
command of theirs is chosen: `fpclass --help` reads all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from fpclass.common.console import program
from fpclass.common.files import expanded
from fpclass.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of `fpclass`.

    Attributes:
      function: does it, of the parsed flags and of what they left, which is for the config; returns the exit code. Its
        docstring is the help of the command.
    """

    name: str
    function: Callable[[argparse.Namespace, list[str]], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    epilog: str | None = None

    @property
    def description(self) -> str:
        """What the command does, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split())


def at_least(smallest: float, *, at_most: float = math.inf) -> Callable[[str], Any]:
    """The type of a flag: numbers in a range, whole ones where `smallest` is one."""

    def number(text: str) -> float:
        value = type(smallest)(text)
        if not (smallest <= value <= at_most and math.isfinite(value)):
            expected = f"at least {smallest}" if at_most == math.inf else f"{smallest} to {at_most}"
            raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
        return value

    return number


def number_of_folds(text: str) -> int:
    """The type of `--folds`: at least 2, or 0 for one split."""
    return 0 if text == "0" else at_least(2)(text)


def path(text: str) -> str:
    """The type of a flag: a path, in which `~` stands for the home folder, also behind `=`, where shells leave it."""
    try:
        return str(expanded(text)) if text else text
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """The images, `--config` and `--workdir` of commands that start a run folder."""
    add_config_flag(parser)
    workdir = "run folder; default runs/NAME of the config, or of the folder of images"
    parser.add_argument("--workdir", type=path, metavar="DIR", help=workdir)


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """The images and `--config`: by default what suits the images, without any the demo."""
    add_data_flags(parser)
    add = parser.add_argument
    add("--config", type=path, metavar="FILE", help="experiment; default: what suits the images; without any the demo")


def add_data_flags(parser: argparse.ArgumentParser, *, with_model: bool = True) -> None:
    """A folder of images, and short forms of the keys of a config that say what they are, and what learns from them."""
    add = parser.add_argument
    images = "a folder per class, a CSV with its images, an archive of one, or its address: data.root"
    add("root", nargs="?", default="", type=path, metavar="IMAGES", help=images)
    add("--label", default="", metavar="COLUMN", help="of the CSV: the class (data.label_column)")
    add("--group", default="", metavar="COLUMN", help="whose images they are (data.group_column); none: nobody's")
    add("--size", default="", metavar="PIXELS", help="224, or HEIGHTxWIDTH (data.image_size)")
    if with_model:
        add("--minutes", default="", metavar="N", help="a training ends after so many (train.max_minutes)")
        add("--model", default="", metavar="NAME", help="a network or pretrained weights, with size and normalisation")


def add_strict_flag(parser: argparse.ArgumentParser) -> None:
    """`--strict`."""
    parser.add_argument("--strict", action="store_true", help="stop if any image has to be left out")


def add_trained_flag(parser: argparse.ArgumentParser, *, is_positional: bool = True) -> None:
    """The folder of a run or a study, for commands that open one."""
    _add_folder(parser, "run folder of a training, or a study folder; default: this folder", is_positional)


def _add_folder(parser: argparse.ArgumentParser, help_text: str, is_positional: bool = True) -> None:
    """`--workdir`, which may also stand without its name."""
    parser.add_argument("--workdir", type=path, metavar="DIR", default=".", help=help_text)
    if is_positional:  # suppressed where it is not there, so that it leaves --workdir alone
        parser.add_argument(
            "workdir", nargs="?", type=path, metavar="RUN", default=argparse.SUPPRESS, help="the same as --workdir"
        )


def add_study_workdir_flag(parser: argparse.ArgumentParser, default: str) -> None:
    """`--workdir` of commands that start a study folder."""
    help_text = "study folder; default %(default)s"
    parser.add_argument("--workdir", type=path, metavar="DIR", default=default, help=help_text)


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a job of several processes."""
    add = parser.add_argument
    add(
        "--distributed", action="store_true", help="one of several processes; found by SLURM, TPU, Kubernetes, or below"
    )
    add("--coordinator", metavar="HOST:PORT", help="distributed: address of the first process")
    add("--num-processes", type=at_least(1), metavar="N", help="distributed: how many there are")
    add("--process-id", type=int, metavar="I", help="distributed: which of them this is, from 0")


def split_keys(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that are not about keys of the config, and those that are, such as `--config.seed=3`.

    A value in a part of its own is put to its key: it is no folder of images. And argparse, which takes everything with
    a blank in it for one, is not shown any.
    """
    others: list[str] = []
    keys: list[str] = []
    is_waiting = False
    for argument in arguments:
        if is_waiting and not argument.startswith("-"):
            keys[-1] += f"={argument}"
            is_waiting = False
        elif re.match(r"--?(no)?config\.", argument):
            keys.append(argument)
            is_waiting = _waits_for_value(argument)
        else:
            others.append(argument)
            is_waiting = False
    return others, keys


def _waits_for_value(argument: str) -> bool:
    if not argument.startswith(("--config.", "-config.")) or "=" in argument:
        return False
    from fpclass.config import base_config, flatten

    return not isinstance(flatten(base_config()).get(argument.partition("config.")[2]), bool)  # those are switches


def refuse(rest: Sequence[str], command: str) -> None:
    """Refuses what no flag took, in a command without a config.

    Raises:
      ConfigError: there is something.
    """
    if rest:
        raise ConfigError(f"unexpected argument {rest[0]!r}; see {program()} {command} --help")
