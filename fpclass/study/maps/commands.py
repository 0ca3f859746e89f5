"""The commands about maps and features of what is trained: check-maps, features."""

from __future__ import annotations

import argparse
import pathlib

from fpclass.common.console import say
from fpclass.common.flags import Command, add_trained_flag, at_least, path
from fpclass.explain.methods import METHODS
from fpclass.study.trained.commands import find_study

DEFAULT_METHODS = ("grad_cam", "hires_cam", "layer_cam")
"""Methods of one backward pass."""

CHECK_EPILOG = """
  fpclass check-maps --workdir=runs/exp04
  fpclass check-maps --workdir=runs/exp04 --method grad_cam occlusion --num=100
  fpclass check-maps --workdir=runs/study                    its best config, and whether all of them look at the same
  fpclass check-maps --workdir=runs/study --config.explain.stage=conv1/relu

What each check is and cannot say: docs/map_checks.md
"""

FEATURES_EPILOG = """
  fpclass features --workdir=runs/exp04
  fpclass features --workdir=runs/exp04 --num=8
"""


def check_maps(args: argparse.Namespace, overrides: list[str]) -> int:
    """Checks whether the maps of a run or a study mean anything: map_checks.json, a figure, a table in words.

    What a map marks is deleted and inserted, weights are made random, images get a little noise; where ink or the parts
    of a drawn print are known, how much of the map lies on them. Of a study also whether its configs look at the same:
    map_agreement.json.
    """
    from fpclass.run.checks.map_checks import FIGURE, FILE, check_run, print_report
    from fpclass.study.page.write import write_report

    there = find_study(args.workdir, overrides)
    methods, masks = list(dict.fromkeys(args.method)), pathlib.Path(args.masks) if args.masks else None
    if there:
        from fpclass.study.maps import agreement, check

        print_report(check.check_study(there, methods, args.num, masks)["report"])
        written = [FILE, FIGURE]
        compared = agreement.compare_configs(there, methods[0], args.num)
        if compared:
            say("")
            print_report(compared["report"])
            written += [agreement.FILE, agreement.FIGURE]
        folder: pathlib.Path = there.folder
    else:
        from fpclass.run.best import BestModel
        from fpclass.run.folder import Run
        from fpclass.run.prepare import prepare_again
        from fpclass.train.task import check_network

        run = Run.open(args.workdir, overrides)
        check_network(run.config)
        prepared = prepare_again(run)
        best = BestModel(run, prepared.table.num_classes)
        print_report(check_run(best, prepared, methods, args.num, masks)["report"])
        folder, written = run.folder, [FILE, FIGURE]
    say(f"\nwritten: {', '.join(str(folder / name) for name in written)}")
    say(write_report(folder))
    return 0


def features(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows what a run's features are like: nearest training images, an embedding of all images, first-layer filters.

    Nearest to the validation images that the run was most wrong and most right about.
    """
    from fpclass.run.best import BestModel
    from fpclass.run.checks.features import show_features
    from fpclass.run.checks.map_checks import print_report
    from fpclass.run.folder import Run
    from fpclass.run.prepare import prepare_again
    from fpclass.study.page.write import write_report
    from fpclass.train.task import check_network

    run = Run.open(args.workdir, overrides)
    check_network(run.config)
    prepared = prepare_again(run)
    report = show_features(BestModel(run, prepared.table.num_classes), prepared, args.num)
    print_report(report)
    say(f"\nwritten: {', '.join(str(run.path(name)) for name in report['figures'])}")
    say(write_report(run.folder))
    return 0


def _add_check_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    add = parser.add_argument
    method = f"several of {', '.join(METHODS)}; default {' '.join(DEFAULT_METHODS)}; by the first configs are compared"
    add("--method", nargs="+", choices=tuple(METHODS), metavar="METHOD", default=DEFAULT_METHODS, help=method)
    add("--num", type=at_least(5), default=50, metavar="N", help="images, drawn at random; default %(default)s")
    masks = "masks of the object: a PNG of each image's name, white where it is; how much of a map lies on it"
    add("--masks", type=path, metavar="FOLDER", help=masks)


def _add_feature_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    num = "images that the run is most wrong and most right about, of each; default %(default)s"
    parser.add_argument("--num", type=at_least(1, at_most=20), default=4, metavar="N", help=num)


COMMANDS = (
    Command("check-maps", check_maps, _add_check_flags, CHECK_EPILOG),
    Command("features", features, _add_feature_flags, FEATURES_EPILOG),
)
