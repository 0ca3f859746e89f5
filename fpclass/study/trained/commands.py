"""The commands of what is trained, a run folder or a study folder alike: evaluate, explain, validate.

Of a study they are about its chosen ensemble, the one that `submit --ensemble` hands in.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from fpclass.console import say
from fpclass.errors import ConfigError, RunError
from fpclass.flags import Command, add_trained_flag, path

if TYPE_CHECKING:
    from fpclass.study.study import Study

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
        from fpclass.study.report import LEFT_OUT
        from fpclass.study.trained.conclusions import SAID, conclude_once, untrained

        failures = untrained(there)
        there.path(SAID).unlink(missing_ok=True)  # anew, whatever was said before
        say(conclude_once(there, failures, conclude))
        return 0 if all(reason.startswith(LEFT_OUT) for reason in failures.values()) else 1
    from fpclass.run.best import BestModel
    from fpclass.run.evaluate import evaluate, summarise
    from fpclass.run.folder import Run
    from fpclass.run.prepare import prepare
    from fpclass.run.refit import NOTE
    from fpclass.run.stages import EVALUATE, Stages

    run = Run.open(args.workdir, overrides)
    if run.path(NOTE).is_file():
        raise RunError(
            f"{run.folder}: learnt from all labelled images, so that none are left to evaluate it on; the folder above "
            "says what its like is worth, and `validate` judges it on images of another data set"
        )
    prepared = prepare(run.config)
    metrics = evaluate(BestModel(run, prepared.table.num_classes), prepared)
    Stages(run).done(EVALUATE)
    for name in ("classification_report.txt", "classification_report_test.txt"):
        if run.path(name).is_file():
            say(("\ntest images\n" if "_test" in name else "") + run.path(name).read_text(encoding="utf-8").rstrip())
    say(summarise(run, metrics))
    return 0


def explain(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows by Grad-CAM and feature maps what a run or a study saw where it was most wrong.

    Of a study it is the mean of the maps of the members that never saw the image.
    """
    there = find_study(args.workdir, overrides)
    if there:
        from fpclass.study.trained.explain import FIGURE, MAPS, explain_study

        for line in explain_study(there):
            say(line)
        folder, figures, maps = there, (FIGURE, "figures/feature_maps.png"), MAPS
    else:
        from fpclass.run.best import BestModel
        from fpclass.run.explain import explain
        from fpclass.run.folder import Run
        from fpclass.run.prepare import prepare
        from fpclass.run.stages import EXPLAIN, Stages
        from fpclass.train.task import check_network

        folder, maps = Run.open(args.workdir, overrides), "grad_cam.npz"
        check_network(folder.config)
        figures = ("figures/grad_cam_worst.png", "figures/feature_maps.png")
        prepared = prepare(folder.config)
        explain(BestModel(folder, prepared.table.num_classes), prepared)
        Stages(folder).done(EXPLAIN)
    written = [str(folder.path(name)) for name in (*figures, maps) if folder.path(name).exists()]
    say(f"written: {', '.join(written) or 'nothing'}")
    return 0


def validate(args: argparse.Namespace, overrides: list[str]) -> int:
    """Judges a run or a study's ensemble on another labelled data set, as it stands: nothing is fitted again.

    Calibration, thresholds, abstention and sets are those that were fitted before. Images of the folder itself are left
    out. Into validation/NAME of its folder.
    """
    from fpclass.config import split_overrides
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


def _add_validate_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser, is_positional=False)
    add = parser.add_argument
    add("--data.root", dest="root", type=path, default="", metavar="DIR", help="the other data set: folder or archive")
    add("--name", default="", metavar="NAME", help="of the folder of the results; default that of the data")
    add("--new-people", action="store_true", help="leave out people who have the name of somebody in training")


COMMANDS = (
    Command("evaluate", evaluate, add_trained_flag),
    Command("explain", explain, add_trained_flag),
    Command("validate", validate, _add_validate_flags, VALIDATE_EPILOG),
)
