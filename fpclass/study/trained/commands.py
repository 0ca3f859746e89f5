"""The commands of what is trained, a run folder or a study folder alike: evaluate, explain, report, validate.

Of a study they are about its chosen ensemble, the one that `submit --ensemble` hands in.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from fpclass.common.console import say
from fpclass.common.flags import Command, add_trained_flag, at_least, path, refuse
from fpclass.errors import ConfigError, RunError

if TYPE_CHECKING:
    from fpclass.study.study import Study

EXPLAIN_EPILOG = """
  fpclass explain runs/photos                                              Grad-CAM of the highest losses
  fpclass explain runs/photos --method=layer_cam --which=best --num=9      another method, other images
  fpclass explain runs/photos --method=occlusion --target=loss             what misled it
  fpclass explain runs/photos --which one.jpg two.jpg --target=cats,dogs   new images: cats rather than dogs
  fpclass explain runs/study --which=most_uncertain                        the mean of the members of a study

What each method is, and when to use it: docs/explain.md.
"""

VALIDATE_EPILOG = """
Keys of `data` say where the other images are; how they are decoded is what it was trained with.

  fpclass validate --data.root=OTHER --workdir=runs/study
  fpclass validate --data.root=OTHER.zip --workdir=runs/exp04 --config.data.label_column=sex \\
                     --config.data.group_column=subject --name=hospital_b
  fpclass validate --data.root=OTHER --workdir=runs/study --config.data.source=folder \\
                     "--config.data.merge=(('0', ('women',)), ('1', ('men',)))"
"""


def evaluate(args: argparse.Namespace, overrides: list[str]) -> int:
    """Evaluates the best checkpoint of a run anew, or a study from its members: metrics, tables, figures."""
    there = find_study(args.workdir, overrides)
    if there:
        from fpclass.study.conclude import conclude
        from fpclass.study.page.write import write_report
        from fpclass.study.report import LEFT_OUT
        from fpclass.study.trained.conclusions import SAID, conclude_once, untrained

        failures = untrained(there)
        there.path(SAID).unlink(missing_ok=True)  # anew, whatever was said before
        say(conclude_once(there, failures, conclude))
        say(write_report(there.folder))
        return 0 if all(reason.startswith(LEFT_OUT) for reason in failures.values()) else 1
    from fpclass.run.best import BestModel
    from fpclass.run.evaluate import evaluate, summarise
    from fpclass.run.folder import Run
    from fpclass.run.prepare import prepare_again
    from fpclass.run.refit import NOTE
    from fpclass.run.report.write import write_run_report
    from fpclass.run.stages import EVALUATE, Stages

    run = Run.open(args.workdir, overrides)
    if run.path(NOTE).is_file():
        raise RunError(
            f"{run.folder}: learnt from all labelled images, so that none are left to evaluate it on; the folder above "
            "says what its like is worth, and `validate` judges it on images of another data set"
        )
    prepared = prepare_again(run)
    metrics = evaluate(BestModel(run, prepared.table.num_classes), prepared)
    Stages(run).done(EVALUATE)
    for name in ("classification_report.txt", "classification_report_test.txt"):
        if run.path(name).is_file():
            say(("\ntest images\n" if "_test" in name else "") + run.path(name).read_text(encoding="utf-8").rstrip())
    write_run_report(run.folder)
    say(summarise(run, metrics))
    return 0


def explain(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows by maps over images what a run or a study sees in them: unless told otherwise, where it was most wrong.

    Of a study it is the mean of the maps of the members that never saw the image. A sheet, the maps as arrays, and
    explain.json with all sheets of the folder.
    """
    from fpclass.explain.request import DEFAULT, FILES, Request
    from fpclass.study.page.write import write_report

    request = Request.of(args.which, args.method, args.target, args.scale, args.baseline)
    for key, value in (("stage", args.stage), ("num_images", args.num)):
        overrides = [*overrides, f"--config.explain.{key}={value}"] if value else overrides
    there = find_study(args.workdir, overrides)
    if there:
        from fpclass.study.trained.explain import explain_study

        folder = there
        lines, written = explain_study(there, request)
        for line in lines:
            say(line)
    else:
        from fpclass.run.best import BestModel
        from fpclass.run.explain import explain
        from fpclass.run.folder import Run
        from fpclass.run.prepare import prepare_again, read_classes
        from fpclass.run.stages import EXPLAIN, Stages
        from fpclass.train.task import check_network

        folder = Run.open(args.workdir, overrides)
        check_network(folder.config)
        prepared = None if request.which == FILES else prepare_again(folder)
        num_classes = prepared.table.num_classes if prepared else len(read_classes(folder)[0])
        written = explain(BestModel(folder, num_classes), prepared, request)
        if request == DEFAULT:
            Stages(folder).done(EXPLAIN)
    say(f"written: {', '.join(str(folder.path(name)) for name in written) or 'nothing'}")
    say(write_report(folder.folder))
    return 0


def report(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes report.html and methods.md of a run or a study: all that is in its folder, on one page, and for a paper.

    From the files of the folder alone; what is missing or damaged is named in its place.
    """
    from fpclass.study.page.write import write_report

    refuse(overrides, "report")
    say(write_report(pathlib.Path(args.workdir)))
    return 0


def validate(args: argparse.Namespace, overrides: list[str]) -> int:
    """Judges a run or a study's ensemble on another labelled data set, as it stands: nothing is fitted again.

    Calibration, thresholds, abstention and sets are those that were fitted before. Images of the folder itself are left
    out. Into validation/NAME of its folder.
    """
    from fpclass.config import split_overrides
    from fpclass.study.page.write import write_report
    from fpclass.study.trained.frozen import Frozen
    from fpclass.study.trained.validate import validate

    of_data, rest = split_overrides(overrides, "data")
    if not (args.root or of_data):
        raise ConfigError(
            "validate: give the other data set, --data.root=DIR, and where its columns have other names "
            "--config.data.label_column=… and the like"
        )
    there = find_study(args.workdir, rest)
    if there:
        frozen = Frozen.of_study(there)
    else:
        from fpclass.run.folder import Run

        frozen = Frozen.of_run(Run.open(args.workdir, rest))
    say(validate(frozen, args.root, of_data, args.name, new_people=args.new_people))
    say(write_report(pathlib.Path(args.workdir)))
    return 0


def find_study(workdir: str, overrides: list[str]) -> Study | None:
    """The study in a folder, with what may be changed after training; None where the folder is of something else.

    Raises:
      RunError, ConfigError: as `Study.open` and `Study.changed`.
    """
    folder = pathlib.Path(workdir)
    if not (folder / "study.json").is_file():
        return None
    from fpclass.study.study import Study

    return Study.open(folder).changed(overrides)


def _add_explain_flags(parser: argparse.ArgumentParser) -> None:
    from fpclass.explain.methods import METHODS
    from fpclass.explain.request import BASELINES, DEFAULT, SCALES, TARGETS, WHICH

    add_trained_flag(parser)
    add = parser.add_argument
    names = "; ".join(f"{name}: {method.words}" for name, method in METHODS.items())
    add(
        "--method", choices=tuple(METHODS), default=DEFAULT.method, metavar="NAME", help=f"default %(default)s. {names}"
    )
    which = f"{', '.join(WHICH)} of the validation images; or image files, also new ones; default {DEFAULT.which}"
    add("--which", nargs="+", default=[DEFAULT.which], metavar="WHICH", help=which)
    target = f"what the maps are about: {', '.join(TARGETS)}, a class, or two: CLASS,OTHER; default %(default)s"
    add("--target", default=DEFAULT.target, metavar="WHAT", help=target)
    stage = "of the network; default: the last with at least 7 x 7 places (explain.stage)"
    add("--stage", default="", metavar="NAME", help=stage)
    add("--num", type=at_least(1), default=0, metavar="N", help="images of the sheet (explain.num_images)")
    scale = "each map by its own largest value, or all by the largest; default %(default)s"
    add("--scale", choices=SCALES, default=DEFAULT.scale, help=scale)
    baseline = "what covers pixels, and what integrated_gradients start from; default %(default)s colour"
    add("--baseline", choices=BASELINES, default=DEFAULT.baseline, help=baseline)


def _add_validate_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser, is_positional=False)
    add = parser.add_argument
    add("--data.root", dest="root", type=path, default="", metavar="DIR", help="the other data set: folder or archive")
    add("--name", default="", metavar="NAME", help="of the folder of the results; default that of the data")
    add("--new-people", action="store_true", help="leave out people who have the name of somebody in training")


COMMANDS = (
    Command("evaluate", evaluate, add_trained_flag),
    Command("explain", explain, _add_explain_flags, EXPLAIN_EPILOG),
    Command("report", report, add_trained_flag),
    Command("validate", validate, _add_validate_flags, VALIDATE_EPILOG),
)
