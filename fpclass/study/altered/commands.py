"""The commands that ask a run or a study about altered copies of images that it never saw: robustness, shortcuts."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from fpclass.console import interruptible, say
from fpclass.errors import ConfigError
from fpclass.flags import Command, add_trained_flag, at_least, path
from fpclass.study.trained.commands import find_study

if TYPE_CHECKING:
    from fpclass.study.altered.unseen import Unseen

ROBUSTNESS_EPILOG = """
  fpclass robustness runs/photos                          the run's validation images, corrupted
  fpclass robustness runs/study --images=300              every image by members that never saw it; 300 of them
  fpclass robustness runs/a runs/b                        both, with their curves side by side

docs/robustness.md has the corruptions with their strengths, and how to read the curves.
"""
SHORTCUTS_EPILOG = """
  fpclass shortcuts runs/prints                           the network as it was trained
  fpclass shortcuts runs/prints --retrain                 and networks trained on each version: what can be known from it
  fpclass shortcuts runs/study --retrain --versions size outline

A version can be trained on by itself, too: fpclass train DIR --config.data.keep=outline. docs/robustness.md says what
each is.
"""


def robustness(args: argparse.Namespace, overrides: list[str]) -> int:
    """Asks a run or a study about corrupted copies of images that it never saw: what hurts first, and what does not.

    JPEG, blur, noise, contrast, rotation and occlusion at five strengths each; accuracy with intervals over people, and
    the paired loss. A study's images are each judged by the members that never saw them.
    """
    from fpclass.study.altered.robustness import compare_models, conclude_robustness, measure

    measured = []
    with interruptible() as interruption:
        folders = args.trained or [args.workdir]
        for folder in folders:
            if interruption.signal_number:
                break
            unseen = _open(folder, overrides).some(args.images)
            measured.append(measure(unseen, pathlib.Path(folder).resolve().name, interruption, args.seed))
            say(conclude_robustness(measured[-1]))
    if len(measured) > 1:
        say(compare_models(measured))
    return interruption.exit_code if interruption.signal_number else 0


def _open(folder: str, overrides: list[str]) -> Unseen:
    from fpclass.run.folder import Run
    from fpclass.study.altered.unseen import Unseen

    there = find_study(folder, overrides)
    return Unseen.of_study(there) if there else Unseen.of_run(Run.open(folder, overrides))


def _add_robustness_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser, is_positional=False)
    add = parser.add_argument
    add("trained", nargs="*", type=path, metavar="RUN", help="run or study folders; several: curves side by side")
    _add_images_flag(parser)
    add("--seed", type=at_least(0), default=0, metavar="S", help="of noise, sides and places; default %(default)s")


def _add_images_flag(parser: argparse.ArgumentParser) -> None:
    some = "at most so many of the images, drawn at random; default: all"
    parser.add_argument("--images", type=at_least(5), default=10**9, metavar="N", help=some)


COMMANDS = (Command("robustness", robustness, _add_robustness_flags, ROBUSTNESS_EPILOG),)
