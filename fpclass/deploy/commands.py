"""The commands of what is handed on: predict, bundle, export."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from fpclass.common.console import complain, interruptible, program, say
from fpclass.common.flags import Command, add_trained_flag, at_least, path
from fpclass.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fpclass.deploy.bundle import Bundle

PREDICT_EPILOG = """
  fpclass predict print.png more/ --workdir=runs/exp04                    of one training
  fpclass predict more/ --workdir=runs/study --output=predictions.csv     of a study's ensemble
  fpclass predict more/ --workdir=runs/study/bundle                       of a bundle that was made of either
  fpclass predict more/ --workdir=runs/study --config.submit.threshold_for=f1
                                                       the class by the threshold for F1, not the most probable one
  fpclass predict more/ --workdir=runs/study --config.predict.pool=calibrated --group-pattern='^(p[0-9]+)_'
                                                       one answer for all images of a person

Probabilities are calibrated: by the out-of-fold predictions of a study, by the inner split of a training, by what a
probe said of training images out of fold. The columns `calibration` and `decision` say how, and where there was nothing
to fit them on, why not.
"""

EXPORT_EPILOG = """
  fpclass export runs/study --to=stablehlo               into runs/study/exports
  fpclass export runs/study --to=stablehlo,onnx --output=prints.exports
  fpclass export prints.bundle --to=onnx --images=photos a bundle has no images of its own to compare on
  fpclass export runs/study --to=tflite --precision=float32,float16,int8
  fpclass export runs/study --to=onnx-web && python3 -m http.server --directory=runs/study/exports
                                                         a page that classifies pictures in the browser

From uint8 pixels at the network's size to calibrated probabilities; preprocessing.json says what comes before. Every
export is run on real images and compared with the bundle; one that says something else is not written: docs/bundles.md.
"""

BUNDLE_EPILOG = """
  fpclass bundle runs/study                              into runs/study/bundle
  fpclass bundle runs/exp04 --output=prints.bundle
  fpclass bundle runs/study --config.predict.pool=calibrated
                                                         one answer for all images of a person; evaluated with it before
  fpclass bundle runs/study --distil --output=small.bundle
                                                         one network that learns what the ensemble says; measured
  fpclass predict IMAGE --workdir=prints.bundle
  python3 -c 'import fpclass; print(fpclass.load_bundle("prints.bundle").predict("print.png"))'

A bundle needs neither the data nor the run folder, and nothing in it is executed when it is opened: docs/bundles.md.
"""


def predict(args: argparse.Namespace, overrides: list[str]) -> int:
    """Predicts image files or folders to a CSV, by a run, a study's ensemble or a bundle.

    Probabilities are calibrated. Files that cannot be read are named; exit code 1.
    """
    from fpclass.common import files

    inputs, output = [pathlib.Path(p) for p in args.inputs], pathlib.Path(args.output)
    is_printed = args.output == "-" or files.own_descriptor(output) == 1
    if not is_printed:
        files.check_writable(output)
    from fpclass.deploy.source import open_source, predictor_of
    from fpclass.run.decisions.whose import Whose
    from fpclass.run.predictor import predict_files

    predictor = predictor_of(open_source(pathlib.Path(args.workdir), overrides))
    frame = predict_files(predictor, inputs, Whose(args.group_pattern, args.groups))
    failed = frame[frame["error"] != ""]
    if is_printed:
        say(frame.to_csv(index=False).rstrip())
    else:
        files.write_csv(output, frame)
        say(f"written: {args.output}, {len(frame) - len(failed)} predictions")
    print(predictor.words, file=sys.stderr)  # where it does not get into a table
    for name, error in zip(failed["filename"], failed["error"], strict=True):
        complain(f"{name}: {error}")
    if len(failed) == len(frame):
        raise DataError(f"none of the {len(frame)} files could be read; see above")
    return 1 if len(failed) else 0


def bundle(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes one folder that predicts: weights, preprocessing, classes, calibration, metrics, a model card.

    Of a run, or of a study's ensemble. It gives the same predictions as the folder that it is made of; with --distil
    one network that was trained on those of the ensemble, and what that costs is measured.
    """
    from fpclass.deploy.source import open_source
    from fpclass.deploy.write import write_bundle

    if args.distil:
        return _distil(args, overrides)
    if args.student or args.label_share is not None:
        raise ConfigError("--student and --label-share are of the network that is distilled: give --distil too")
    source = open_source(pathlib.Path(args.workdir), overrides)
    output = pathlib.Path(args.output) if args.output else source.folder / "bundle"
    _say_written(write_bundle(source, output))
    return 0


def _distil(args: argparse.Namespace, overrides: list[str]) -> int:
    """The bundle of what the ensemble of a study is distilled into."""
    from fpclass.common import parallel
    from fpclass.deploy.bundle import refuse_own
    from fpclass.deploy.write import check_output, write_bundle
    from fpclass.study.distil.distil import FOLDER, LABEL_SHARE, distil
    from fpclass.study.study import Study

    parallel.use_all_cores()
    study = Study.open(pathlib.Path(args.workdir)).changed(overrides)
    for name, config in study.configs.items():
        refuse_own(config.model.name, name)
    output = pathlib.Path(args.output) if args.output else study.path(FOLDER) / "bundle"
    check_output(output)
    share = LABEL_SHARE if args.label_share is None else args.label_share
    with interruptible() as interruption:
        distilled = distil(study, interruption, args.student, share)
        if distilled is None:
            say(f"stopped; everything is in {study.path(FOLDER)}, and the same command goes on from there")
            return interruption.exit_code
    for sentence in distilled.record["sentences"]:
        say(sentence)
    _say_written(write_bundle(distilled, output))
    return 0


def _say_written(written: Bundle) -> None:
    num_bytes = sum(file.stat().st_size for file in written.folder.iterdir())
    say(f"written: {written.folder}, {num_bytes / 1e6:.1f} MB; its model card is {written.folder / 'README.md'}")
    say(f"try it: `{program()} predict IMAGE --workdir={written.folder}`")


def _add_predict_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser, is_positional=False)
    parser.add_argument("inputs", nargs="+", type=path, metavar="IMAGE", help="image files or folders")
    add = parser.add_argument
    add("--group-pattern", default="", metavar="REGEX", help="predict.pool: its (…) finds the person in a file's name")
    add("--groups", type=path, default="", metavar="CSV", help="predict.pool: a table of file names and people")
    add("--output", type=path, default="-", metavar="CSV", help="where to; default: the terminal")


def export(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a run, a study's ensemble or a bundle in formats of other runtimes: compared with it on real images."""
    from fpclass.deploy.export import export
    from fpclass.deploy.formats import WEB, chosen
    from fpclass.deploy.source import open_source

    formats = chosen(args.to, args.precision)
    source = open_source(pathlib.Path(args.workdir), overrides)
    output = pathlib.Path(args.output) if args.output else source.folder / "exports"
    images = pathlib.Path(args.images) if args.images else None
    web_runtime = args.web_runtime if WEB in args.to.split(",") else None
    export(source, formats, output, images, args.num_images, args.allow_drop, web_runtime)
    return 0


def _add_bundle_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    parser.add_argument(
        "--output", type=path, default="", metavar="DIR", help="where to; default: bundle in its folder"
    )
    add = parser.add_argument
    add("--distil", action="store_true", help="of a study: one network that learns what its ensemble says")
    add("--student", default="", metavar="CONFIG", help="--distil: this config; default: the best trained one")
    share = at_least(0.0, at_most=1.0)
    add("--label-share", type=share, metavar="SHARE", help="--distil: of the targets that is the label; default 0.5")


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_flag(parser)
    add = parser.add_argument
    add("--to", required=True, metavar="FORMAT,…", help="stablehlo, onnx, tflite, onnx-web")
    add("--precision", default="float32", metavar="TYPE,…", help="of tflite: float32, float16, int8")
    add("--web-runtime", type=path, default="", metavar="DIR", help="of onnx-web: onnxruntime-web; default: npm's")
    add("--output", type=path, default="", metavar="DIR", help="where to; default: exports in its folder")
    add("--images", type=path, default="", metavar="DIR", help="compare on these; default: those it was made with")
    add("--num-images", type=at_least(1), default=200, metavar="N", help="that are compared, at most; default 200")
    add("--allow-drop", type=at_least(0.0), default=0.01, metavar="SHARE", help="of accuracy; default 0.01")


COMMANDS = (
    Command("predict", predict, _add_predict_flags, PREDICT_EPILOG),
    Command("bundle", bundle, _add_bundle_flags, BUNDLE_EPILOG),
    Command("export", export, _add_export_flags, EXPORT_EPILOG),
)
