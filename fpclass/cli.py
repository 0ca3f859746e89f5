"""The command line: one function per command, in the order of the data flow."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from fpclass import experiment, files
from fpclass.config import Config
from fpclass.console import interruptible, progress, say
from fpclass.data.collect import commands as collect_commands
from fpclass.data.tidy import commands as tidy_commands
from fpclass.eda import commands as eda_commands
from fpclass.errors import ConfigError, DataError, FpclassError
from fpclass.flags import DEFAULT_STUDY, make_parser
from fpclass.models.pretrained import commands as weights_commands
from fpclass.paths import cache_dir
from fpclass.run import augment_preview as preview_commands
from fpclass.run.folder import Run


def train(args: argparse.Namespace, overrides: list[str]) -> int:
    """The whole way from images to submission: audit, split, fit, evaluate, explain, submit.

    The same command goes on after an interruption, and after --until, which ends it early: ingest lists, decodes and
    audits the images, prepare fetches the weights and builds the network, train fits it, evaluate judges it.
    """
    from fpclass.run import results
    from fpclass.run import train as fitting
    from fpclass.run.prepare import prepare
    from fpclass.train.summary import summarise_model
    from fpclass.train.task import require_weights

    started = time.perf_counter()
    config = experiment.load_config(args.config, overrides)
    with contextlib.ExitStack() as stack:
        is_first = _join_processes(args)
        if not is_first:  # computes the same in a folder that nobody sees
            args.workdir = stack.enter_context(tempfile.TemporaryDirectory())
        run = _create(args, config)
        stack.enter_context(run.lock())
        if args.until != "ingest":
            require_weights(config)
        prepared = prepare(config, run.folder, strict=args.strict)
        run.write_csv("splits.csv", prepared.splits.frame)
        files.write_json(run.path("model.json"), results.describe_model(prepared.table))
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
            is_finished = fitting.train(run, prepared, interruption)
        if not is_finished:
            say(f"stopped; everything is in {run.folder}, and the same command goes on from there")
            return interruption.exit_code
        if not is_first:
            return 0
        if args.until == "train":
            return _ended(run, "checkpoints", "log.jsonl")
        metrics = results.evaluate(run, prepared)
        if args.until == "evaluate":
            say(results.summarise(run, prepared, metrics))
            return _ended(run, "metrics.json", "scores.json", "figures")
        results.explain(run, prepared)
        problem = None
        if prepared.table.to_predict_mask.any():
            try:
                results.submit(run, prepared)
            except DataError as error:  # what was trained and measured is told all the same
                problem = error
    say(results.summarise(run, prepared, metrics, seconds=time.perf_counter() - started))
    if problem:
        raise problem
    return 0


def study(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains many configs on every fold with every seed, and says which differences are real.

    The same command goes on after an interruption; nothing is trained twice. Exit code 1 if a config failed.
    """
    from fpclass import parallel
    from fpclass.study import conclude as study_results
    from fpclass.study import run as study_run
    from fpclass.study.study import Study, plan_study

    parallel.use_all_cores()
    is_first = _join_processes(args)
    folder = pathlib.Path(args.workdir)
    there = Study.open(folder) if args.resume else None
    if there and not args.configs:
        if args.folds or args.baseline or args.compare_splits:
            raise ConfigError("--resume without --configs takes all but --seeds from the study; leave the rest out")
        plan = there.changed(overrides, args.seeds)
    else:
        plan = plan_study(
            folder,
            args.configs or DEFAULT_STUDY,
            overrides,
            num_folds=args.folds or 5,
            num_seeds=args.seeds or 1,
            baseline=args.baseline,
            compare_splits=args.compare_splits,
        )
    with plan.claimed() if is_first else contextlib.nullcontext(), interruptible() as interruption:
        failures = study_run.train_study(plan, interruption, strict=args.strict)
        if failures is None:
            say(f"stopped; everything is in {folder}, and the same command goes on from there")
            return interruption.exit_code
        if is_first:
            say(study_results.conclude(plan, failures))
    return 1 if failures else 0


def freeze_sweep(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains a backbone with ever more of its stages frozen, on every fold: what that costs and gains, as a figure."""
    from fpclass import parallel
    from fpclass.study import conclude as study_results
    from fpclass.study import run as study_run
    from fpclass.study.freeze_sweep import conclude_sweep, plan_sweep

    parallel.use_all_cores()
    folder = pathlib.Path(args.workdir)
    numbers = {"num_folds": args.folds, "num_seeds": args.seeds}
    plan = plan_sweep(folder, args.config, overrides, **numbers, cuts=args.cuts or ())
    with plan.claimed(), interruptible() as interruption:
        failures = study_run.train_study(plan, interruption, strict=args.strict)
        if failures is None:
            say(f"stopped; everything is in {folder}, and the same command goes on from there")
            return interruption.exit_code
        say(study_results.conclude(plan, failures))
        say(conclude_sweep(plan, failures))
    return 1 if failures else 0


def audit(args: argparse.Namespace, overrides: list[str]) -> int:
    """Opens every image, lists what is wrong, and draws what the data look like; trains nothing."""
    from fpclass.run.prepare import audit_data, write_audit

    config = experiment.load_config(args.config, overrides)
    run = _create(args, config)
    found, images = audit_data(config)
    write_audit(run.folder, found, images)
    say(found.to_text())
    if args.strict:
        found.raise_if_strict()
    say(f"written: {run.path('audit.json')}, {run.path('table.csv')}, {run.path('figures')}")
    return 0


def eda(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows what the data are as a page to read: classes, sizes, copies, suspected label errors and outliers.

    Label errors are suspected by confident learning on out-of-fold predictions.
    """
    eda_commands.run(args, overrides)
    return 0


def evaluate(args: argparse.Namespace, overrides: list[str]) -> int:
    """Judges the best checkpoint on the validation images: metrics.json with intervals, and figures."""
    from fpclass.run import results
    from fpclass.run.prepare import prepare

    run = _open(args, overrides)
    prepared = prepare(run.config)
    metrics = results.evaluate(run, prepared)
    say(run.path("classification_report.txt").read_text(encoding="utf-8").rstrip())
    say(results.summarise(run, prepared, metrics))
    return 0


def explain(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows by Grad-CAM and feature maps what the best checkpoint saw where it was most wrong."""
    from fpclass.run import results
    from fpclass.run.prepare import prepare

    run = _open(args, overrides)
    results.explain(run, prepare(run.config))
    say(f"written: {', '.join(str(run.path(f'figures/{n}.png')) for n in ('grad_cam_worst', 'feature_maps'))}")
    say(f"         {run.path('grad_cam.npz')}")
    return 0


def submit(args: argparse.Namespace, overrides: list[str]) -> int:
    """Predicts the rows without a label with the best checkpoint, or with the ensemble of a study: submission.csv."""
    from fpclass.run import results
    from fpclass.run.prepare import prepare

    if args.ensemble:
        from fpclass.study.ensemble import submit_ensemble
        from fpclass.study.study import Study

        path = submit_ensemble(Study.open(pathlib.Path(args.workdir)).changed(overrides))
    else:
        run = _open(args, overrides)
        path = results.submit(run, prepare(run.config))
    say(f"written: {path}")
    return 0


def predict(args: argparse.Namespace, overrides: list[str]) -> int:
    """Predicts image files, or all images of a folder, to a CSV. Files that cannot be read are named; exit code 1."""
    from fpclass.run import results

    run = _open(args, overrides)
    frame = results.predict_files(run, [pathlib.Path(p) for p in args.inputs])
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


def synthesize(args: argparse.Namespace, overrides: list[str]) -> int:
    """Draws the embedded SYNTHETIC footprints into a folder, in the format of the competition."""
    from fpclass.data.synthetic.dataset import draw_dataset

    if overrides:
        raise DataError(f"unexpected argument {overrides[0]!r}; see launch.py synthesize --help")
    size = (args.height, args.width)
    folder = pathlib.Path(args.folder)
    draw_dataset(folder, num_images=args.num_images, image_size=size, seed=args.seed, progress=progress)
    say(f"written: {args.folder}/all_labels.csv and {args.num_images} SYNTHETIC prints of {size[0]} x {size[1]} pixels")
    return 0


def collect(args: argparse.Namespace, overrides: list[str]) -> int:
    """Searches the web for pictures of each class: in several languages, politely, into a folder per class.

    Every picture gets a row that says where it is from. The same command goes on after an interruption.
    """
    if overrides:
        raise ConfigError(f"unexpected argument {overrides[0]!r}; see launch.py collect --help")
    return collect_commands.run(args)


def dedupe(args: argparse.Namespace, overrides: list[str]) -> int:
    """Finds copies of images, also saved again or resized: a list, sheets to look at, and a folder without them.

    The best image of each cluster is kept. Exit code 1 if files cannot be read.
    """
    tidy_commands.refuse(overrides, "dedupe")
    return tidy_commands.dedupe(args)


def convert(args: argparse.Namespace, overrides: list[str]) -> int:
    """Converts images to one format, size and mode: a folder to another one of PNGs or JPEGs.

    The same command goes on after an interruption. Exit code 1 if files cannot be read.
    """
    tidy_commands.refuse(overrides, "convert")
    return tidy_commands.convert(args)


def augment_preview(args: argparse.Namespace, overrides: list[str]) -> int:
    """Shows training images beside their augmented copies, as training will see them: a sheet, and files to keep."""
    preview_commands.run(args, overrides)
    return 0


def weights(args: argparse.Namespace, overrides: list[str]) -> int:
    """Lists, fetches, verifies and converts pretrained weights."""
    if overrides:
        raise ConfigError(f"unexpected argument {overrides[0]!r}; see launch.py weights {args.action} --help")
    weights_commands.run(args)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        *(train, study, freeze_sweep, audit, eda, evaluate, explain, submit, predict),
        *(synthesize, collect, dedupe, convert, augment_preview, weights),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; without arguments, the demo.

    Args:
      argv: arguments without the program's name; None for those of the process.

    Returns:
      Exit code: 0 done, 1 partly done, 2 something the user can mend (one line says what), 128 + n after a signal.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["train"]
    args, rest = make_parser(COMMANDS).parse_known_args(argv)
    try:
        _prepare_libraries()
        return COMMANDS[args.command](args, rest)
    except FpclassError as error:
        print(f"fpclass: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a disk that fills up while a log is being written, a folder that vanishes
        where, why = error.filename or args.command, error.strerror or error
        print(f"fpclass: {where}: {why}; free space on the disk, or look at the file's rights", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fpclass: interrupted", file=sys.stderr)
        return 130


def _join_processes(args: argparse.Namespace) -> bool:
    """Joins the other processes, if there are any; whether this is the first one, which writes and speaks."""
    if not args.distributed:
        return True
    from fpclass import parallel

    parallel.start_processes(args.coordinator, args.num_processes, args.process_id)
    if parallel.is_first_process():
        return True
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return False


def _ended(run: Run, *written: str) -> int:
    """Says what the stage that ends here has written, and how to go on."""
    say(f"written: {', '.join(str(run.path(name)) for name in written)}; the same command without --until goes on")
    return 0


def _create(args: argparse.Namespace, config: Config) -> Run:
    return Run.create(pathlib.Path(args.workdir or f"runs/{config.name}"), config)


def _open(args: argparse.Namespace, overrides: list[str]) -> Run:
    """The run folder of an earlier training, with what may still be chosen after it."""
    run = Run.open(pathlib.Path(args.workdir))
    return Run(run.folder, experiment.override(run.config, overrides)) if overrides else run


def _prepare_libraries() -> None:
    """Compiled programs are kept between runs; libraries speak only of errors."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    import jax

    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home to write to: compile every time
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
