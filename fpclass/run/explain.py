"""Maps and feature maps of images by the best weights of a run: unless told otherwise, where it was most wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fpclass.augment.intensity import normalise
from fpclass.common import files
from fpclass.common.console import say
from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.data.splits import TEST, TRAIN, VALIDATION
from fpclass.explain.methods import METHODS
from fpclass.explain.request import DEFAULT, WHICH, Request
from fpclass.explain.stages import default_stage, find_path, map_size, preferred_stage
from fpclass.explain.targets import AnyTarget
from fpclass.models.build import explainable_form
from fpclass.models.probe import PROBE
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_data, note_of, read_classes, read_model
from fpclass.run.sheets.chosen import Chosen, decode_named, file_shapes, find_named, ranked, target_of
from fpclass.run.sheets.sheet import Drawn, write_sheet
from fpclass.stats.metrics import log_softmax
from fpclass.train.task import build_network
from fpclass.train.trained import TrainedNetwork

FEATURE_MAPS = "figures/feature_maps.png"
INTENSITIES = {"mean": None, "black": 0, "white": 255}
"""Intensities of the baselines of `request.BASELINES`; None is 0 after normalising."""


def explain(best: BestModel, prepared: Prepared | None, request: Request = DEFAULT) -> list[str]:
    """Writes a sheet of maps, and for the default one feature maps of its first image; the files that it has written.

    Args:
      prepared: the data; None where the request names files.

    Raises:
      ConfigError: no such stage, class or method.
      DataError: a file that is not there, or no image.
      RunError: the data have changed since; a checkpoint is missing.
    """
    run, config = best.run, best.run.config
    if request.of_method.needs_stage and not has_stages(config, best.num_classes):
        say(no_stages(config))
        return []
    if prepared is None:
        chosen, (classes, class_names) = _named(best, request), read_classes(run)
        note = note_of(read_model(run)["is_synthetic"])
    else:
        chosen, note = _ranked(best, prepared, request), prepared.note
        classes, class_names = prepared.table.classes, prepared.table.class_names
    target, about = target_of(request, chosen, (class_names, classes))
    raw, stage = maps_of(best, chosen.images, target, config.explain.stage, request.method, request.baseline)
    notes = stage_notes(config, best.num_classes, stage)
    drawn = Drawn(raw, stage, [f"{heat.max():.2g}" for heat in raw], notes)
    written = write_sheet(run.folder, request, chosen, drawn, about, class_names, note)
    if request == DEFAULT:
        title, shapes = chosen.titles(class_names)[0], chosen.shapes
        draw_feature_maps(best, run.path(FEATURE_MAPS), chosen.images[0], title, note=note, shapes=shapes)
        written.insert(1, FEATURE_MAPS)
    return [name for name in written if run.path(name).is_file()]


def has_stages(config: Config, num_classes: int) -> bool:
    """Whether the network of a config has a stage to look at; one of the user's need not."""
    return bool(default_stage(*explainable(config, num_classes)))


def no_stages(config: Config) -> str:
    """What is said of a network without one."""
    others = ", ".join(method.name for method in METHODS.values() if not method.needs_stage)
    return (
        f"explain: {bare(config.model.name)} names no stage with maps, so that there is no Grad-CAM and no feature map "
        f"of it; fpclass.models.layers.stage names one (docs/extending.md), and --method={others} need none"
    )


def stage_notes(config: Config, num_classes: int, stage: str) -> list[str]:
    """Why it is this stage, where it is not the network's last, and what it leaves out."""
    if not stage:
        return []
    model, image = explainable(config, num_classes)
    notes, last = [], preferred_stage(model, image)
    if not config.explain.stage and stage != last:
        height, width = map_size(model, image, last)
        notes.append(f"The last stage, {last}, has {height} x {width} places, which are blobs: this one is before it")
    if config.model.head == PROBE:
        order = list(model.stage_names)
        earlier = [name for name in model.head.stages if order.index(name) < order.index(stage.split("/")[0])]
        if earlier:
            notes.append(f"The head also reads {', '.join(earlier)}, before this stage: that is not in the map")
    return notes


def maps_of(
    network: TrainedNetwork,
    images: UInt8[np.ndarray, "n h w c"],
    target: AnyTarget,
    stage: str,
    method: str = "grad_cam",
    baseline: str = "mean",
) -> tuple[Float[np.ndarray, "n h2 w2"], str]:
    """Raw maps of decoded images, and the stage that they are of: `default_stage` if it is "", "" of pixels.

    Args:
      target: class indices [n], or any other target.
      baseline: one of `request.BASELINES`.

    Raises:
      ConfigError: no such stage, or one without places.
    """
    model, inputs = explained(network, images)
    way = METHODS[method]
    stage = (stage or default_stage(model, inputs)) if way.needs_stage else ""
    settings = {"baseline": _plain(network.config, baseline)} if way.has_baseline else {}
    if stage:
        find_path(model, inputs.shape[1:], stage)  # names all stages that there are
    model = build_network(network.config, network.num_classes, explainable_form(network.config.model, stage))
    return way.bind(model, network.variables, stage, **settings)(inputs, target), stage


def explained(network: TrainedNetwork, images: UInt8[np.ndarray, "n h w c"]) -> tuple[Any, Array]:
    """A trained network in the form whose stages can be looked at, and what it takes of decoded images."""
    data = network.config.data
    model, _ = explainable(network.config, network.num_classes)
    return model, normalise(jnp.asarray(images), data.mean, data.std)


def draw_feature_maps(
    best: BestModel,
    path: pathlib.Path,
    image: UInt8[np.ndarray, "h w c"],
    title: str,
    *,
    note: str,
    shapes: Int[np.ndarray, "n 2"] | None,
) -> None:
    """What each stage of a run's network makes of a decoded image, as a figure, unless it has no stages with maps.

    The image is shown in the first of the shapes.
    """
    from fpclass.explain.feature_maps import feature_maps
    from fpclass.explain.figures import feature_map_rows
    from fpclass.report.style import save_figure

    model, inputs = explained(best, image[None])
    stages, num_stages = feature_maps(model, best.variables, inputs[0])
    if stages:
        save_figure(feature_map_rows(image, stages, num_stages, title, note=note, shapes=shapes), path)


def explainable(config: Config, num_classes: int) -> tuple[Any, Any]:
    """The network of a config in the form that can be looked at, and the shape of an image that it takes."""
    model = build_network(config, num_classes, explainable_form(config.model))
    return model, jax.ShapeDtypeStruct((1, *config.data.image_size, config.data.channels), jnp.float32)


def _plain(config: Config, baseline: str) -> Float[Array, " c"]:
    """The normalised intensities of a baseline."""
    intensity = INTENSITIES[baseline]
    if intensity is None:
        return jnp.zeros(config.data.channels)
    pixel = jnp.full((1, 1, 1, config.data.channels), intensity, jnp.uint8)
    return normalise(pixel, config.data.mean, config.data.std)[0, 0, 0]


def _ranked(best: BestModel, prepared: Prepared, request: Request) -> Chosen:
    """Validation images, chosen by how they are predicted."""
    config, table = best.run.config, prepared.table
    predictions = _predictions(best, prepared).select(VALIDATION)
    losses, probabilities, num = predictions.losses, predictions.probabilities, config.explain.num_images
    places = ranked(request.which, losses, probabilities, num, config.seed)
    rows = prepared.splits.rows(VALIDATION)[places]
    return Chosen(
        table.rows["filename"].to_numpy()[rows],
        prepared.images[rows],
        predictions.labels[places],
        probabilities[places],
        f"the {len(rows)} validation images {WHICH[request.which]}",
        table.shapes(rows),
    )


def _named(best: BestModel, request: Request) -> Chosen:
    """Images that were named, of the data or new ones."""
    run, config = best.run, best.run.config
    named = find_named(run, request.files)
    images = decode_named(named, config)
    logits = best.predict(images, np.arange(len(images), dtype=np.int32))
    return Chosen(
        np.array([image.name for image in named], object),
        images,
        np.array([image.label for image in named]),
        np.exp(log_softmax(logits.astype(np.float64))),
        f"{len(named)} images by name",
        file_shapes(named, config),
        learnt_from(run, [image.name for image in named]),
    )


def learnt_from(run: Run, filenames: Sequence[str]) -> list[str]:
    """Of each image a remark where a run has learnt from it."""
    if not run.path("splits.csv").is_file():
        return [""] * len(filenames)
    roles = run.read_csv("splits.csv", ("filename", "role")).set_index("filename")["role"].to_dict()
    return ["it learnt from this image" if roles.get(name) == TRAIN else "" for name in filenames]


def _predictions(best: BestModel, prepared: Prepared) -> Predictions:
    """What predictions.csv holds, if it is of these weights; made anew otherwise."""
    run = best.run
    check_same_data(run, prepared)
    metrics = run.path("metrics.json")
    is_of_other_weights = metrics.is_file() and files.read_object(metrics, epoch=int)["epoch"] != best.epoch
    if run.path("predictions.csv").is_file() and not is_of_other_weights:
        predictions = Predictions.read(run, "predictions.csv", prepared.table.classes)
        rows = np.concatenate([prepared.splits.rows(role) for role in (VALIDATION, TEST)])
        if predictions.frame["filename"].tolist() == prepared.table.rows["filename"].iloc[rows].tolist():
            return predictions
    return best.predict_rows(prepared, (VALIDATION, TEST), "predictions.csv")
