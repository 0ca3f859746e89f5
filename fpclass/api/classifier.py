"""A scikit-learn classifier of images: it trains as `fpclass.train` does, in a folder of its own; pickle keeps it."""

from __future__ import annotations

import csv
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from fpclass.api.images import GivenImages, read_given
from fpclass.api.trained import TrainedRun, load
from fpclass.api.training import train
from fpclass.errors import DataError
from fpclass.run.predictor import ImageSource

KEPT = ("config.json", "model.json", "calibration.json", "metrics.json", "predictions.csv", "splits.csv")
"""Files of a run folder that a pickled classifier holds, beside the best weights and the figures."""


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Trains a network on images, and predicts others.

    X is a list of paths, of bytes or of pictures of Pillow, or an array (N, H, W) or (N, H, W, C) of uint8, or of
    floats in [0, 1]. A part of the training images, `split.validation_fraction`, is set aside and judges the training:
    `run_.metrics`, `run_.figures`.

    Args:
      model: as `fpclass.train`, like size.
      config: as there; {"train.num_epochs": 10, "split.validation_fraction": 0.1}, for example.
      random_state: a number or NumPy's RandomState, for initial weights, order and split.
      quiet: whether nothing is printed.

    Attributes:
      classes_: the distinct labels, sorted [K].
      run_: what was trained, a `TrainedRun`.
      files_: the files of its folder by their names, bytes.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        config: str | Mapping[str, Any] | None = None,
        random_state: Any = 0,
        quiet: bool = True,
    ):
        self.model = model
        self.size = size
        self.config = config
        self.random_state = random_state
        self.quiet = quiet

    def fit(self, X: Any, y: Any, groups: Any = None) -> ImageClassifier:
        """Trains.

        Args:
          X: N images.
          y: a label of each.
          groups: whose each image is; a person's images stay on one side of every split inside. None: nobody's.

        Raises:
          ValueError: X, y and groups do not fit each other, or there is one class only.
          FpclassError: as `fpclass.train`.
        """
        images = read_many(X).images
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(images, labels, *([] if groups is None else [groups]))
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"the classifier can't train when only one class is present: {self.classes_[0]!r}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        keys: dict[str, Any] = {"name": "classifier", "seed": seed, "split.seed": seed}
        keys["data.classes"] = tuple(map(str, range(len(self.classes_))))
        names = tuple(str(label) for label in self.classes_)
        if len(set(names)) == len(names) and all(name.strip() for name in names):
            keys["data.class_names"] = names
        with tempfile.TemporaryDirectory() as home:
            data = pathlib.Path(home, "data")
            write_data(data, images, codes.tolist(), groups)
            run = train(
                data,
                model=self.model,
                label="label",
                group=None if groups is None else "group",
                size=self.size,
                workdir=pathlib.Path(home, "run"),
                config=self.config,
                until="evaluate",
                quiet=self.quiet,
                **keys,
            )
            self.files_ = read_folder(run.folder)
        self._open()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Labels of N images [N], decided as `submit.threshold_for` says.

        Raises:
          DataError: an image cannot be read.
          NotFittedError: it is not trained.
        """
        codes = self._predict(X)["predicted"].to_numpy(np.int64)
        return self.classes_[codes]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes [N, K], calibrated where they could be; errors as `predict`."""
        frame = self._predict(X)
        shares = frame[[f"probability_{k}" for k in range(len(self.classes_))]].to_numpy(np.float64)
        return shares / shares.sum(axis=1, keepdims=True)  # of six digits each

    @property
    def run_(self) -> TrainedRun:
        """What was trained."""
        check_is_fitted(self)
        return self._run

    def _predict(self, X: Any) -> Any:
        check_is_fitted(self)
        given = read_many(X)
        frame = self._run.predict(given.images)
        failed = np.flatnonzero(frame["error"] != "")
        if len(failed):
            raise DataError(f"{given.names[failed[0]]}: {frame['error'].iloc[failed[0]]}")
        return frame

    def _open(self) -> None:
        """Writes the files of the run into a folder, which is removed with the run, and opens it."""
        home = tempfile.mkdtemp()
        for name, content in self.files_.items():
            path = pathlib.Path(home, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        run = load(home)
        assert isinstance(run, TrainedRun)
        weakref.finalize(run, shutil.rmtree, home, ignore_errors=True)
        self._run = run

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "files_" in state:
            self._open()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "files_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def read_many(X: Any) -> GivenImages:
    """N images; an array of three axes is N grey ones.

    Raises:
      DataError: as `read_given`.
    """
    if hasattr(X, "__array__") and not isinstance(X, Image.Image):
        X = np.asarray(X)
        X = X[..., None] if X.ndim == 3 else X
        if X.ndim not in (1, 4):
            raise DataError(f"X has the shape {X.shape}: expected N paths, or images (N, H, W) or (N, H, W, C)")
    given = read_given(X)
    if given.is_single or given.folders:
        raise DataError("X is one image or a folder: expected a list of images, whose labels are in y")
    return given


def write_data(folder: pathlib.Path, images: list[ImageSource], codes: list[int], groups: Any) -> None:
    """Writes images and a CSV of them, with the number of each one's class, as a data set."""
    (folder / "images").mkdir(parents=True)
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["filename", "label", *([] if groups is None else ["group"])])
        for row, (image, code) in enumerate(zip(images, codes, strict=True)):
            name = f"{row:06d}{_write_image(folder / 'images' / f'{row:06d}', image)}"
            table.writerow([name, code, *([] if groups is None else [groups[row]])])


def _write_image(path: pathlib.Path, image: ImageSource) -> str:
    """Writes an image, a file as a link where that can be had; returns the ending of its name."""
    if isinstance(image, Image.Image):
        image.save(f"{path}.png")
        return ".png"
    if isinstance(image, bytes):
        pathlib.Path(f"{path}.png").write_bytes(image)  # what it is, its content says
        return ".png"
    ending = image.suffix or ".png"
    try:
        os.symlink(image.absolute(), f"{path}{ending}")
    except OSError:  # Windows, without the right to
        shutil.copyfile(image, f"{path}{ending}")
    return ending


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """What of a run folder a classifier keeps, by name."""
    paths = [folder / name for name in KEPT]
    paths += [path for part in ("checkpoints/best", "figures") for path in (folder / part).rglob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths) if path.is_file()}
