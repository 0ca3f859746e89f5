"""Checks of the maps of a run's network on validation images that are drawn at random: map_checks.json, a figure."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fpclass.common import files
from fpclass.common.console import progress, say
from fpclass.data.splits import VALIDATION, draw_some
from fpclass.errors import DataError
from fpclass.explain.checks.checked import Checked, Subject, check_maps
from fpclass.explain.checks.randomise import Randomiser, weighted_stages
from fpclass.explain.checks.summary import summarise_all
from fpclass.explain.checks.words import report_of
from fpclass.report.text_tables import align_columns
from fpclass.run.best import BestModel
from fpclass.run.checks.masks import masks_of
from fpclass.run.checks.ways import Way, ways_of
from fpclass.run.explain import explained
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, describe_intervals

FILE, FIGURE = "map_checks.json", "figures/map_checks.png"
MIN_IMAGES = 5
"""Fewer images say nothing about maps in general."""
NOISE = 0.02
"""Standard deviation of the noise that a map should not mind, of the range of intensities: five grey levels of 255."""


def check_run(
    best: BestModel, prepared: Prepared, methods: Sequence[str], num_images: int, masks: pathlib.Path | None = None
) -> dict[str, Any]:
    """Checks the maps of a run on some of its validation images, and writes `FILE` and `FIGURE`; what the file holds.

    Args:
      masks: a folder of masks of the object, see `masks.masks_of`.

    Raises:
      ConfigError: the network has no stages with maps, or not the one asked for.
      DataError: fewer than `MIN_IMAGES` validation images.
      RunError: the data have changed since.
    """
    check_same_data(best.run, prepared)
    rows = draw_rows(prepared.splits.rows(VALIDATION), num_images, "validation images")
    cohort = cohort_of(prepared, rows)
    found = check_images(best, prepared, rows, methods, masks)
    return write_checks(
        best.run.folder, found, cohort, bootstrap_of(best.run.config), "validation images", prepared.note
    )


def draw_rows(rows: Int[np.ndarray, " n"], num_images: int, of: str) -> Int[np.ndarray, " m"]:
    """Some of these rows, drawn at random without a seed of anybody's: the same ones for every method and config.

    Raises:
      DataError: there are fewer than `MIN_IMAGES`.
    """
    if len(rows) < MIN_IMAGES:
        raise DataError(
            f"{len(rows)} {of}: maps are checked on at least {MIN_IMAGES}; train with more validation images "
            "(--config.split.validation_fraction=0.2), or in folds (study)"
        )
    return draw_some(rows, num_images)


def check_images(
    best: BestModel,
    prepared: Prepared,
    rows: Int[np.ndarray, " n"],
    methods: Sequence[str],
    masks: pathlib.Path | None = None,
) -> dict[str, Checked]:
    """What the checks find of some rows, by the name of the way in which maps are made."""
    subject, ways = subject_of(best, prepared, rows, methods, masks)
    return {
        way.title: check_maps(way.make_maps, subject, needs_network=way.needs_network)
        for way in progress(ways, len(ways), f"checks of the maps of {len(rows)} images")
    }


def subject_of(
    best: BestModel,
    prepared: Prepared,
    rows: Int[np.ndarray, " n"],
    methods: Sequence[str],
    masks: pathlib.Path | None = None,
) -> tuple[Subject, list[Way]]:
    """The network of a run with these rows, whose maps are about the class that it predicts; and the ways."""
    config = best.run.config
    images = np.asarray(prepared.images[rows])
    model, inputs = explained(best, images)
    ways = ways_of(model, inputs, methods, config)

    def score(x: Array, classes: Array) -> Array:
        return jnp.take_along_axis(_probabilities(model, best.variables, x), classes[:, None], axis=1)[:, 0]

    subject = Subject(
        score=score,
        variables=best.variables,
        stages=weighted_stages(model, inputs.shape[1:]),
        randomise=Randomiser(model, best.variables, np.asarray(inputs), seed=0),
        images=np.asarray(inputs),
        classes=best.predict(prepared.images, rows).argmax(axis=1),
        noise=[NOISE / std for std in np.ravel(config.data.std).tolist()],
        masks=masks_of(config, prepared, rows, images, masks),
    )
    return subject, ways


@partial(jax.jit, static_argnames=("model",))
def _probabilities(model: nn.Module, variables: dict[str, Any], images: Array) -> Array:
    logits: Any = model.apply(variables, images, train=False)
    return jax.nn.softmax(logits)


def write_checks(
    folder: pathlib.Path, found: Mapping[str, Checked], cohort: Cohort, bootstrap: Bootstrap, of: str, note: str
) -> dict[str, Any]:
    """Puts intervals and words to what was found, and writes `FILE` and `FIGURE`; what the file holds."""
    from fpclass.explain.checks.figures import draw_checks
    from fpclass.report.style import save_figure

    methods = summarise_all(found, cohort, bootstrap)
    intervals = describe_intervals(cohort, bootstrap)
    about = f"{len(cohort)} {of}, drawn at random" + (f"; {intervals}" if intervals else "")
    report = report_of(methods, about, FIGURE)
    result = {
        "num_images": len(cohort),
        "num_groups": cohort.num_groups,
        "interval": intervals,
        "methods": methods,
        "report": report,
    }
    files.write_json(folder / FILE, result)
    save_figure(draw_checks(methods, "; ".join(filter(None, (about, note)))), folder / FIGURE)
    return result


def print_report(report: Mapping[str, Any]) -> None:
    """The table of a piece of the report, and its sentences."""
    for line in align_columns(report["table"]):
        say(line)
    say("")
    for sentence in report["sentences"]:
        say(sentence)


def cohort_of(prepared: Prepared, rows: Int[np.ndarray, " n"]) -> Cohort:
    """These rows and whose they are."""
    units = prepared.splits.frame["unit"].to_numpy()[rows]
    return Cohort(prepared.table.labels[rows], units, None, prepared.table.class_names)


def bootstrap_of(config: Any) -> Bootstrap:
    """The intervals that a config asks for."""
    return Bootstrap(config.evaluate.num_resamples, config.evaluate.confidence)
