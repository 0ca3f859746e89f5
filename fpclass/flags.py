"""What the command line understands: the flags of every command, and the help that shows them."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Mapping

from fpclass.data.collect import commands as collect_commands
from fpclass.data.tidy import commands as tidy_commands
from fpclass.eda import commands as eda_commands
from fpclass.models.pretrained import commands as weights_commands
from fpclass.run import augment_preview

DEMO = "configs/demo.py"
DEFAULT_STUDY = ("configs/footprints/baseline.py", "configs/footprints/exp*.py")
"""The experiments that need no pretrained weights."""
STAGES = ("ingest", "prepare", "train", "evaluate")
"""Where `train --until` can end."""

EPILOG = """
Any key of configs/base.py can be set: --config.data.root=DIR --config.train.num_epochs=10 …
Caches (drawn data, decoded images, compiled programs) live in the user's cache folder, or in $FPCLASS_CACHE.

  launch.py                                      the demo: everything, on drawn footprints
  launch.py train --config=configs/footprints/exp04_early_stopping_dropout.py --config.data.root=DIR
                                                 everything, on your data, into runs/exp04_…
  launch.py study --folds=5 --seeds=3 --config.data.root=DIR
                                                 every experiment on every fold: which differences are real
  launch.py train --config=FILE --until=ingest   one stage at a time: ingest, prepare, train, evaluate
  launch.py submit --ensemble --workdir=runs/study
                                                 submission.csv from the ensemble of a study
  launch.py submit --workdir=runs/exp04          submission.csv once more, from the best checkpoint
  launch.py predict print.png more/ --workdir=runs/exp04
"""

SWEEP_EPILOG = """
Any key of configs/base.py can be set, as for study.

  launch.py freeze-sweep --config=configs/transfer/gradual.py --config.data.root=DIR
  launch.py freeze-sweep --config=configs/transfer/gradual.py --cuts head block6 block4 --seeds=3 …
"""

STUDY_EPILOG = """
Any key of configs/base.py can be set, for all configs alike: --config.data.root=DIR --config.train.num_epochs=10 …

  launch.py study --configs 'configs/footprints/*.py' --seeds=3 --config.data.root=DIR
  launch.py study --resume --workdir=runs/study --config.study.margin=0.01      judge it once more, by another margin
  launch.py submit --ensemble --workdir=runs/study                              submission.csv from its ensemble
"""

EPILOGS = {
    "train": EPILOG,
    "audit": EPILOG,
    "eda": eda_commands.EPILOG,
    "study": STUDY_EPILOG,
    "freeze-sweep": SWEEP_EPILOG,
    "collect": collect_commands.EPILOG,
    "dedupe": tidy_commands.DEDUPE_EPILOG,
    "convert": tidy_commands.CONVERT_EPILOG,
    "augment-preview": augment_preview.EPILOG,
    "weights": weights_commands.EPILOG,
}


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """Help that is wide enough for a line per command."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=112)


def make_parser(commands_by_name: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """The parser of all commands, whose docstrings are their help; `--config…` flags pass through to ml_collections."""
    parser = argparse.ArgumentParser(
        prog="launch.py",
        description="From labelled images to a classifier, how good it is with an interval, and a submission.",
        epilog=EPILOG,
        formatter_class=_help_formatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    added = {}
    for name, function in commands_by_name.items():
        text = " ".join((inspect.getdoc(function) or "").split())
        added[name] = commands.add_parser(
            name,
            help=text.split(": ")[0].split(". ")[0].rstrip("."),
            description=textwrap.fill(text, 100),
            epilog=EPILOGS.get(name),
            formatter_class=_help_formatter,
            allow_abbrev=False,
        )
    for name in ("train", "audit"):
        added[name].add_argument("--config", default=DEMO, metavar="FILE", help="experiment; default %(default)s")
        added[name].add_argument("--workdir", metavar="DIR", help="run folder; default runs/NAME of the config")
        added[name].add_argument("--strict", action="store_true", help="stop if any image has to be left out")
    until = "end after this stage: " + ", ".join(STAGES) + "; the next start goes on from there"
    added["train"].add_argument("--until", choices=STAGES, metavar="STAGE", help=until)
    _add_process_flags(added["train"])
    for name in ("evaluate", "explain", "submit", "predict"):
        added[name].add_argument("--workdir", metavar="DIR", required=True, help="run folder of a training")
    _add_study_flags(added["study"])
    _add_sweep_flags(added["freeze-sweep"])
    collect_commands.add_arguments(added["collect"])
    tidy_commands.add_dedupe_arguments(added["dedupe"])
    tidy_commands.add_convert_arguments(added["convert"])
    augment_preview.add_arguments(added["augment-preview"], DEMO)
    weights_commands.add_arguments(added["weights"])
    eda_commands.add_arguments(added["eda"], DEMO)
    ensemble = "of the study in --workdir: members averaged, configs weighted by ensemble.json"
    added["submit"].add_argument("--ensemble", action="store_true", help=ensemble)
    added["predict"].add_argument("inputs", nargs="+", metavar="IMAGE", help="image files or folders")
    added["predict"].add_argument("--output", default="-", metavar="CSV", help="where to; default: the terminal")
    drawn = added["synthesize"]
    drawn.add_argument("folder", metavar="DIR", help="a new folder")
    drawn.add_argument("--num-images", type=at_least(1), default=2628, metavar="N", help="prints; default %(default)s")
    size = "default %(default)s; the competition has "
    drawn.add_argument("--height", type=at_least(1), default=619, metavar="PX", help=f"{size}1238")
    drawn.add_argument("--width", type=at_least(1), default=403, metavar="PX", help=f"{size}806")
    drawn.add_argument("--seed", type=int, default=0, help="default %(default)s")
    return parser


def _add_study_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--configs",
        nargs="+",
        metavar="FILE",
        help=f"config files or quoted patterns; default {' '.join(DEFAULT_STUDY)}",
    )
    add("--folds", type=at_least(2), metavar="K", help="parts of the people; default 5")
    add("--seeds", type=at_least(1), metavar="S", help="trainings per fold; default 1; more of them tell more")
    add("--workdir", metavar="DIR", default="runs/study", help="study folder; default %(default)s")
    add("--baseline", metavar="NAME", help="config that the others are compared with; default the one named baseline")
    add(
        "--compare-splits", action="store_true", help="train on image-random folds too, and show what the leak inflates"
    )
    add("--resume", action="store_true", help="go on with the study in --workdir, which must be there")
    add("--strict", action="store_true", help="stop if any image has to be left out")
    _add_process_flags(parser)


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="experiment with a backbone")
    add("--folds", type=at_least(2), default=5, metavar="K", help="parts of the people; default %(default)s")
    add("--seeds", type=at_least(1), default=1, metavar="S", help="trainings per fold; default %(default)s")
    add(
        "--cuts", nargs="+", metavar="STAGE", help="first stage that learns; head: none; default every one with weights"
    )
    add("--workdir", metavar="DIR", default="runs/freeze-sweep", help="study folder; default %(default)s")
    add("--strict", action="store_true", help="stop if any image has to be left out")


def _add_process_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--distributed", action="store_true", help="one of several processes; found by SLURM, TPU, Kubernetes, or below"
    )
    add("--coordinator", metavar="HOST:PORT", help="distributed: address of the first process")
    add("--num-processes", type=at_least(1), metavar="N", help="distributed: how many there are")
    add("--process-id", type=int, metavar="I", help="distributed: which of them this is, from 0")


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of a flag: whole numbers from here on."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {smallest}")
        return value

    return number
