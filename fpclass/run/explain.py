"""Grad-CAM and feature maps of the validation images on which the best weights of a run were most wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fpclass import files
from fpclass.config import Config
from fpclass.console import say
from fpclass.data.splits import TEST, VALIDATION
from fpclass.explain.stages import default_stage
from fpclass.extension import bare
from fpclass.models.build import explainable_form
from fpclass.run.best import BestModel
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.train.task import build_network

FEATURE_MAPS = "figures/feature_maps.png"


def explain(best: BestModel, prepared: Prepared) -> None:
    """Grad-CAM of the validation images with the highest loss, also as grad_cam.npz; feature maps of the worst one."""
    from fpclass.explain.figures import grad_cam_grid
    from fpclass.explain.maps import scale_maps
    from fpclass.report import charts as figures

    run, config, table = best.run, best.run.config, prepared.table
    if not has_stages(config, best.num_classes):
        say(no_stages(config))
        return
    predictions = _predictions(best, prepared).select(VALIDATION)
    worst = np.argsort(-predictions.losses, kind="stable")[: config.explain.num_images]
    rows = prepared.splits.rows(VALIDATION)[worst]
    predicted = predictions.logits.argmax(axis=1)[worst]
    raw, stage = maps_of(best, prepared.images[rows], predicted, config.explain.stage)
    names = table.rows["filename"].to_numpy()[rows]
    titles = titles_of(names, predictions.labels[worst], predictions.probabilities[worst], table.class_names)
    is_right, shapes = (predicted == predictions.labels[worst]).tolist(), table.shapes(rows)
    scaled = np.asarray(scale_maps(jnp.asarray(raw)))
    figure = grad_cam_grid(prepared.images[rows], scaled, titles, is_right, note=prepared.note, shapes=shapes)
    figures.save_figure(figure, run.path("figures/grad_cam_worst.png"))
    first = prepared.images[rows[0]]
    draw_feature_maps(best, run.path(FEATURE_MAPS), first, titles[0], note=prepared.note, shapes=shapes)
    with files.replacing(run.path("grad_cam.npz")) as temporary:
        np.savez(temporary, filename=names.astype(str), predicted=predicted, raw=raw, stage=stage)


def has_stages(config: Config, num_classes: int) -> bool:
    """Whether the network of a config has a stage to look at; one of the user's need not."""
    model = build_network(config, num_classes, explainable_form(config.model))
    images: Any = jax.ShapeDtypeStruct((1, *config.data.image_size, config.data.channels), jnp.float32)
    return bool(default_stage(model, images))


def no_stages(config: Config) -> str:
    """What is said of a network without one."""
    return (
        f"explain: {bare(config.model.name)} names no stage with maps, so that there is no Grad-CAM and no feature map "
        "of it; fpclass.models.layers.stage names one (docs/extending.md)"
    )


def maps_of(
    best: BestModel, images: UInt8[np.ndarray, "n h w c"], classes: Int[np.ndarray, " n"], stage: str
) -> tuple[Float[np.ndarray, "n h2 w2"], str]:
    """Raw Grad-CAM maps of decoded images, for a class of each, and the stage: the last with maps if it is "".

    Raises:
      ConfigError: as `grad_cam`.
    """
    from fpclass.explain.cam import grad_cam

    model, inputs = explained(best, images)
    stage = stage or default_stage(model, inputs)
    return np.asarray(grad_cam(model, best.variables, inputs, jnp.asarray(classes), stage)), stage


def explained(best: BestModel, images: UInt8[np.ndarray, "n h w c"]) -> tuple[Any, Array]:
    """The network of a run in the form whose stages can be looked at, and what it takes of decoded images."""
    from fpclass.augment.intensity import normalise

    config = best.run.config
    model = build_network(config, best.num_classes, explainable_form(config.model))
    return model, normalise(jnp.asarray(images), config.data.mean, config.data.std)


def titles_of(
    names: np.ndarray,
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n K"],
    class_names: Sequence[str],
) -> list[str]:
    """What stands above each image: its name, its class, the class chosen, its probability, and whether it is right."""
    chosen = zip(names, labels, probabilities.argmax(axis=1), probabilities.max(axis=1), strict=True)
    return [
        f"{name}\ntrue {class_names[true]}, predicted {class_names[guess]} ({share:.0%}): "
        + ("right" if guess == true else "wrong")
        for name, true, guess, share in chosen
    ]


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
