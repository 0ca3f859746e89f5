"""The command line: the registry of all commands, and `main`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from fpclass import __version__
from fpclass.api import commands as api
from fpclass.common.compilation import prepare_libraries
from fpclass.common.console import Interrupted, complain, program, say
from fpclass.common.flags import Command, refuse, split_keys
from fpclass.common.huge_pages import restart_with_huge_pages
from fpclass.common.threads import leave
from fpclass.data.collect import commands as collect
from fpclass.data.synthetic import commands as synthetic
from fpclass.data.tidy import commands as tidy
from fpclass.deploy import commands as deploy
from fpclass.deploy.serve import commands as serve
from fpclass.eda import commands as eda
from fpclass.errors import ConfigError, FpclassError, did_you_mean, is_out_of_memory, one_line
from fpclass.models.pretrained import commands as pretrained
from fpclass.run import commands as run
from fpclass.search import commands as search
from fpclass.study import commands as study
from fpclass.study.altered import commands as altered
from fpclass.study.maps import commands as maps
from fpclass.study.trained import commands as trained
from fpclass.tune import commands as tune

MODULES = (
    run, search, study, trained, maps, altered, api, deploy, serve, tune, eda, collect, tidy, synthetic, pretrained,
)  # fmt: skip
COMMANDS: dict[str, Command] = {command.name: command for module in MODULES for command in module.COMMANDS}


def completion(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a script that completes commands, flags, config files and keys in a shell: `source` it, or save it."""
    from fpclass.common.completion import script_for

    refuse(overrides, "completion")
    say(script_for(args.shell, {name: _flags_of(parser) for name, parser in _parsers(make_parser()).items()}))
    return 0


def _add_completion_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


COMPLETION_EPILOG = """
  fpclass completion bash > ~/.local/share/bash-completion/completions/fpclass      from the next shell on
  source <(fpclass completion zsh)                                                  a line for .zshrc
"""
COMMANDS["completion"] = Command("completion", completion, _add_completion_flags, COMPLETION_EPILOG)


class _Parser(argparse.ArgumentParser):
    """The parser of a command. Its flags are added when it is chosen: those of other commands may need imports."""

    command: Command | None = None

    def add_flags(self) -> None:
        """Adds those of the command, unless they are there."""
        command, self.command = self.command, None
        if command:
            command.add_arguments(self)
            needed = [action for action in self._actions if action.required and action.option_strings]
            for action in needed:
                action.help = f"{action.help}; has to be given"
            if needed:
                self.usage = f"{self.usage} {' '.join(f'{each.option_strings[0]}={each.metavar}' for each in needed)}"

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        self.add_flags()
        return super().parse_known_args(args, namespace)


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """Help that is wide enough for a line per command."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=112)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `--config…` flags pass through to ml_collections."""
    parser = _Parser(
        prog=program(),
        description="From labelled images to a classifier, how good it is with an interval, and a submission.",
        epilog=_in_own_words(run.EPILOG),
        formatter_class=_help_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fpclass {__version__}")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        parsers.add_parser(
            name,
            help=command.description.split(": ")[0].split(". ")[0].rstrip("."),
            description=textwrap.fill(command.description, 100),
            epilog=_in_own_words(command.epilog or ""),
            usage=f"{program()} {name} …",
            formatter_class=_help_formatter,
            allow_abbrev=False,
        ).command = command
    return parser


def _in_own_words(epilog: str) -> str:
    """The examples of a command with the name that this program was started by."""
    return re.sub("^  fpclass", f"  {program()}", epilog, flags=re.MULTILINE)


def _parsers(parser: argparse.ArgumentParser) -> dict[str, _Parser]:
    """The parsers of all commands by name."""
    return next(dict(action.choices) for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _flags_of(parser: _Parser) -> list[str]:
    """The flags of a command, those of its own sub-commands among them."""
    parser.add_flags()
    found = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [*action.choices, *(flag for own in action.choices.values() for flag in _flags_of(own))]
        elif not action.option_strings and action.choices:
            found += map(str, action.choices)
    return list(dict.fromkeys(found))


def _refuse_misspelt(parser: argparse.ArgumentParser, command: str, rest: Sequence[str]) -> None:
    """Refuses flags that the parser of a command does not know and that are no keys of a config.

    Raises:
      ConfigError: there is one.
    """
    for name in (argument.partition("=")[0] for argument in rest):
        if not name.startswith("--") or re.match(r"--(no)?config(\.|$)", name):
            continue
        flags = _flags_of(_parsers(parser)[command])
        meant = did_you_mean(name, flags, likeness=0.8)
        if not meant and {"--config", "--configs", "--workdir"} & set(flags):
            from fpclass.config import suggest_key

            meant = suggest_key(name.removeprefix("--"), flag="--config.{}=…")
        raise ConfigError(f"{name}: no such flag{meant or did_you_mean(name, flags)}; see {program()} {command} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; without arguments, the demo.

    Args:
      argv: arguments without the program's name; None for those of the process.

    Returns:
      Exit code: 0 done, 1 partly done, 2 something the user can mend (one line says what), 128 + n after a signal.
    """
    argv, keys = split_keys(sys.argv[1:] if argv is None else argv)
    argv = argv or ["train"]
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        complain(f"{argv[0]}: no such command{did_you_mean(argv[0], COMMANDS)}; {program()} --help lists them")
        return 2
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    rest = [*keys, *rest]
    try:
        _refuse_misspelt(parser, args.command, rest)
        prepare_libraries()
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
    except KeyboardInterrupt as interrupt:
        complain("interrupted")
        return interrupt.exit_code if isinstance(interrupt, Interrupted) else 130


def start() -> NoReturn:
    """Runs a command as a process of its own, and ends it."""
    restart_with_huge_pages()
    leave(main())
