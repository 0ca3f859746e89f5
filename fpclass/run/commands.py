"""The commands that begin with a config: train, audit, augment-preview."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fpclass.common.console import interruptible, say
from fpclass.common.flags import (
    Command,
    add_config_flag,
    add_experiment_flags,
    add_process_flags,
    add_strict_flag,
    at_least,
    path,
)
from fpclass.errors import FpclassError

if TYPE_CHECKING:
    from fpclass.config import Config
    from fpclass.run.folder import Run
    from fpclass.run.stages import RunData, Stages

STAGES = ("ingest", "prepare", "train", "evaluate")
"""Where `train --until` can end."""

EPILOG = """
Any key of configs/base.py can be set: --config.data.root=DIR --config.train.num_epochs=10 …
Caches (data, decoded images, compiled programs) live in the user's cache folder, or in $FPCLASS_CACHE.

  fpclass                                      the demo: everything, on drawn footprints
  fpclass train DIR                              everything, on your images: a folder per class, or a CSV of them
  fpclass train DIR --config=exp04               the same, by an experiment of your choice
  fpclass study DIR --seeds=3                    several ways on every fold: which differences are real
  fpclass predict a.png more/ --workdir=runs/x new images, by a run or a study
"""

PREVIEW_EPILOG = """
Any key of configs/base.py can be set, to try it: --config.augment.zoom='(0.2,)' --config.augment.fill_mode=reflect …

  fpclass augment-preview --config=FILE --config.data.root=DIR
  fpclass augment-preview --config=FILE --config.data.root=DIR --images=100 --copies=3 --save=augmented

  fpclass train --config=FILE --config.data.root=DIR --config.data.copies=augmented

Copy k is what the training of this config sees in epoch k. With --config.data.copies the files of --save train beside
their originals, wherever these are in a split, and never validate.
"""


def train(args: argparse.Namespace, overrides: list[str]) -> int:
    """The whole way from images to submission: audit, split, fit, evaluate, submit, explain.

    The same command goes on after an interruption, and after --until, which ends it early: ingest lists, decodes and
    audits the images, prepare fetches the weights and builds the network, train fits it, evaluate judges it. What is
    done, with the same settings and data, is not done again.
    """
    from fpclass.common.parallel import join_processes, use_all_cores
    from fpclass.experiment import load_config
    from fpclass.experiment.propose import settle

    proposal = settle(args, overrides)
    config = load_config(proposal.file, proposal.overrides)
    if config.train.num_devices != 1:
        use_all_cores()
    is_first = join_processes(args)  # before anything asks which devices there are
    workdir = args.workdir or f"runs/{config.name}"
    return train_run(config, workdir, strict=args.strict, until=args.until, is_first=is_first)


def train_run(
    config: Config,
    workdir: pathlib.Path | str | None,
    *,
    strict: bool = False,
    until: str | None = None,
    is_first: bool = True,
) -> int:
    """What the command `train` does of a config that is loaded; arguments as its flags.

    Args:
      workdir: None: runs/NAME of the config.
      is_first: whether this is the first process, which alone writes.

    Returns:
      Exit code: 0, or 128 + n where a signal stopped it.

    Raises:
      FpclassError: as anything on the way; what comes after the evaluation is tried before it is raised.
    """
    from fpclass.run.evaluate import summarise
    from fpclass.run.folder import Run
    from fpclass.run.report.write import REPORT
    from fpclass.run.stages import AfterTraining, RunData, Stages
    from fpclass.train.task import check_network, require_weights

    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        check_network(config)
        if not is_first:  # computes the same in a folder that nobody sees
            workdir = stack.enter_context(tempfile.TemporaryDirectory())
        run = Run.create(workdir or f"runs/{config.name}", config)
        stack.enter_context(run.lock())
        stages = Stages(run)
        data = RunData(stages, strict=strict)
        data.ingest()
        if until == "ingest":
            return _ended(run, "audit.json", "table.csv", "splits.csv", "figures")
        if not stages.is_done("train"):
            require_weights(config)
        _build(stages, data, is_shown=until == "prepare")
        if until == "prepare":
            return _ended(run, "model.txt")
        exit_code = _fit(stages, data)
        if exit_code is not None:
            say(f"stopped; everything is in {run.folder}, and the same command goes on from there")
            return exit_code
        if not is_first:
            return 0
        if until == "train":
            return _ended(run, "checkpoints", "log.jsonl")
        after = AfterTraining(stages, data)
        metrics = after.evaluate()
        if until == "evaluate":
            after.report()
            say(summarise(run, metrics))
            return _ended(run, "metrics.json", "scores.json", "figures", REPORT)
        problems = [_tried(after.submit), _tried(after.explain), _tried(after.report)]
    say(summarise(run, metrics, seconds=time.perf_counter() - started))
    for problem in filter(None, problems):
        raise problem
    return 0


def _build(stages: Stages, data: RunData, *, is_shown: bool) -> None:
    """Writes model.txt, what the network is made of, unless that is done."""
    from fpclass.common import files
    from fpclass.run.stages import PREPARE
    from fpclass.train.summary import summarise_model

    path = stages.run.path("model.txt")
    if stages.is_done(PREPARE):
        say(stages.skipped(PREPARE))
        summary = path.read_text(encoding="utf-8").rstrip("\n") if is_shown else ""
    else:
        summary = summarise_model(stages.run.config, data.prepared.table.num_classes)
        files.write_text(path, summary + "\n")
        stages.done(PREPARE)
    if is_shown:
        say(f"\n{summary}")


def _fit(stages: Stages, data: RunData) -> int | None:
    """Trains, unless that is done; the exit code where it was interrupted."""
    import numpy as np

    from fpclass.common.parallel import agree
    from fpclass.run import train as trainer
    from fpclass.run.stages import TRAIN

    if agree(np.array(stages.is_done(TRAIN))):  # of the first process: no other one sees its folder
        say(stages.skipped(TRAIN))
        return None
    with interruptible() as interruption:
        if not trainer.train(stages.run, data.prepared, interruption):
            return interruption.exit_code
    stages.done(TRAIN)
    return None


def audit(args: argparse.Namespace, overrides: list[str]) -> int:
    """Opens every image, lists what is wrong, and draws what the data look like; trains nothing."""
    from fpclass.experiment import load_config
    from fpclass.experiment.propose import settle
    from fpclass.run.folder import Run
    from fpclass.run.prepare import audit_data, write_audit

    proposal = settle(args, overrides, "read")
    config = load_config(proposal.file, proposal.overrides)
    run = Run.beside(args.workdir, config, "audit")
    findings, images = audit_data(config)
    write_audit(run.folder, findings, images)
    say(findings.to_text())
    if args.strict:
        findings.raise_if_strict()
    say(f"written: {run.path('audit.json')}, {run.path('table.csv')}, {run.path('figures')}")
    return 0


def augment_preview(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows training images beside their augmented copies, as training will see them: a sheet, and files to keep."""
    from fpclass.experiment import load_config
    from fpclass.experiment.propose import settle
    from fpclass.run.augment_preview import preview

    proposal = settle(args, overrides, "read")
    config = load_config(proposal.file, proposal.overrides)
    output = pathlib.Path(args.output or f"runs/{config.name}-augment.png")
    preview(config, args.images, args.copies, output, pathlib.Path(args.save) if args.save else None)
    return 0


def _tried(step: Callable[[], object]) -> FpclassError | None:
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


def _add_preview_flags(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    add = parser.add_argument
    add("--images", type=at_least(1), default=6, metavar="N", help="training images, of all classes; default 6")
    add("--copies", type=at_least(1), default=6, metavar="K", help="augmented copies of each; default 6")
    add("--output", type=path, metavar="PNG", help="where the sheet goes; default runs/NAME-augment.png")
    add("--save", type=path, metavar="DIR", help="a new folder for the augmented copies as files, with a table")


COMMANDS = (
    Command("train", train, _add_train_flags, EPILOG),
    Command("audit", audit, _add_audit_flags, EPILOG),
    Command("augment-preview", augment_preview, _add_preview_flags, PREVIEW_EPILOG),
)
