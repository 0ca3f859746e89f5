"""The command `eda`: its flags, its steps and its summary."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fpclass.eda.explore import Exploration
    from fpclass.run.folder import Run

EPILOG = """
Any key of configs/base.py can be set, as for train. Nothing is changed or deleted, and nothing is trained.

  launch.py eda --config=configs/base.py --config.data.source=folder --config.data.root=DIR --config.data.channels=3
                                                 photographs in a folder per class
  launch.py eda --config=configs/footprints/baseline.py --config.data.root=DIR --predictions=runs/study
                                                 label errors by the out-of-fold predictions of a study
  launch.py eda --config=configs/transfer/linear_probe.py --config.data.root=DIR
                                                 compares images by the pretrained network of that config

Written into the run folder: eda.html (the page, one file), eda.json, label_errors.csv, outliers.csv, and what audit
writes. docs/eda.md says how much the suspicions are worth.
"""


def add_arguments(parser: argparse.ArgumentParser, default_config: str) -> None:
    """The flags of the command."""
    parser.add_argument("--config", default=default_config, metavar="FILE", help="experiment; default %(default)s")
    parser.add_argument("--workdir", metavar="DIR", help="run folder; default runs/NAME of the config")
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        help="folder of a study (or of a training) whose predictions judge the labels; default: quick built-in ones",
    )


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Audits the data set, looks for label errors and outliers, and writes the page.

    Raises:
      ConfigError, DataError, RunError, WeightsError: from what it calls.
    """
    import pathlib

    from fpclass import config as configs
    from fpclass.console import say
    from fpclass.eda import explore
    from fpclass.eda.judgement import check_predictions
    from fpclass.run.folder import Run
    from fpclass.run.prepare import audit_data, write_audit
    from fpclass.train.task import require_weights

    config = configs.load_config(args.config, overrides)
    predictions = pathlib.Path(args.predictions) if args.predictions else None
    if predictions:
        check_predictions(predictions)  # before every image is opened
    folder = Run.create(pathlib.Path(args.workdir or f"runs/{config.name}"), config)
    require_weights(config)
    audit, images = audit_data(config)
    write_audit(folder.folder, audit, images)
    say(audit.to_text())
    exploration = explore.explore(config, audit, images, predictions)
    write(folder, exploration)
    say(summary(exploration))
    say(f"written: {folder.path('eda.html')}, and eda.json, label_errors.csv, outliers.csv beside it")


def write(run: Run, exploration: Exploration) -> None:
    """Writes the page and its tables into a run folder; the page last, so that it is never older than they are."""
    from fpclass import files
    from fpclass.eda import explore, page

    run.write_csv("label_errors.csv", explore.label_frame(exploration))
    run.write_csv("outliers.csv", explore.outlier_frame(exploration))
    files.write_json(run.path("eda.json"), explore.to_json(exploration))
    files.write_text(run.path("eda.html"), page.render(exploration))


def summary(exploration: Exploration) -> str:
    """Suspected label errors and outliers, in a few lines for the terminal."""
    labels, strangeness = exploration.labels, exploration.strangeness
    lines = []
    if labels:
        low, high = labels.interval or (None, None)
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
        notes = [note for note in (labels.verdict, *labels.judgement.notes) if note]
        lines += [
            f"label errors  {labels.errors.num_suspected} suspected among {len(labels.judgement.rows)}, by "
            f"{labels.judgement.source}",
            f"              these predictions agree with {labels.accuracy:.3f}{interval} of the labels",
            *(f"              {note}" for note in notes),
        ]
    else:
        lines.append(f"label errors  not looked for: {exploration.why_no_labels}")
    if strangeness is not None:
        lines.append(
            f"outliers      {int(strangeness.is_suspected.sum())} unlike all others, {len(exploration.extremes)} of an "
            "extreme size, shape, brightness or contrast"
        )
    return "\n".join(lines)
