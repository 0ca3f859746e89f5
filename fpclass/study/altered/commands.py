"""The commands that ask a run or a study about altered copies of images that it never saw: robustness, shortcuts."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from fpclass.common.console import interruptible, say
from fpclass.common.flags import Command, add_trained_flag, at_least, path
from fpclass.study.trained.commands import find_study

if TYPE_CHECKING:
    from fpclass.study.altered.unseen import Unseen
    from fpclass.study.study import Study

ROBUSTNESS_EPILOG = """
  fpclass robustness runs/photos                          the run's validation images, corrupted
  fpclass robustness runs/study --images=300              every image by members that never saw it; 300 of them
  fpclass robustness runs/a runs/b                        both, with their curves side by side

docs/robustness.md has the corruptions with their strengths, and how to read the curves.
"""
SHORTCUTS_EPILOG = """
  fpclass shortcuts runs/prints                      the network as it was trained
  fpclass shortcuts runs/prints --retrain            and networks trained on each version: what can be known from it
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
    from fpclass.study.page.write import write_report

    measured = []
    with interruptible() as interruption:
        folders = args.trained or [args.workdir]
        for folder in folders:
            if interruption.signal_number:
                break
            unseen = _unseen(find_study(folder, overrides), folder, overrides).some(args.images)
            measured.append(measure(unseen, pathlib.Path(folder).resolve().name, interruption, args.seed))
            say(conclude_robustness(measured[-1]))
    if len(measured) > 1:
        say(compare_models(measured))
    for of in measured:
        say(write_report(of.unseen.folder))
    return interruption.exit_code if interruption.signal_number else 0


def shortcuts(args: argparse.Namespace, overrides: list[str]) -> int:
    """Asks a run or a study about versions that keep only one thing of an image: what does it use?

    Of prints size, outline, texture, paper and frame; of photographs background, centre, grey, low and high
    frequencies; of both mirrored and scaled. --retrain trains on the versions as well, by the same config, split and
    seeds: what can be known from that thing alone.
    """
    from fpclass.common import parallel
    from fpclass.run.folder import Run
    from fpclass.study.altered.retrain import retrain_run, retrain_study, trained_by_default
    from fpclass.study.altered.shortcuts import choose_versions, conclude_shortcuts, measure_versions, with_retrained
    from fpclass.study.page.write import write_report

    there = find_study(args.workdir, overrides)
    if there and args.retrain:
        parallel.use_all_cores()
    unseen = _unseen(there, args.workdir, overrides)
    kind, names = choose_versions(unseen, args.kind, args.versions or ())
    say(f"{len(unseen)} images, taken for {kind}: {', '.join(names)}")
    with interruptible() as interruption:
        found = measure_versions(unseen, kind, names, interruption)
        if args.retrain and found.is_finished:
            wanted = list(args.versions or trained_by_default(names))
            if there:
                logits, filenames, chosen = retrain_study(there, wanted, interruption)
                is_same = filenames == unseen.filenames
            else:
                logits = retrain_run(Run.open(args.workdir, overrides), wanted, unseen.filenames, interruption)
                is_same, chosen = True, ""
            if logits and is_same:
                found = with_retrained(found, logits, unseen, chosen, is_finished=len(logits) == 1 + len(wanted))
    say(conclude_shortcuts(found))
    say(write_report(pathlib.Path(args.workdir)))
    if interruption.signal_number:
        say("stopped; the same command goes on from there")
    return interruption.exit_code if interruption.signal_number else 0


def _unseen(there: Study | None, folder: str, overrides: list[str]) -> Unseen:
    """The images that a study never saw, or else the run in the folder."""
    from fpclass.run.folder import Run
    from fpclass.study.altered.unseen import Unseen

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


def _add_shortcuts_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    add = parser.add_argument
    add("--retrain", action="store_true", help="train on the versions that take something away, too")
    add("--versions", nargs="+", metavar="NAME", help="these only, and all of them with --retrain; default: all")
    kinds = "what the images are; default: what they look like (is there ink on paper?)"
    add("--kind", choices=("prints", "photographs"), help=kinds)


COMMANDS = (
    Command("robustness", robustness, _add_robustness_flags, ROBUSTNESS_EPILOG),
    Command("shortcuts", shortcuts, _add_shortcuts_flags, SHORTCUTS_EPILOG),
)
