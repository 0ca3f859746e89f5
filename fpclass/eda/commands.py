"""The command `eda`: its flags, its steps and its summary."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from fpclass.common import files
from fpclass.common.console import say
from fpclass.common.flags import Command, add_experiment_flags

if TYPE_CHECKING:
    from fpclass.eda.explore import Exploration
    from fpclass.run.folder import Run

SUSPECTS = "exclude_suspects.csv"
EPILOG = """
Any key of configs/base.py can be set, as for train. Nothing is changed or deleted, and nothing is trained.

  fpclass eda DIR                                a folder per class, or a CSV of its images
  fpclass eda DIR --predictions=runs/study
                                                 label errors by the out-of-fold predictions of a study
  fpclass eda DIR --config=configs/transfer/linear_probe.py
                                                 compares images by the pretrained network of that config

  fpclass train DIR --config.data.exclude=FILE   without the images that a list names; so any command

Written into the run folder: eda.html (the page, one file), eda.json, label_errors.csv, outliers.csv, what audit writes,
and exclude_suspects.csv, the suspected label errors as such a list, to be edited. docs/eda.md says how much the
suspicions are worth.
"""


def eda(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows what the data are as a page to read: classes, sizes, copies, suspected label errors and outliers.

    Label errors are suspected by confident learning on out-of-fold predictions.
    """
    from fpclass.eda import explore
    from fpclass.eda.judgement import check_predictions
    from fpclass.experiment import load_config
    from fpclass.experiment.propose import settle
    from fpclass.run.folder import Run
    from fpclass.run.prepare import audit_data, write_audit
    from fpclass.train.task import require_weights

    proposal = settle(args, overrides, "explore")
    config = load_config(proposal.file, proposal.overrides)
    predictions = pathlib.Path(args.predictions) if args.predictions else None
    if predictions:
        check_predictions(predictions)  # before every image is opened
    folder = Run.beside(args.workdir, config, "eda")
    require_weights(config)
    audit, images = audit_data(config)
    write_audit(folder.folder, audit, images)
    say(audit.to_text())
    exploration = explore.explore(config, audit, images, predictions)
    write(folder, exploration)
    say(summary(exploration))
    say(f"written: {folder.path('eda.html')}, and eda.json, label_errors.csv, outliers.csv, {SUSPECTS} beside it")
    return 0


def write(run: Run, exploration: Exploration) -> None:
    """Writes the page and its tables into a run folder; the page last, so that it is never older than they are."""
    from fpclass.data.sources.excluded import has_lines
    from fpclass.eda import explore, page

    run.write_csv("label_errors.csv", explore.label_frame(exploration))
    run.write_csv("outliers.csv", explore.outlier_frame(exploration))
    if has_lines(run.path(SUSPECTS)):
        say(f"{run.path(SUSPECTS)} has been edited, and stays as it is; to have it anew, give it another name")
    else:
        files.write_text(run.path(SUSPECTS), explore.suspects_to_exclude(exploration))
    files.write_json(run.path("eda.json"), explore.to_json(exploration))
    files.write_text(run.path("eda.html"), page.render(exploration))


def summary(exploration: Exploration) -> str:
    """Suspected label errors and outliers, in a few lines for the terminal."""
    labels, strangeness = exploration.labels, exploration.strangeness
    detail = exploration.detail.text if exploration.detail else ""
    lines = [f"detail        {detail}"] if detail else []
    if labels:
        lines += [
            f"label errors  {labels.errors.num_suspected} suspected among {len(labels.judgement.rows)}, by "
            f"{labels.judgement.source}",
            f"              these predictions agree with {labels.accuracy} of the labels",
            *(f"              {note}" for note in (labels.verdict, *labels.judgement.notes) if note),
        ]
    else:
        lines.append(f"label errors  not looked for: {exploration.why_no_labels}")
    if strangeness is not None:
        lines.append(
            f"outliers      {int(strangeness.is_suspected.sum())} unlike all others, {len(exploration.extremes)} of an "
            "extreme size, shape, brightness or contrast"
        )
    return "\n".join(lines)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser)
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        help="folder of a study (or of a training) whose predictions judge the labels; default: quick built-in ones",
    )


COMMANDS = (Command("eda", eda, _add_arguments, EPILOG),)
