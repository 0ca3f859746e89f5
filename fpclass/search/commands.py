"""The command `best`: the best model for labelled images within a budget of minutes."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fpclass.common import files
from fpclass.common.console import duration, interruptible, program, say
from fpclass.common.flags import Command, add_data_flags, at_least, number_of_folds, path

if TYPE_CHECKING:
    from fpclass.common.console import Interruption
    from fpclass.experiment.propose import Short
    from fpclass.search.halving import Budget, Found
    from fpclass.search.portfolio import Portfolio
    from fpclass.study.run import StudyData
    from fpclass.study.study import Study

MINUTES = 20.0

EPILOG = """
Any key of configs/base.py can be set, for all ways alike: --config.evaluate.positive_class=sick …

  fpclass best DIR                                               asks nothing, says what it took the columns for
  fpclass best DIR --minutes=60 --label=species --group=animal
  fpclass predict new/ --workdir=runs/best-DIR                   by the ensemble
  fpclass predict new/ --workdir=runs/best-DIR/final             by one network, trained on all labelled images

The same command, with more minutes or not, goes on: nothing is trained twice. Ctrl-C ends it with what there is.
"""


def best(args: argparse.Namespace, overrides: list[str]) -> int:
    """The best model for a folder of images within minutes: ways to it tried on folds, an ensemble, an estimate.

    The estimate is of the whole procedure, choice, ensemble, calibration and pooling included, on people who had no say
    in it. What comes of it is a study folder: predict, evaluate, explain and submit take it.
    """
    from fpclass.common import parallel
    from fpclass.experiment.propose import Short

    parallel.use_all_cores()
    short = dataclasses.replace(Short.of(args), minutes="")  # which are those of a training
    workdir = pathlib.Path(args.workdir) if args.workdir else None
    return find_best(overrides, short, args.minutes, args.folds, workdir, strict=args.strict)[1]


def find_best(
    overrides: Sequence[str],
    short: Short,
    minutes: float,
    num_folds: int | None,
    workdir: pathlib.Path | None,
    *,
    strict: bool = False,
) -> tuple[pathlib.Path, int]:
    """What the command `best` does; arguments as its flags.

    Returns:
      The folder, and the exit code: 0; 1 where nothing is trained yet, or 128 + n where a signal is why.
    """
    from fpclass.search.halving import Budget
    from fpclass.search.portfolio import make_portfolio

    budget = Budget(minutes)
    portfolio = make_portfolio(overrides, short)
    for line in portfolio.lines:
        say(line)
    folder = workdir or pathlib.Path("runs", f"best-{portfolio.name}")
    return folder, run_best(plan(portfolio, folder, num_folds), portfolio, budget, strict=strict)


def plan(portfolio: Portfolio, folder: pathlib.Path, num_folds: int | None) -> Study:
    """The study of the ways of a portfolio; of one that is there already, with those that it has besides.

    Raises:
      ConfigError, DataError: as `study.plan.assemble`.
    """
    from fpclass.config import given_keys
    from fpclass.experiment import AFTER_TRAINING, is_trained
    from fpclass.search.portfolio import FOLDS_OF_MANY, load_ways
    from fpclass.study.plan import assemble, default_folds
    from fpclass.study.scrutiny.learning_curve import with_curves
    from fpclass.study.study import Study

    by_name, first = load_ways(portfolio), portfolio.ways[0].name
    earlier = {}
    if (folder / "study.json").is_file():
        there = Study.open(folder)
        if any(member.is_done for name in there.configs for member in there.members(name)):
            num_folds = there.num_folds if num_folds is None else num_folds
            judged = [flag for flag in portfolio.flags if min(given_keys([flag])).startswith(AFTER_TRAINING)]
            there = there.changed(judged)
            earlier = {name: config for name, config in there.configs.items() if name not in by_name}
    if num_folds is None and portfolio.is_of_many:
        num_folds = default_folds(by_name[first], FOLDS_OF_MANY)
    study = assemble(folder, by_name, num_folds=num_folds, num_seeds=1, baseline=first, compare_splits=False)
    config = study.configs[first]
    # Probes cost seconds. What more images bring to one of random weights says nothing of a network that learns.
    if study.num_folds and config.model.weights and not is_trained(config):
        study = with_curves(study, [first])
    return dataclasses.replace(study, configs={**study.configs, **earlier})


def run_best(study: Study, portfolio: Portfolio, budget: Budget, *, strict: bool = False) -> int:
    """Tries the ways of a planned study, judges them, and writes what is to be handed in.

    Returns:
      Exit code: 0, or 128 + n where a signal stopped it before there was anything.
    """
    from fpclass.search.halving import search
    from fpclass.search.summary import summarise
    from fpclass.study import run as study_run
    from fpclass.study.conclude import conclude
    from fpclass.study.page.write import write_report
    from fpclass.study.trained.conclusions import REASONS, conclude_once
    from fpclass.study.trained.ensemble import submit_ensemble

    with study.claimed(), interruptible() as interruption:
        data = study_run.StudyData(study, strict=strict)
        abouts = {way.name: way.about for way in portfolio.ways}
        found = search(study, data, budget, interruption, abouts)
        reasons = found.reasons
        files.write_json(study.path(REASONS), reasons)
        if not set(study.names) - reasons.keys():
            goes_on = "the same command goes on" + f" with more --minutes than {budget.minutes:g}" * (
                not interruption.signal_number
            )
            say(f"nothing is trained whole yet; everything is in {study.folder}, and {goes_on}")
            return interruption.exit_code if interruption.signal_number else 1
        conclude_once(study, reasons, functools.partial(conclude, prepared=data.at_hand))
        say("\n" + "\n".join(summarise(study)))
        say(f"\nall of it   {study.path('study.md')}, with figures; study.csv, results.json, out_of_fold.csv")
        if portfolio.num_to_predict:
            say(f"submission  {submit_ensemble(study)}")
        if not interruption.signal_number:
            _finish(study, data, found, budget, interruption)
        say(write_report(study.folder))
    return 0


def _finish(study: Study, data: StudyData, found: Found, budget: Budget, interruption: Interruption) -> None:
    """The final network, and what to do next."""
    from fpclass.search.advice import advise
    from fpclass.search.final import beside_the_ensemble, chosen_of, train_final
    from fpclass.study.study import OF_PEOPLE

    name, reasons, run = chosen_of(study), found.reasons, None
    seconds = found.seconds.get(name, 0.0)  # of a training on fewer images
    if seconds <= budget.until_the_end:
        run = train_final(study, name, data.of(name), interruption)
    else:
        say(f"\n{name} on all labelled images takes about {duration(seconds)} more: the same command trains it")
    curve_of = study.baseline if any(OF_PEOPLE in each for each in set(study.configs) - reasons.keys()) else ""
    say("\nwhat next")
    for sentence in advise(study, reasons, name, curve_of):
        say(f"- {sentence}")
    say(f"\nthe ensemble: `{program()} predict FILES --workdir={study.folder}`")
    if run:
        say(beside_the_ensemble(study, run, data.of(name)))
        say(f"one network, {name} on all labelled images: `{program()} predict FILES --workdir={run.folder}`")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_flags(parser, with_model=False)
    add = parser.add_argument
    minutes = "for all of it, about; default %(default)g"
    add("--minutes", type=at_least(0.01), default=MINUTES, metavar="N", help=minutes)
    add("--model", default="", metavar="NAME", help="this network or these pretrained weights alone")
    folds = (
        "parts of the people; default: the split that the data set brings, or else 5, fewer of few people, 3 of 10,000 "
        "images and more"
    )
    add("--folds", type=number_of_folds, metavar="K", help=folds)
    add("--workdir", type=path, metavar="DIR", help="study folder; default runs/best-NAME of the folder of images")
    add("--strict", action="store_true", help="stop if any image has to be left out")


COMMANDS = (Command("best", best, _add_arguments, EPILOG),)
