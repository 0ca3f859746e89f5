"""The commands of a study folder, study, freeze-sweep and learning-curve, and submit, of a run or a study."""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import shlex
from typing import TYPE_CHECKING

from fpclass.common.console import interruptible, say
from fpclass.common.flags import (
    Command,
    add_config_flag,
    add_data_flags,
    add_process_flags,
    add_strict_flag,
    add_study_workdir_flag,
    add_trained_flag,
    at_least,
    number_of_folds,
    path,
)
from fpclass.errors import ConfigError
from fpclass.study.trained import commands as trained_commands

if TYPE_CHECKING:
    from fpclass.study.study import Study

DEFAULT_STUDY = ("fpclass/configs/footprints/baseline.py", "fpclass/configs/footprints/exp*.py")
"""The experiments that need no pretrained weights."""

EPILOG = """
Any key of configs/base.py can be set, for all configs alike: --config.data.root=DIR --config.train.num_epochs=10 …

  fpclass study DIR --seeds=3                                                 ways to a model for a folder of images
  fpclass study DIR --configs 'configs/footprints/*.py' --seeds=3
  fpclass study --resume --workdir=runs/study-DIR --config.study.margin=0.01  judge it once more, by another margin
  fpclass study --resume --workdir=runs/study-DIR --learning-curve            what more people would bring
  fpclass submit --ensemble --workdir=runs/study-DIR                          submission.csv from its ensemble
"""

SWEEP_EPILOG = """
Any key of configs/base.py can be set, as for study.

  fpclass freeze-sweep --config=configs/transfer/gradual.py --config.data.root=DIR
  fpclass freeze-sweep --config=configs/transfer/gradual.py --cuts head block6 block4 --seeds=3 …
"""


CURVE_EPILOG = """
The people who validate are the same for every share, and a smaller share is part of a larger one.

  fpclass learning-curve --config=configs/footprints/baseline.py --folds=5 --config.data.root=DIR
  fpclass learning-curve --config=FILE --folds=5 --seeds=3 --shares=0.125,0.25,0.5,1 --workdir=runs/curve
"""


def study(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains many configs on every fold (or the split of the data set) with every seed: which differences are real.

    The same command goes on after an interruption; nothing is trained twice. Exit code 1 if a config failed.
    """
    from fpclass.common import parallel
    from fpclass.experiment.propose import Short, announce, propose_study
    from fpclass.study.plan import default_folder, plan_study
    from fpclass.study.quick import quick_look
    from fpclass.study.scrutiny.learning_curve import with_curves
    from fpclass.study.study import Study

    if args.quick and (args.seeds or 1) > 1:
        raise ConfigError("--quick trains by one seed; leave --seeds out")
    parallel.use_all_cores()
    is_first = parallel.join_processes(args)
    folder = pathlib.Path(args.workdir or default_folder(Short.of(args).root, is_quick=args.quick))
    there = Study.open(folder) if args.resume else None
    if there and not args.configs:
        if args.folds is not None or args.baseline or args.compare_splits or args.quick:
            raise ConfigError("--resume without --configs takes all but --seeds from the study; leave the rest out")
        plan = there.changed(overrides, args.seeds)
    else:
        files, proposal = propose_study(args.configs or (), overrides, Short.of(args))
        announce(shlex.join(["study", *_given(args, folder)]), proposal, files)
        plan = plan_study(
            folder,
            files or DEFAULT_STUDY,
            proposal.overrides,
            num_folds=args.folds,
            num_seeds=args.seeds or 1,
            baseline=args.baseline,
            compare_splits=args.compare_splits,
        )
        plan = quick_look(plan) if args.quick else plan
    if args.learning_curve is not None:
        plan = with_curves(plan, args.learning_curve)
    return run_study(plan, strict=args.strict, is_first=is_first)


def _given(args: argparse.Namespace, folder: pathlib.Path) -> list[str]:
    """The flags of a study that are not of its configs, as they were given, and its folder."""
    numbers = ("folds", "seeds", "baseline")
    given = [f"--{name}={value}" for name in numbers if (value := getattr(args, name, None)) is not None]
    given += [f"--{name.replace('_', '-')}" for name in ("quick", "compare_splits", "strict") if getattr(args, name)]
    return [*given, f"--workdir={folder}"]


def run_study(plan: Study, *, strict: bool = False, is_first: bool = True) -> int:
    """What the command `study` does of a study that is planned; arguments as `train_run`.

    Returns:
      Exit code: 0, 1 where a config failed, or 128 + n where a signal stopped it.
    """
    from fpclass.study import run as study_run
    from fpclass.study.conclude import conclude
    from fpclass.study.page.write import write_report
    from fpclass.study.plan import describe_plan
    from fpclass.study.trained.conclusions import conclude_once

    if is_first:
        say(describe_plan(plan))
    with plan.claimed() if is_first else contextlib.nullcontext(), interruptible() as interruption:
        data = study_run.StudyData(plan, strict=strict)
        failures = study_run.train_study(plan, data, interruption)
        if failures is None:
            say(f"stopped; everything is in {plan.folder}, and the same command goes on from there")
            return interruption.exit_code
        if is_first:
            say(conclude_once(plan, failures, functools.partial(conclude, prepared=data.at_hand)))
            say(write_report(plan.folder))
    return 1 if failures else 0


def freeze_sweep(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains a backbone with ever more of its stages frozen, on every fold: what that costs and gains, as a figure."""
    from fpclass.common import parallel
    from fpclass.study import run as study_run
    from fpclass.study.conclude import conclude
    from fpclass.study.freeze_sweep import conclude_sweep, plan_sweep
    from fpclass.study.page.write import write_report
    from fpclass.study.trained.conclusions import conclude_once

    parallel.use_all_cores()
    folder = pathlib.Path(args.workdir)
    numbers = {"num_folds": args.folds, "num_seeds": args.seeds}
    plan = plan_sweep(folder, args.config, overrides, **numbers, cuts=args.cuts or ())
    with plan.claimed(), interruptible() as interruption:
        data = study_run.StudyData(plan, strict=args.strict)
        failures = study_run.train_study(plan, data, interruption)
        if failures is None:
            say(f"stopped; everything is in {folder}, and the same command goes on from there")
            return interruption.exit_code
        with_images = functools.partial(conclude, prepared=data.at_hand)
        say(conclude_once(plan, failures, with_images, conclude_sweep))
        say(write_report(folder))
    return 1 if failures else 0


def learning_curve(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains a config on shares of the people of every fold: how good it is by their number, and what more would bring.

    The same command goes on after an interruption; nothing is trained twice. Exit code 1 if a share failed.
    """
    from fpclass.common import parallel
    from fpclass.experiment.propose import settle
    from fpclass.study import run as study_run
    from fpclass.study.scrutiny.learning_curve import conclude_curve, plan_curve

    parallel.use_all_cores()
    folder = pathlib.Path(args.workdir)
    numbers = {"num_folds": args.folds, "num_seeds": args.seeds}
    proposal = settle(args, overrides)
    plan = plan_curve(folder, proposal.file, proposal.overrides, **numbers, shares=args.shares)
    with plan.claimed(), interruptible() as interruption:
        failures = study_run.train_study(plan, study_run.StudyData(plan, strict=args.strict), interruption)
        if failures is None:
            say(f"stopped; everything is in {folder}, and the same command goes on from there")
            return interruption.exit_code
        say(conclude_curve(plan, failures))
    return 1 if failures else 0


def submit(args: argparse.Namespace, overrides: list[str]) -> int:
    """Predicts the rows without a label with the best checkpoint, or with the ensemble of a study: submission.csv.

    --config.submit.threshold_for chooses the class by a threshold: of a study fitted out of fold, of a run on its inner
    split, and of a probe out of fold too.
    """
    there = trained_commands.find_study(args.workdir, overrides)
    if args.ensemble or there:
        from fpclass.study.conclude import conclude
        from fpclass.study.study import Study
        from fpclass.study.trained.conclusions import judge_what_is_done
        from fpclass.study.trained.ensemble import submit_ensemble

        there = there or Study.open(pathlib.Path(args.workdir))
        judge_what_is_done(there, conclude)
        path = submit_ensemble(there)
    else:
        from fpclass.run.best import BestModel
        from fpclass.run.decisions.submission import submit
        from fpclass.run.folder import Run
        from fpclass.run.prepare import prepare_again
        from fpclass.run.stages import SUBMIT, Stages

        run = Run.open(args.workdir, overrides)
        prepared = prepare_again(run)
        path = submit(BestModel(run, prepared.table.num_classes), prepared)
        Stages(run).done(SUBMIT)
    say(f"written: {path}")
    return 0


def _add_study_flags(parser: argparse.ArgumentParser) -> None:
    add_data_flags(parser, with_model=False)
    add = parser.add_argument
    configs = "config files or quoted patterns; default: ways to a model that suit IMAGES; without any the footprints'"
    add("--configs", nargs="+", metavar="FILE", help=configs)
    _add_fold_flag(parser)
    add("--seeds", type=at_least(1), metavar="S", help="trainings per fold; default 1; more of them tell more")
    add("--workdir", type=path, metavar="DIR", help="study folder; default runs/study-NAME of the folder of images")
    quick = "a first look: one seed, at most 3 folds, a fifth of the epochs; into a folder of its own"
    add("--quick", action="store_true", help=quick)
    add("--baseline", metavar="NAME", help="config that the others are compared with; default the one named baseline")
    leak = "train on image-random folds too, and show what the leak inflates"
    add("--compare-splits", action="store_true", help=leak)
    curve = "train these configs (none named: the baseline) on 25, 50, 75 %% of the people too: what more would bring"
    add("--learning-curve", nargs="*", metavar="NAME", help=curve)
    add("--resume", action="store_true", help="go on with the study in --workdir, which must be there")
    add_strict_flag(parser)
    add_process_flags(parser)


def _add_fold_flag(parser: argparse.ArgumentParser) -> None:
    folds = "parts of the people; 0: one split; default: the split that the data set brings, or else 5 folds"
    parser.add_argument("--folds", type=number_of_folds, metavar="K", help=folds)


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="experiment with a backbone")
    _add_fold_flag(parser)
    add("--seeds", type=at_least(1), default=1, metavar="S", help="trainings per fold; default %(default)s")
    cuts = "first stage that learns; head: none; default every one with weights"
    add("--cuts", nargs="+", metavar="STAGE", help=cuts)
    add_study_workdir_flag(parser, "runs/freeze-sweep")
    add_strict_flag(parser)


def _shares(text: str) -> tuple[float, ...]:
    """The type of `--shares`."""
    share = at_least(1e-6, at_most=1.0)
    return tuple(share(part) for part in text.split(","))


def _add_curve_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_config_flag(parser)
    add("--folds", type=at_least(2), default=5, metavar="K", help="parts of the people; default %(default)s")
    add("--seeds", type=at_least(1), default=1, metavar="S", help="trainings per fold; default %(default)s")
    shares = "of the people of each fold that train; default 0.25,0.5,0.75,1"
    add("--shares", type=_shares, default=(0.25, 0.5, 0.75, 1.0), metavar="A,B,C", help=shares)
    add_study_workdir_flag(parser, "runs/learning-curve")
    add_strict_flag(parser)


def _add_submit_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    ensemble = "a study is meant: members averaged, configs weighted by ensemble.json; refuses a run folder"
    parser.add_argument("--ensemble", action="store_true", help=ensemble)


COMMANDS = (
    Command("study", study, _add_study_flags, EPILOG),
    Command("freeze-sweep", freeze_sweep, _add_sweep_flags, SWEEP_EPILOG),
    Command("learning-curve", learning_curve, _add_curve_flags, CURVE_EPILOG),
    Command("submit", submit, _add_submit_flags),
)
