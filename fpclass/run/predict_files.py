"""Predictions of image files: what `launch.py predict` prints."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

from fpclass.console import progress
from fpclass.data.decode import decode_table
from fpclass.data.files import image_files
from fpclass.data.resize import Decoding
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.run.prepare import read_model
from fpclass.stats.metrics import log_softmax
from fpclass.train.streaming import memory_for_images


def predict_files(run: Run, inputs: list[pathlib.Path]) -> pd.DataFrame:
    """Predicts image files, or the images of folders at any depth, with the best checkpoint.

    Returns:
      One row per image: filename, predicted (the source's coding), name, probability_<class> …, error ("" if
      predicted, otherwise why not).

    Raises:
      DataError: no such file, or a folder without images.
    """
    described = read_model(run)
    classes, class_names = described["classes"], described["class_names"]
    paths = find_inputs(inputs)
    names = [str(p) for p in paths]
    rows = make_rows(names, names, [""] * len(names), tuple(classes))
    table = Table(rows, tuple(classes), tuple(class_names), read=lambda i: paths[i].read_bytes(), source="files")
    data = run.config.data
    images, facts = decode_table(
        table,
        Decoding.of(data),
        cache_dir=None,
        memory_bytes=memory_for_images(data.memory_gb),
        progress=progress,
    )
    logits = BestModel(run, len(classes)).predict(images, np.arange(len(names))).astype(np.float64)
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
    """The image files in a list of files and folders, each once.

    Raises:
      DataError: a path that does not exist, or a folder without images.
    """
    paths: dict[pathlib.Path, None] = {}
    for path in inputs:
        images = image_files(path) if path.is_dir() else [path]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not images:
            raise DataError(f"{path}: no image files in this folder")
        paths |= dict.fromkeys(images)
    return list(paths)
