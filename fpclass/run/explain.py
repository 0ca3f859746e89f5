"""Grad-CAM and feature maps of the validation images on which the best weights of a run were most wrong."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fpclass import files
from fpclass.data.splits import TEST, VALIDATION
from fpclass.models.build import explainable_form
from fpclass.run.best import BestModel
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.train.task import build_network


def explain(best: BestModel, prepared: Prepared) -> None:
    """Grad-CAM of the validation images with the highest loss, also as grad_cam.npz; feature maps of the worst one."""
    from fpclass.augment.intensity import normalise
    from fpclass.explain.feature_maps import feature_maps
    from fpclass.explain.figures import feature_map_rows, grad_cam_grid
    from fpclass.explain.grad_cam import grad_cam, scale_maps
    from fpclass.report import charts as figures

    run, config, table = best.run, best.run.config, prepared.table
    model = build_network(config, table.num_classes, explainable_form(config.model))
    predictions = _predictions(best, prepared).select(VALIDATION)
    worst = np.argsort(-predictions.losses, kind="stable")[: config.explain.num_images]
    rows = prepared.splits.rows(VALIDATION)[worst]
    predicted = predictions.logits.argmax(axis=1)[worst]
    inputs = normalise(jnp.asarray(prepared.images[rows]), config.data.mean, config.data.std)
    stage = config.explain.stage or getattr(model, "cam_stage", "")
    raw = grad_cam(model, best.variables, inputs, jnp.asarray(predicted), stage)
    names = table.rows["filename"].to_numpy()[rows]
    titles = [
        f"{name}\ntrue {table.class_names[true]}, predicted {table.class_names[guess]} ({share:.0%})"
        for name, true, guess, share in zip(
            names, predictions.labels[worst], predicted, predictions.probabilities[worst].max(axis=1), strict=True
        )
    ]
    figure = grad_cam_grid(prepared.images[rows], np.asarray(scale_maps(raw)), titles, note=prepared.note)
    figures.save_figure(figure, run.path("figures/grad_cam_worst.png"))
    stages, num_stages = feature_maps(model, best.variables, inputs[0])
    if stages:
        figure = feature_map_rows(prepared.images[rows[0]], stages, num_stages, titles[0], note=prepared.note)
        figures.save_figure(figure, run.path("figures/feature_maps.png"))
    with files.replacing(run.path("grad_cam.npz")) as temporary:
        np.savez(temporary, filename=names.astype(str), predicted=predicted, raw=np.asarray(raw), stage=stage)


def _predictions(best: BestModel, prepared: Prepared) -> Predictions:
    """What predictions.csv holds, if it is of these weights; made anew otherwise."""
    run = best.run
    check_same_data(run, prepared)
    metrics = run.path("metrics.json")
    is_of_other_weights = metrics.is_file() and files.read_json(metrics)["epoch"] != best.epoch
    if run.path("predictions.csv").is_file() and not is_of_other_weights:
        predictions = Predictions.read(run, "predictions.csv", prepared.table.classes)
        rows = np.concatenate([prepared.splits.rows(role) for role in (VALIDATION, TEST)])
        if predictions.frame["filename"].tolist() == prepared.table.rows["filename"].iloc[rows].tolist():
            return predictions
    return best.predict_rows(prepared, (VALIDATION, TEST), "predictions.csv")
