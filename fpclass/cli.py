"""The command line: the registry of all commands, and `main`."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from fpclass.compilation import keep_programs
from fpclass.console import complain
from fpclass.data.collect import commands as collect
from fpclass.data.synthetic import commands as synthetic
from fpclass.data.tidy import commands as tidy
from fpclass.eda import commands as eda
from fpclass.errors import FpclassError, is_out_of_memory, one_line
from fpclass.files import cache_dir
from fpclass.flags import Command
from fpclass.models.pretrained import commands as pretrained
from fpclass.run import commands as run
from fpclass.study import commands as study
from fpclass.study.trained import commands as trained
from fpclass.threads import leave

MODULES = (run, study, trained, eda, collect, tidy, synthetic, pretrained)
COMMANDS: dict[str, Command] = {command.name: command for module in MODULES for command in module.COMMANDS}


class _Parser(argparse.ArgumentParser):
    """The parser of a command. Its flags are added when it is chosen: those of other commands may need imports."""

    command: Command | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        command, self.command = self.command, None
        if command:
            command.add_arguments(self)
        return super().parse_known_args(args, namespace)


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """Help that is wide enough for a line per command."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=112)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `--config…` flags pass through to ml_collections."""
    parser = _Parser(
        prog="launch.py",
        description="From labelled images to a classifier, how good it is with an interval, and a submission.",
        epilog=run.EPILOG,
        formatter_class=_help_formatter,
        allow_abbrev=False,
    )
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        parsers.add_parser(
            name,
            help=command.description.split(": ")[0].split(". ")[0].rstrip("."),
            description=textwrap.fill(command.description, 100),
            epilog=command.epilog,
            formatter_class=_help_formatter,
            allow_abbrev=False,
        ).command = command
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; without arguments, the demo.

    Args:
      argv: arguments without the program's name; None for those of the process.

    Returns:
      Exit code: 0 done, 1 partly done, 2 something the user can mend (one line says what), 128 + n after a signal.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["train"]
    args, rest = make_parser().parse_known_args(argv)
    try:
        _prepare_libraries()
        return COMMANDS[args.command].function(args, rest)
    except FpclassError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a disk that fills up while a log is being written, a folder that vanishes
        where, why = error.filename or args.command, error.strerror or error
        complain(f"{where}: {why}; free space on the disk, or look at the file's rights")
        return 2
    except (MemoryError, RuntimeError) as error:  # where the values of the keys are not known
        if not is_out_of_memory(error):
            raise
        advice = "lower data.image_size, data.memory_gb or train.batch_size, or use a machine with more"
        complain(f"{args.command}: out of memory ({one_line(error, 200)}); {advice}")
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def start() -> NoReturn:
    """Runs a command as a process of its own, and ends it."""
    leave(main())


def _prepare_libraries() -> None:
    """Keeps compiled programs between runs; lets libraries speak only of errors."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    keep_programs(cache_dir() / "compiled")
