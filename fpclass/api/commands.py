"""The command `compare`."""

from __future__ import annotations

import argparse
import pathlib

from fpclass.common.console import say
from fpclass.common.flags import Command, path, refuse
from fpclass.errors import ConfigError

EPILOG = """
The first run is the baseline. Runs have to be judged on the same validation images: the same data and split.seed.
Several that differ in their seed alone are trainings of one experiment; two or more of each are what a verdict takes.

  fpclass compare runs/photos runs/blocks
  fpclass compare runs/photos runs/blocks --output=flips.csv    all images that flipped, as a table
  fpclass compare runs/study                                    the table of a study
"""

SHOWN = ["config", "mean", "low", "high", "difference", "difference_low", "difference_high", "p_adjusted", "verdict"]
"""Columns of study.csv that are shown."""


def compare(args: argparse.Namespace, overrides: list[str]) -> int:
    """Compares trainings on the same images: config, paired difference with its interval, the images that flipped.

    Of a study it is the table that it ended with.
    """
    import pandas as pd

    from fpclass.api.compare import compare_runs
    from fpclass.api.flips import describe, flipped
    from fpclass.api.trained import TrainedStudy, load
    from fpclass.common import files

    refuse(overrides, "compare")
    if args.output:
        files.check_writable(pathlib.Path(args.output))
    opened = [load(folder) for folder in args.runs]
    if len(opened) == 1 and isinstance(opened[0], TrainedStudy):
        if args.output:
            raise ConfigError("--output: a study has its table in study.csv, and its members are runs to compare")
        say(opened[0].table.to_string(index=False, columns=SHOWN, float_format="{:.3f}".format, na_rep=""))
        return 0
    compared = compare_runs(opened)
    others = [name for name in compared.experiments if name != compared.baseline]
    say("\n\n".join("\n".join(describe(compared, name)) for name in others))
    if args.output:
        tables = [flipped(compared, name).assign(run=name) for name in others]
        files.write_csv(pathlib.Path(args.output), pd.concat(tables))
        say(f"written: {args.output}")
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="run folders, the baseline first; or one study"
    )
    parser.add_argument("--output", type=path, metavar="CSV", help="where all images that flipped are listed")


COMMANDS = (Command("compare", compare, _add_arguments, EPILOG),)
