"""The gate that every export passes: on real images, what it says is what the bundle says."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.common.console import say
from fpclass.data.splits import VALIDATION, draw_some
from fpclass.deploy.bundle import Bundle
from fpclass.deploy.runtimes import Images, Run
from fpclass.deploy.source import Source
from fpclass.errors import DataError, DecodeError, RunError
from fpclass.run.folder import Run as RunFolder
from fpclass.run.predictor import NewImage, Predictor, decode_new, find_inputs
from fpclass.run.prepare import prepare_again
from fpclass.stats.bounds import wilson_bounds
from fpclass.stats.intervals import Interval
from fpclass.study.study import Study

NUM_TIMED = 21
"""Calls of one image whose median is the latency."""


@dataclasses.dataclass(frozen=True)
class Cases:
    """Images that an export is compared on.

    Attributes:
      first: one of them, as it was found.
      images: N of them, decoded, for each decoding of the predictor.
      labels: classes of those that have one [N], -1 where nobody says.
      words: which images they are.
    """

    first: NewImage
    images: Images
    labels: np.ndarray
    words: str


def find_cases(source: Source, predictor: Predictor, folder: pathlib.Path | None, num_images: int) -> Cases:
    """Images of a folder, or else those that validate a run or that a study was made with; some of them, drawn.

    The class of an image of a folder is the name of the folder that it is in, where that is one.

    Raises:
      DataError: no such folder, none of its images can be read; or nothing was given, and a bundle has none.
      RunError: the data of the run have changed.
    """
    if folder is not None:
        paths, words = find_inputs([folder]), f"images of {folder.name}"
        read: Callable[[int], NewImage] = paths.__getitem__
        known = {name: k for names in (predictor.classes, predictor.class_names) for k, name in enumerate(names)}
        labels = np.array([known.get(path.parent.name, -1) for path in paths])
    elif isinstance(source, Bundle):
        raise DataError(f"{source.folder}: a bundle has no images to compare an export on; give a folder, --images=DIR")
    else:
        read, labels, words = _own_images(source)
    chosen = draw_some(np.arange(len(labels)), num_images)
    decoded: list[list[np.ndarray]] = [[] for _ in predictor.by_decoding]
    kept = []
    for row in chosen:
        try:
            image = read(row)
            of_row = [decode_new(image, way, predictor.config.data.max_file_mb) for way in predictor.by_decoding]
        except (DecodeError, OSError):
            continue
        for images, pixels in zip(decoded, of_row, strict=True):
            images.append(pixels)
        kept.append(row)
    if not kept:
        raise DataError(f"{words}: none of {len(chosen)} images can be read; give other ones, --images=DIR")
    images = [np.stack(of_decoding) for of_decoding in decoded]
    return Cases(read(kept[0]), images, labels[kept], f"{len(kept)} {words}")


def _own_images(source: RunFolder | Study) -> tuple[Callable[[int], NewImage], np.ndarray, str]:
    """What reads, and the labels of, labelled images of a run that it was not trained on, or of all of a study's."""
    is_study = isinstance(source, Study)
    run = source.members(source.names[0])[0].run if is_study else source
    prepared = prepare_again(run)
    table = prepared.table
    rows = np.flatnonzero(table.labelled_mask) if is_study else prepared.splits.rows(VALIDATION)
    if not len(rows):
        raise RunError(f"{source.folder}: has no labelled images to compare an export on; give a folder, --images=DIR")
    words = "of the study's images, which most members learnt from" if is_study else "validation images"
    return lambda i: table.read(int(rows[i])), table.labels[rows], words


def judge(expected: Float[np.ndarray, "n K"], found: Float[np.ndarray, "n K"], labels: np.ndarray) -> dict[str, Any]:
    """How an export differs from the bundle.

    Returns:
      largest and mean difference of a probability; share of images with another most probable class, with Wilson's
      interval; accuracy of both and the drop with its interval, of labelled images.
    """
    differences = np.abs(expected - found)
    other = expected.argmax(axis=1) != found.argmax(axis=1)
    judged: dict[str, Any] = {
        "max_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "other_class": Interval(float(other.mean()), *wilson_bounds(other.sum(), len(other), 0.95)).to_json(),
        "num_labelled": int((labels >= 0).sum()),
    }
    if (labels >= 0).any():
        right = [(of.argmax(axis=1) == labels)[labels >= 0] for of in (expected, found)]
        judged |= {"accuracy_of_bundle": float(right[0].mean()), "accuracy": float(right[1].mean())}
        judged["drop"] = paired_drop(*right).to_json()
    return judged


def paired_drop(before: np.ndarray, after: np.ndarray) -> Interval:
    """How much smaller the share of right answers is after than before, of the same images, with its 95 % interval.

    Source: Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data, 2012: one image is added to each kind of disagreement, so that no disagreement has an interval too.
    """
    num_images, lost, won = len(before), int((before & ~after).sum()), int((~before & after).sum())
    shares = (lost + 1) / (num_images + 2), (won + 1) / (num_images + 2)
    centre = shares[0] - shares[1]
    width = 1.959964 * np.sqrt((sum(shares) - centre**2) / (num_images + 2))
    return Interval((lost - won) / num_images, float(max(-1, centre - width)), float(min(1, centre + width)))


def why_refused(judged: dict[str, Any], tolerance: float, allowance: float) -> str:
    """Why an export does not pass; "" where it does."""
    if not judged["max_difference"] <= tolerance:  # true of nan as well
        return f"a probability differs by {judged['max_difference']:.2g} from the bundle's, more than {tolerance:g}"
    if judged.get("drop") and judged["drop"]["low"] > allowance:
        return f"accuracy drops by {Interval.of(judged['drop'])}, which excludes the {allowance:g} that is allowed"
    return ""


def latencies(predictor: Predictor, runs: dict[str, Run], cases: Cases) -> dict[str, float]:
    """Median milliseconds of one image, by turns: of the bundle from file to table, of exports from pixels on."""
    one = [images[:1] for images in cases.images]
    calls: dict[str, Callable[[], Any]] = {
        "bundle": lambda: predictor.predict([cases.first], ["image"], _nobody(predictor))
    }
    calls |= {name: (lambda run=run: run(one)) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # compiles
    for _ in range(NUM_TIMED):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(1000 * float(np.median(of)), 2) for name, of in seconds.items()}


def _nobody(predictor: Predictor) -> np.ndarray | None:
    return None if predictor.pooling.method == "none" else np.array(["somebody"], object)


def told(name: str, judged: dict[str, Any]) -> None:
    """Says how an export compares."""
    drop = f"; accuracy drop {Interval.of(judged['drop'])}" if judged.get("drop") else ""
    say(f"{name}: largest difference of a probability {judged['max_difference']:.2g}{drop}")
