"""The commands of one run folder: train, audit, evaluate, explain, predict, augment-preview."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fpclass.console import interruptible, say
from fpclass.errors import DataError, FpclassError
from fpclass.flags import (
    Command,
    add_config_flag,
    add_experiment_flags,
    add_process_flags,
    add_run_flag,
    add_strict_flag,
    at_least,
)

if TYPE_CHECKING:
    from fpclass.run.best import BestModel
    from fpclass.run.folder import Run
    from fpclass.run.prepare import Prepared

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

PREVIEW_EPILOG = """
Any key of configs/base.py can be set, to try it: --config.augment.zoom='(0.2,)' --config.augment.fill_mode=reflect …

  launch.py augment-preview --config=FILE --config.data.root=DIR
  launch.py augment-preview --config=FILE --config.data.root=DIR --images=100 --copies=3 --save=augmented

Copy k is what the training of this config sees in epoch k. The files of --save can be trained on by their table
augmented.csv, whose column `group` keeps the copies of an image on one side of every split:
--config.data.source=csv --config.data.group_column=group. Without the table nothing does.
"""


def train(args: argparse.Namespace, overrides: list[str]) -> int:
    """The whole way from images to submission: audit, split, fit, evaluate, submit, explain.

    The same command goes on after an interruption, and after --until, which ends it early: ingest lists, decodes and
    audits the images, prepare fetches the weights and builds the network, train fits it, evaluate judges it.
    """
    from fpclass import files
    from fpclass.experiment import load_config
    from fpclass.parallel import join_processes
    from fpclass.run import train as trainer
    from fpclass.run.best import BestModel
    from fpclass.run.evaluate import evaluate, summarise
    from fpclass.run.explain import explain
    from fpclass.run.folder import Run
    from fpclass.run.prepare import describe_model, prepare
    from fpclass.train.summary import summarise_model
    from fpclass.train.task import check_network, require_weights

    started = time.perf_counter()
    config = load_config(args.config, overrides)
    check_network(config)
    with contextlib.ExitStack() as stack:
        is_first = join_processes(args)
        if not is_first:  # computes the same in a folder that nobody sees
            args.workdir = stack.enter_context(tempfile.TemporaryDirectory())
        run = Run.create(args.workdir or f"runs/{config.name}", config)
        stack.enter_context(run.lock())
        if args.until != "ingest":
            require_weights(config)
        prepared = prepare(config, run.folder, strict=args.strict)
        run.write_csv("splits.csv", prepared.splits.frame)
        files.write_json(run.path("model.json"), describe_model(prepared.table))
        say(prepared.audit.to_text())
        for note in prepared.splits.notes:
            say(f"split: {note}")
        if args.until == "ingest":
            return _ended(run, "audit.json", "table.csv", "splits.csv", "figures")
        summary = summarise_model(config, prepared.table.num_classes)
        files.write_text(run.path("model.txt"), summary + "\n")
        if args.until == "prepare":
            say(f"\n{summary}")
            return _ended(run, "model.txt")
        with interruptible() as interruption:
            is_finished = trainer.train(run, prepared, interruption)
        if not is_finished:
            say(f"stopped; everything is in {run.folder}, and the same command goes on from there")
            return interruption.exit_code
        if not is_first:
            return 0
        if args.until == "train":
            return _ended(run, "checkpoints", "log.jsonl")
        best = BestModel(run, prepared.table.num_classes)
        metrics = evaluate(best, prepared)
        if args.until == "evaluate":
            say(summarise(run, prepared, metrics))
            return _ended(run, "metrics.json", "scores.json", "figures")
        problems = [_tried(lambda: _submit(best, prepared)), _tried(lambda: explain(best, prepared))]
    say(summarise(run, prepared, metrics, seconds=time.perf_counter() - started))
    for problem in filter(None, problems):
        raise problem
    return 0


def audit(args: argparse.Namespace, overrides: list[str]) -> int:
    """Opens every image, lists what is wrong, and draws what the data look like; trains nothing."""
    from fpclass.experiment import load_config
    from fpclass.run.folder import Run
    from fpclass.run.prepare import audit_data, write_audit

    config = load_config(args.config, overrides)
    run = Run.create(args.workdir or f"runs/{config.name}", config)
    findings, images = audit_data(config)
    write_audit(run.folder, findings, images)
    say(findings.to_text())
    if args.strict:
        findings.raise_if_strict()
    say(f"written: {run.path('audit.json')}, {run.path('table.csv')}, {run.path('figures')}")
    return 0


def evaluate(args: argparse.Namespace, overrides: list[str]) -> int:
    """Judges the best checkpoint on validation and labelled test images: metrics.json with intervals, and figures."""
    from fpclass.run.best import BestModel
    from fpclass.run.evaluate import evaluate, summarise
    from fpclass.run.folder import Run
    from fpclass.run.prepare import prepare

    run = Run.open(args.workdir, overrides)
    prepared = prepare(run.config)
    metrics = evaluate(BestModel(run, prepared.table.num_classes), prepared)
    for name in ("classification_report.txt", "classification_report_test.txt"):
        if run.path(name).is_file():
            say(("\ntest images\n" if "_test" in name else "") + run.path(name).read_text(encoding="utf-8").rstrip())
    say(summarise(run, prepared, metrics))
    return 0


def explain(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows by Grad-CAM and feature maps what the best checkpoint saw where it was most wrong."""
    from fpclass.run.best import BestModel
    from fpclass.run.explain import explain
    from fpclass.run.folder import Run
    from fpclass.run.prepare import prepare
    from fpclass.train.task import check_network

    run = Run.open(args.workdir, overrides)
    check_network(run.config)
    prepared = prepare(run.config)
    explain(BestModel(run, prepared.table.num_classes), prepared)
    say(f"written: {', '.join(str(run.path(f'figures/{n}.png')) for n in ('grad_cam_worst', 'feature_maps'))}")
    say(f"         {run.path('grad_cam.npz')}")
    return 0


def predict(args: argparse.Namespace, overrides: list[str]) -> int:
    """Predicts image files, or all images of a folder, to a CSV. Files that cannot be read are named; exit code 1."""
    from fpclass import files
    from fpclass.run.folder import Run
    from fpclass.run.predict_files import predict_files

    run = Run.open(args.workdir, overrides)
    frame = predict_files(run, [pathlib.Path(p) for p in args.inputs])
    failed = frame[frame["error"] != ""]
    if args.output == "-":
        say(frame.to_csv(index=False).rstrip())
    else:
        files.write_csv(pathlib.Path(args.output), frame)
        say(f"written: {args.output}, {len(frame) - len(failed)} predictions")
    for name, error in zip(failed["filename"], failed["error"], strict=True):
        print(f"fpclass: {name}: {error}", file=sys.stderr)
    if len(failed) == len(frame):
        raise DataError(f"none of the {len(frame)} files could be read; see above")
    return 1 if len(failed) else 0


def augment_preview(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows training images beside their augmented copies, as training will see them: a sheet, and files to keep."""
    from fpclass.experiment import load_config
    from fpclass.run.augment_preview import preview

    config = load_config(args.config, overrides)
    output = pathlib.Path(args.output or f"runs/{config.name}-augment.png")
    preview(config, args.images, args.copies, output, pathlib.Path(args.save) if args.save else None)
    return 0


def _submit(best: BestModel, prepared: Prepared) -> None:
    """Writes the submission, if there is one to write."""
    from fpclass.run.submission import submit

    if prepared.table.to_predict_mask.any():
        submit(best, prepared)


def _tried(step: Callable[[], None]) -> FpclassError | None:
    """Does a step whose failure must not cost the others anything; gives the reason why it failed, for after them."""
    try:
        step()
    except FpclassError as error:
        return error
    return None


def _ended(run: Run, *written: str) -> int:
    """Says what the stage that ends here has written, and how to go on."""
    say(f"written: {', '.join(str(run.path(name)) for name in written)}; the same command without --until goes on")
    return 0


def _add_train_flags(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser)
    add_strict_flag(parser)
    until = "end after this stage: " + ", ".join(STAGES) + "; the next start goes on from there"
    parser.add_argument("--until", choices=STAGES, metavar="STAGE", help=until)
    add_process_flags(parser)


def _add_audit_flags(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser)
    add_strict_flag(parser)


def _add_predict_flags(parser: argparse.ArgumentParser) -> None:
    add_run_flag(parser)
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="image files or folders")
    parser.add_argument("--output", default="-", metavar="CSV", help="where to; default: the terminal")


def _add_preview_flags(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    add = parser.add_argument
    add("--images", type=at_least(1), default=6, metavar="N", help="training images, of all classes; default 6")
    add("--copies", type=at_least(1), default=6, metavar="K", help="augmented copies of each; default 6")
    add("--output", metavar="PNG", help="where the sheet goes; default runs/NAME-augment.png")
    add("--save", metavar="DIR", help="a new folder for the augmented copies as files, with a table")


COMMANDS = (
    Command("train", train, _add_train_flags, EPILOG),
    Command("audit", audit, _add_audit_flags, EPILOG),
    Command("evaluate", evaluate, add_run_flag),
    Command("explain", explain, add_run_flag),
    Command("predict", predict, _add_predict_flags),
    Command("augment-preview", augment_preview, _add_preview_flags, PREVIEW_EPILOG),
)
