"""Exports of a model to other formats, each compared with the bundle on real images before anything is written."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.common.console import say
from fpclass.data.resize import CENTRE
from fpclass.deploy.formats import FORMATS
from fpclass.deploy.parity import Cases, find_cases, judge, latencies, told, why_refused
from fpclass.deploy.runtimes import input_name
from fpclass.deploy.source import Source, predictor_of
from fpclass.deploy.web import write_page
from fpclass.errors import DataError, RunError
from fpclass.report.text_tables import align_columns
from fpclass.run.predictor import Predictor, fetch
from fpclass.stats.intervals import Interval

EXPORTS, SIDECAR = "exports.json", "preprocessing.json"
"""The table of what was exported; what has to be done before and after a model."""


def export(
    source: Source,
    formats: Sequence[str],
    output: pathlib.Path,
    images: pathlib.Path | None,
    num_images: int,
    allowance: float,
    web_runtime: str | None = None,
) -> None:
    """Writes exports of a model into a folder, all of them or nothing; a folder of earlier ones is replaced.

    Args:
      formats: of `FORMATS`.
      images: a folder of images to compare on; None: those of the run or study.
      num_images: that are taken of them, at most.
      allowance: how much smaller accuracy may be.
      web_runtime: where a page that runs "onnx" in a browser has its runtime from, see `web.write_page`; None: no page.

    Raises:
      ConfigError: a package that a format needs is missing; or the page cannot do what the model asks for.
      RunError: an export does not say what the bundle says; or something else is in the folder.
      DataError: no images to compare on.
    """
    is_other = output.exists() and not (output / EXPORTS).is_file()
    if is_other and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output}: is there, and no folder of exports; choose another --output")
    predictor = predictor_of(source)
    cases = find_cases(source, predictor, images, num_images)
    expected = probabilities_of(predictor, cases)
    say(f"compared on {cases.words}")
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as page:
        if web_runtime is not None:
            write_page(predictor, pathlib.Path(page), web_runtime)
        table = _make(predictor, cases, expected, formats, pathlib.Path(scratch), allowance)
        facts = {"compared_on": cases.words, "num_images": len(expected), "allowance": allowance, "formats": table}
        try:
            with files.replacing_folder(output) as folder:
                for name in formats:
                    shutil.copy(pathlib.Path(scratch) / FORMATS[name].filename, folder)
                shutil.copytree(page, folder, dirs_exist_ok=True)
                files.write_json(folder / SIDECAR, preprocessing(predictor))
                files.write_json(folder / EXPORTS, facts)
                if output.exists():
                    shutil.rmtree(output)
        except OSError as error:
            raise RunError(
                f"{output}: cannot write ({error.strerror or error}); free space, or choose another"
            ) from error
    say("\n".join(align_columns(rows_of(table))))
    say(f"written: {output}, {', '.join(path.name for path in sorted(output.iterdir()))}")


def _make(
    predictor: Predictor,
    cases: Cases,
    expected: np.ndarray,
    formats: Sequence[str],
    scratch: pathlib.Path,
    allowance: float,
) -> dict[str, Any]:
    """Writes every format into a folder, and compares it; the table by format, the bundle's latency in it."""
    table, runs = {}, {}
    for name in formats:
        form = FORMATS[name]
        rows = slice(1, None, 2) if form.is_calibrated else slice(None)  # not those that ranges are found on
        if not len(expected[rows]):
            raise DataError(f"export --to={name}: needs 2 images, to find ranges on and to compare on; give more")
        form.write(predictor, scratch / form.filename, [of_decoding[::2] for of_decoding in cases.images])
        runs[name] = form.load(scratch / form.filename)
        found = runs[name]([of_decoding[rows] for of_decoding in cases.images])
        judged = judge(expected[rows], found, cases.labels[rows])
        told(name, judged)
        if why := why_refused(judged, form.tolerance, allowance):
            raise RunError(f"export --to={name}: {why}; nothing is written. Say so to the authors of fpclass")
        size = (scratch / form.filename).stat().st_size
        table[name] = {
            "file": form.filename,
            "runs_in": form.about,
            "bytes": size,
            "tolerance": form.tolerance,
            "num_compared": len(found),
            **judged,
        }
    milliseconds = latencies(predictor, runs, cases)
    for name in formats:
        table[name]["milliseconds"] = milliseconds[name]
        table[name]["milliseconds_of_bundle"] = milliseconds["bundle"]
    return table


def probabilities_of(predictor: Predictor, cases: Cases) -> np.ndarray:
    """What the bundle says of decoded images [N, K]: the probabilities of each image by itself, without pooling."""
    num_images, logits = len(cases.labels), {}
    for images, names in zip(cases.images, predictor.by_decoding.values(), strict=True):
        for name in names:
            found = np.zeros((len(predictor.members[name]), num_images, len(predictor.classes)), np.float32)
            for which, batches in predictor.siblings[name].launch(images):
                fetch(found[which], batches)
            logits[name] = found.astype(np.float64)
    return np.exp(predictor.combine(logits))


def preprocessing(predictor: Predictor) -> dict[str, Any]:
    """What has to be done before and after an exported model, for preprocessing.json."""
    inputs = []
    for decoding in predictor.by_decoding:
        height, width, channels = decoding.shape
        inputs.append(
            {
                "name": input_name(decoding),
                "shape": ["n", height, width, channels],
                "dtype": "uint8",
                "channels": "grey (ITU-R 601 luma)" if channels == 1 else "red, green, blue",
                "decoding": dataclasses.asdict(decoding),
            }
        )
    return {
        "before": [
            "decode the file, turn it upright as its EXIF says, put transparent ones on white",
            f"crop where decoding.crop is foreground, or centre ({CENTRE:g} of each side), then resize to image_size "
            "(height, width) by interpolation, "
            "anti-aliased as Pillow does it: stretched, or padded with pad_value to keep the aspect ratio",
            "then to grey where channels is 1, and equalise where decoding.equalise says so",
        ],
        "inputs": inputs,
        "output": {"name": "probabilities", "shape": ["n", len(predictor.classes)], "dtype": "float32"},
        "classes": list(predictor.classes),
        "class_names": list(predictor.class_names),
        "after": "the most probable class, or the second of two above a threshold; of each image by itself",
        "thresholds": dict(predictor.rule.thresholds),
        "probabilities": predictor.words,
    }


def rows_of(table: dict[str, Any]) -> list[list[str]]:
    """The table of exports for a terminal; the first row is the header."""
    rows = [["format", "MB", "ms an image", "(bundle)", "largest difference", "accuracy", "drop"]]
    for name, facts in table.items():
        accuracy, drop = facts.get("accuracy"), facts.get("drop")
        rows.append(
            [
                name,
                f"{facts['bytes'] / 1e6:.1f}",
                f"{facts['milliseconds']:.1f}",
                f"{facts['milliseconds_of_bundle']:.1f}",
                f"{facts['max_difference']:.1g}",
                "-" if accuracy is None else f"{accuracy:.3f}",
                "-" if drop is None else str(Interval.of(drop)),
            ]
        )
    return rows
