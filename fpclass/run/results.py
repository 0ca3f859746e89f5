"""What comes of a trained network, from its best checkpoint: predictions, metrics, explanations, the submission."""

from __future__ import annotations

import pathlib
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from fpclass import files
from fpclass.config import Config
from fpclass.console import progress
from fpclass.data.decode import Images, decode_table
from fpclass.data.files import image_files
from fpclass.data.splits import PREDICT, SELECTION, TEST, VALIDATION, Splits
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError, RunError
from fpclass.experiment import needs_selection
from fpclass.models.build import build_model, variable_shapes
from fpclass.run.error_analysis import show_errors
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.stats.metrics import log_softmax
from fpclass.train.host_engine import engine_for
from fpclass.train.streaming import memory_for_images

SCORES = {"loss": "log_loss", "accuracy": "accuracy", "macro_f1": "macro_f1", "roc_auc": "roc_auc"}
"""What scores.json holds of the validation images, for scripts that want a number and no interval."""


def restore_best(run: Run, num_classes: int) -> tuple[nn.Module, dict[str, Any]]:
    """The model and the weights of the best epoch.

    Returns:
      The module and its variables (params, batch_stats).

    Raises:
      RunError: no checkpoint, or one of another model.
    """
    from fpclass.train import checkpoints

    config = run.config
    model = build_model(config.model, num_classes, config.data.image_size)
    shapes = variable_shapes(model, (*config.data.image_size, config.data.channels))
    like = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    return model, checkpoints.restore(run.path("checkpoints/best"), like)


def best_logits(run: Run, num_classes: int, images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
    """What the best checkpoint says of some rows of these images, float32."""
    model, variables = restore_best(run, num_classes)
    engine = engine_for(images, model, run.config)
    return np.asarray(engine.predict(variables["params"], variables["batch_stats"], images, rows))


def predict_rows(run: Run, prepared: Prepared, roles: tuple[str, ...], filename: str) -> Predictions:
    """Predicts the rows of these roles with the best checkpoint and writes them as a table.

    Args:
      run: the run folder.
      prepared: its data.
      roles: of the splits.
      filename: predictions.csv or test_predictions.csv.
    """
    check_same_data(run, prepared)
    rows = np.concatenate([prepared.splits.rows(role) for role in roles])
    logits = best_logits(run, prepared.table.num_classes, prepared.images, rows)
    predictions = Predictions.make(prepared.table, prepared.splits, rows, logits, f"seed-{run.config.seed}")
    run.write_csv(filename, predictions.frame)
    return predictions


def evaluate(run: Run, prepared: Prepared) -> dict[str, Any]:
    """Judges the best checkpoint on the validation images (and on labelled test images): metrics.json and figures.

    Returns:
      What metrics.json holds.
    """
    from fpclass.report import charts as figures
    from fpclass.stats.intervals import evaluate_predictions
    from fpclass.stats.metrics import classification_report

    config, table = run.config, prepared.table
    predictions = predict_rows(run, prepared, (VALIDATION, TEST), "predictions.csv")
    history = run.history()
    metrics: dict[str, Any] = {
        "experiment": config.name,
        "data": table.source,
        "is_synthetic": table.is_synthetic,
        "weights": config.model.weights or "random",
        "epoch": _best_epoch(run),
        "num_epochs": len(history),
        "selected_on": _describe_selection(config, prepared.splits),
        "split_notes": list(prepared.splits.notes),
    }
    for split in (VALIDATION, TEST):
        part = predictions.select(split)
        if not len(part.frame):
            continue
        units = prepared.splits.frame["unit"].iloc[prepared.splits.rows(split)].tolist()
        metrics[split] = evaluate_predictions(
            part.logits,
            part.labels,
            units,
            table.class_names,
            num_bootstrap=config.evaluate.num_bootstrap,
            confidence=config.evaluate.confidence,
        )
    report = classification_report(metrics[VALIDATION])
    files.write_text(run.path("classification_report.txt"), f"{prepared.note}\n{report}".lstrip("\n") + "\n")
    judged = predictions.select(VALIDATION)
    matrix, auc = np.array(metrics[VALIDATION]["confusion_matrix"]), metrics[VALIDATION]["roc_auc"]
    roc = figures.roc_curves(
        judged.logits, judged.labels, table.class_names, interval=(auc["low"], auc["high"]), note=prepared.note
    )
    for name, figure in {
        "confusion_matrix": figures.confusion_matrix(matrix, table.class_names, note=prepared.note),
        "roc": roc,
        "learning_curves": figures.learning_curves(history, chosen_epoch=metrics["epoch"], note=prepared.note),
    }.items():
        figures.save_figure(figure, run.path(f"figures/{name}.png"))
    metrics["findings"] = show_errors(run, prepared, predictions)
    files.write_json(run.path("metrics.json"), metrics)
    overall = {name: metrics[VALIDATION][metric]["value"] for name, metric in SCORES.items()}
    files.write_json(run.path("scores.json"), overall)
    return metrics


def explain(run: Run, prepared: Prepared) -> None:
    """Grad-CAM of the validation images with the highest loss, also as grad_cam.npz; feature maps of the worst one."""
    from fpclass.augment.intensity import normalise
    from fpclass.explain.figures import feature_map_rows
    from fpclass.explain.grad_cam import feature_maps, grad_cam, scale_maps
    from fpclass.report import charts as figures

    config, table = run.config, prepared.table
    model, variables = restore_best(run, table.num_classes)
    form = ConfigDict(config.model.to_dict())
    if form.name == "cnn":
        form.conv_form = "direct"  # the same network, with its convolutions as stages
    model = build_model(form, table.num_classes, config.data.image_size)
    predictions = predict_rows(run, prepared, (VALIDATION, TEST), "predictions.csv").select(VALIDATION)
    worst = np.argsort(-predictions.losses, kind="stable")[: config.explain.num_images]
    rows = prepared.splits.rows(VALIDATION)[worst]
    predicted = predictions.logits.argmax(axis=1)[worst]
    inputs = normalise(jnp.asarray(prepared.images[rows]), config.data.mean, config.data.std)
    stage = config.explain.stage or getattr(model, "cam_stage", "")
    raw = grad_cam(model, variables, inputs, jnp.asarray(predicted), stage)
    names = table.rows["filename"].to_numpy()[rows]
    titles = [
        f"{name}\ntrue {table.class_names[true]}, predicted {table.class_names[said]} ({share:.0%})"
        for name, true, said, share in zip(
            names, predictions.labels[worst], predicted, predictions.probabilities[worst].max(axis=1), strict=True
        )
    ]
    figure = figures.grad_cam_grid(prepared.images[rows], np.asarray(scale_maps(raw)), titles, note=prepared.note)
    figures.save_figure(figure, run.path("figures/grad_cam_worst.png"))
    stages, num_stages = feature_maps(model, variables, inputs[0])
    if stages:
        figure = feature_map_rows(prepared.images[rows[0]], stages, num_stages, titles[0], note=prepared.note)
        figures.save_figure(figure, run.path("figures/feature_maps.png"))
    with files.replacing(run.path("grad_cam.npz")) as temporary:
        np.savez(temporary, filename=names.astype(str), predicted=predicted, raw=np.asarray(raw), stage=stage)


def submit(run: Run, prepared: Prepared) -> pathlib.Path:
    """Predicts the rows without a label and writes submission.csv.

    Returns:
      Its path.

    Raises:
      DataError: as `make_submission`.
    """
    predictions = predict_rows(run, prepared, (PREDICT,), "test_predictions.csv")
    return write_submission(run.folder, run.config, prepared.table, predictions)


def write_submission(folder: pathlib.Path, config: Config, table: Table, predictions: Predictions) -> pathlib.Path:
    """Writes submission.csv into a folder, and beside it that the data are synthetic, if they are.

    Returns:
      Its path.

    Raises:
      DataError: as `make_submission`.
    """
    from fpclass.run.submission import make_submission

    submission = make_submission(
        table,
        predictions,
        filename_column=config.data.filename_column,
        label_column="SEX" if config.data.source == "synthetic" else config.data.label_column,
        fill_unreadable=config.submit.fill_unreadable,
    )
    path = folder / "submission.csv"
    files.write_csv(path, submission)
    if table.is_synthetic:
        about = f"submission.csv is about {table.source}: not real people.\n"
        files.write_text(folder / "submission.SYNTHETIC.txt", about)
    return path


def describe_model(table: Table) -> dict[str, Any]:
    """What `predict` needs to know beside the config and the weights: model.json."""
    return {
        "classes": list(table.classes),
        "class_names": list(table.class_names),
        "trained_on": table.source,
        "is_synthetic": table.is_synthetic,
    }


def predict_files(run: Run, inputs: list[pathlib.Path]) -> pd.DataFrame:
    """Predicts image files with the best checkpoint.

    Args:
      run: the run folder.
      inputs: image files, or folders whose images are taken, at any depth.

    Returns:
      One row per image: filename, predicted (the source's coding), name, probability_<class> …, error ("" if
      predicted, otherwise why not).

    Raises:
      DataError: no such file, or a folder without images.
    """
    described = files.read_json(run.path("model.json"))
    classes, class_names = described["classes"], described["class_names"]
    paths = find_inputs(inputs)
    names = [str(p) for p in paths]
    rows = make_rows(names, names, [""] * len(names), tuple(classes))
    table = Table(rows, tuple(classes), tuple(class_names), read=lambda i: paths[i].read_bytes(), source="files")
    data = run.config.data
    size = tuple(data.image_size)
    images, facts = decode_table(
        table,
        image_size=size,
        channels=data.channels,
        interpolation=data.interpolation,
        resize=data.resize,
        pad_value=data.pad_value,
        cache_dir=None,
        memory_bytes=memory_for_images(data.memory_gb),
        progress=progress,
    )
    logits = best_logits(run, len(classes), images, np.arange(len(names))).astype(np.float64)
    is_fine = (facts["error"] == "").to_numpy()
    predicted = logits.argmax(axis=1)
    probabilities = np.where(is_fine[:, None], np.exp(log_softmax(logits)), np.nan)
    frame = pd.DataFrame({"filename": names})
    frame["predicted"] = np.where(is_fine, np.array(classes, object)[predicted], "")
    frame["name"] = np.where(is_fine, np.array(class_names, object)[predicted], "")
    for k, value in enumerate(classes):
        frame[f"probability_{value}"] = probabilities[:, k].round(6)
    frame["error"] = facts["error"].to_numpy()
    return frame


def find_inputs(inputs: list[pathlib.Path]) -> list[pathlib.Path]:
    """The image files that a list of files and folders means, each once.

    Raises:
      DataError: a path that does not exist, or a folder without images.
    """
    found: dict[pathlib.Path, None] = {}
    for path in inputs:
        images = image_files(path) if path.is_dir() else [path]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not images:
            raise DataError(f"{path}: no image files in this folder")
        found |= dict.fromkeys(images)
    return list(found)


def summarise(run: Run, prepared: Prepared, metrics: dict[str, Any], seconds: float | None = None) -> str:
    """What came out and where it is, in a few lines."""
    table, judged = prepared.table, metrics[VALIDATION]

    def shown(name: str) -> str:
        score = judged[name]
        interval = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
        return f"{name.replace('_', ' ')} {score['value']:.3f}{interval}" if score["value"] is not None else ""

    scores = ",  ".join(filter(None, map(shown, ("accuracy", "macro_f1", "roc_auc"))))
    about = {
        "submission.csv": "the rows to predict",
        "metrics.json": "every metric with its interval",
        "figures": "confusion matrix, ROC, learning curves, Grad-CAM of the worst errors, the data",
        "checkpoints": "best and last weights",
    }
    lines = [
        "",
        f"{run.config.name}: {table.source}",
        f"  validation  {scores}",
        f"              {_counted(judged['num_images'], judged['num_groups'])}; {judged['interval']}",
        f"  best epoch  {metrics['epoch']} of {metrics['num_epochs']}, selected on {metrics['selected_on']}",
        *(f"  {line}" for line in metrics["findings"]),
        *(f"  written     {run.path(name)}  ({text})" for name, text in about.items() if run.path(name).exists()),
    ]
    if table.is_synthetic:
        lines.append("  These numbers are about SYNTHETIC prints. They say nothing about real ones.")
    if seconds is not None:
        lines.append(f"  took        {seconds:.0f} s")
    return "\n".join(lines)


def _best_epoch(run: Run) -> int:
    from fpclass.train import checkpoints

    epoch = checkpoints.latest_epoch(run.path("checkpoints/best"))
    if epoch is None:
        raise RunError(f"{run.folder}: no checkpoint; run `launch.py train` with this --workdir first")
    return epoch


def _describe_selection(config: Config, splits: Splits) -> str:
    if not needs_selection(config):
        return "nothing: the last epoch is kept"
    if config.split.selection == "validation":
        return "the validation images themselves (selected on what is reported: optimistic)"
    rows = splits.rows(SELECTION)
    num_units = splits.frame["unit"].iloc[rows].nunique()
    return f"an inner split of the training data: {_counted(len(rows), num_units)}"


def _counted(num_images: int, num_units: int) -> str:
    return f"{num_images} images" + (f" of {num_units} people" if num_units < num_images else "")
