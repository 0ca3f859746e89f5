"""The command `tune`."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib

from fpclass.common.flags import (
    Command,
    add_data_flags,
    at_least,
    path,
)
from fpclass.errors import ConfigError

DEFAULT_MINUTES = 60.0
EPILOG = """
Any key of configs/base.py can be set, as for train. It needs Optuna: pip install optuna

  fpclass tune DIR --config=from_scratch --space=configs/spaces/small_cnn.py --minutes=30
  fpclass tune --config=FILE --space=FILE --minutes=60 --config.data.root=DIR --workdir=runs/tune

  SPACE = {                                            a space: a Python file
      "optim.learning_rate": ("log", 1e-4, 1e-2),      between two numbers, each power of ten as likely
      "train.num_epochs": (20, 60),                    between two numbers
      "optim.name": ["adamw", "sgd"],                  one of a list
  }

Written into the folder: tuned.py (a config file), tune.md, trials.csv, study/ (what was found beside what was there, on
other folds). docs/tune.md says what the scores are worth.
"""


def tune(args: argparse.Namespace, overrides: list[str]) -> int:
    """Searches better values of some keys of a config, by Optuna on folds: a config file, and what it is worth.

    The same command goes on after an interruption; nothing is trained twice. More --minutes go on with the search.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune needs Optuna, which is not installed: pip install optuna")

    from fpclass.common import parallel
    from fpclass.experiment import load_configs
    from fpclass.experiment.propose import settle
    from fpclass.train.task import check_network
    from fpclass.tune.run import plan_search, run_search
    from fpclass.tune.search import Limits
    from fpclass.tune.space import read_space

    parallel.use_all_cores()
    proposal = settle(args, overrides)
    (base,) = load_configs([proposal.file], proposal.overrides)
    check_network(base)
    space = read_space(args.space, base)
    origin = f"{base.name} with values that `tune` found: of {proposal.file}, in the space {args.space}."
    plan = plan_search(pathlib.Path(args.workdir), base, space, args.folds, origin)
    return run_search(plan, Limits(60 * args.budget, args.trials))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_data_flags(parser, with_model=False)
    add = parser.add_argument
    add("--config", type=path, metavar="FILE", help="experiment to search around; default: what suits the images")
    add("--space", type=path, metavar="FILE", required=True, help="which keys, and between what: see below")
    minutes = "for all of it, the comparison at the end included; default %(default)g"
    add("--minutes", dest="budget", type=at_least(0.0), default=DEFAULT_MINUTES, metavar="N", help=minutes)
    add("--trials", type=at_least(1), default=float("inf"), metavar="N", help="no more than so many")
    add("--folds", type=at_least(2), metavar="K", help="parts of the people; default 5")
    workdir = "folder of the search (predict and submit take the study/ in it); default %(default)s"
    add("--workdir", type=path, metavar="DIR", default="runs/tune", help=workdir)


COMMANDS = (Command("tune", tune, _add_flags, EPILOG),)
