"""What was trained, opened: a run or a study that predicts images, and shows what it amounts to."""

from __future__ import annotations

import abc
import html
import os
import pathlib
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd
from PIL import Image

from fpclass.api.figures import Figures, as_html
from fpclass.api.images import GivenImages, read_given
from fpclass.api.keys import as_overrides
from fpclass.api.prediction import Prediction
from fpclass.common import files
from fpclass.common.compilation import prepare_libraries
from fpclass.common.files import expanded
from fpclass.config import Config
from fpclass.data.splits import VALIDATION, counted
from fpclass.deploy.bundle import Bundle
from fpclass.deploy.source import open_source, predictor_of
from fpclass.errors import ConfigError, DataError, DecodeError, RunError
from fpclass.run.decisions.whose import Whose, whose_files
from fpclass.run.folder import Run
from fpclass.run.predictor import Predictor
from fpclass.stats.intervals import Interval, describe_groups
from fpclass.study.study import Study

if TYPE_CHECKING:
    from fpclass.run.overlay import Explanation

Source = TypeVar("Source", Run, Study, Bundle)
TEXT_OF_TABLE = ("config", "metric", "data", "verdict")
"""Columns of study.csv that hold no numbers."""


def load(folder: str | os.PathLike[str], **keys: Any) -> TrainedRun | TrainedStudy | LoadedBundle:
    """Opens the folder of a run, of a study or of a bundle; weights are restored when it predicts first.

    Args:
      keys: of its config, those that may change after training: `**{"predict.pool": "mean"}`.

    Raises:
      FpclassError: it is none of them, or a key that would need another training.
    """
    path = expanded(folder)
    prepare_libraries()
    source = open_source(path, as_overrides(keys))
    if isinstance(source, Bundle):
        return LoadedBundle(source)
    return TrainedStudy(source) if isinstance(source, Study) else TrainedRun(source)


def load_bundle(folder: str | os.PathLike[str], **keys: Any) -> LoadedBundle:
    """Opens a bundle, which predicts what the run or study predicts that it was made of; executes nothing of it.

    Args:
      keys: of its config, such as `**{"submit.threshold_for": "f1"}`.

    Raises:
      FpclassError: it is none, was altered, or a key that is part of the bundle.
    """
    prepare_libraries()
    return LoadedBundle(Bundle.open(expanded(folder), as_overrides(keys)))


class _Trained(abc.ABC, Generic[Source]):
    """What a run and a study have in common. Several threads may use one."""

    def __init__(self, source: Source):
        self._source: Source = source
        self._lock = threading.Lock()
        self._cached_predictor: Predictor | None = None

    @property
    def folder(self) -> pathlib.Path:
        """Where everything is."""
        return self._source.folder

    @property
    @abc.abstractmethod
    def config(self) -> Config:
        """What it was trained with; of a study that of its baseline."""

    @property
    @abc.abstractmethod
    def metrics(self) -> dict[str, Any]:
        """Every number, with its interval.

        Raises:
          RunError: there are none yet, or they are damaged.
        """

    @property
    @abc.abstractmethod
    def verdict(self) -> str:
        """How good it is, in a sentence.

        Raises:
          RunError: as `metrics`.
        """

    @property
    def figures(self) -> Figures:
        """Paths of its figures by name, which a notebook shows."""
        return Figures.of(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in their order.

        Raises:
          RunError: as `predict`.
        """
        return self._predictor.class_names

    @overload
    def predict(
        self, x: bytes | bytearray | memoryview | Image.Image, groups: Any = None, batch_size: int | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self, x: str | os.PathLike[str] | np.ndarray, groups: Any = None, batch_size: int | None = None
    ) -> Any: ...

    @overload
    def predict(self, x: Iterable[Any], groups: Any = None, batch_size: int | None = None) -> pd.DataFrame: ...

    def predict(self, x: Any, groups: Any = None, batch_size: int | None = None) -> Any:
        """Predicts new images, as the command `predict` does, to the bit.

        Args:
          x: an image: a path, the bytes of a file, a picture of Pillow, or an array (H, W) or (H, W, C) of uint8, or of
            floats in [0, 1]. Or several: a folder, a list or anything else to iterate over, an array (N, H, W, C).
          groups: whose the images are, one of each, where `predict.pool` makes one answer of a person's images.
          batch_size: images that go through the network at once, at most; None: what suits their size.

        Returns:
          A `Prediction` of one image. Of several a table of one row each: filename, predicted (as the source codes the
          classes), name, probability_<class> …, calibration, decision, of a study abstain and set, and error, which
          says why an image could not be predicted.

        Raises:
          DecodeError: one image was given, and cannot be read.
          DataError: something that is no image, no such file, or groups that do not fit.
          RunError: a checkpoint is missing or damaged, or a study is not finished.
          ConfigError: groups, and `predict.pool` is none; or none, and it is not.
        """
        given, predictor = read_given(x), self._predictor
        people = self._people_of(given, groups, predictor)
        frame = predictor.predict(given.images, given.names, people, batch_size)
        if not given.is_single:
            return frame
        if error := frame["error"].iloc[0]:
            raise DecodeError(f"{given.names[0]}: {error}")
        return Prediction.of(frame, predictor.classes, predictor.class_names)

    def explain(self, x: Any, method: str = "grad_cam", target: str = "", stage: str = "") -> Explanation:
        """What speaks for a class in one image: a map, and the image under it, which a notebook shows.

        Args:
          x: one image, as `predict` takes it.
          method: one of those of docs/explain.md, by the name that the command `explain` knows it by.
          target: a class, or "CLASS,OTHER" for the one rather than the other; "": the class that is predicted.
          stage: of the network; "": the last whose maps are no blob.

        Raises:
          DataError: several images, or no image.
          DecodeError: it cannot be read.
          ConfigError: no such method, class or stage.
        """
        from fpclass.run.overlay import explain_image

        given = read_given(x)
        if not given.is_single:
            raise DataError(f"{len(given.images)} images: a map is of one; give them one by one")
        return explain_image(self._predictor, given.images[0], method, target, stage)

    @property
    def _predictor(self) -> Predictor:
        with self._lock:
            if self._cached_predictor is None:
                self._cached_predictor = predictor_of(self._source)
            return self._cached_predictor

    def _people_of(self, given: GivenImages, groups: Any, predictor: Predictor) -> np.ndarray | None:
        """The person of each image [N]; None where images are not pooled."""
        pool, num_images = predictor.config.predict.pool, len(given.images)
        if predictor.pooling.method == "none":
            if groups is not None:
                pooling = f'fpclass.load({str(self.folder)!r}, **{{"predict.pool": "mean"}})'
                raise ConfigError(f"groups are read where a person's images are pooled: {pooling}")
            return None
        if groups is None and given.is_single:
            return np.array([given.names[0]], object)  # somebody of whom there is one image
        if groups is None:
            paths = [image for image in given.images if isinstance(image, pathlib.Path)]
            if len(paths) < num_images or not predictor.config.data.group_pattern:
                raise ConfigError(f"predict.pool is {pool!r}: give groups, whose each of the {num_images} images is")
            return whose_files(paths, given.folders, predictor.pooling, Whose(), predictor.config)
        people = np.array([groups] if isinstance(groups, str) else list(groups), object)
        if len(people) != num_images or any(person is None or person != person or person == "" for person in people):
            raise DataError(
                f"groups: expected whose each of the {num_images} images is, met {len(people)}, or empty ones"
            )
        return people.astype(str).astype(object)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.folder)!r}: {self._described}>"

    def _repr_html_(self) -> str:
        """The verdict, and the confusion matrix."""
        shown = next((as_html(path) for name, path in self.figures.items() if name in self._confusion), "")
        return f"<p><b>{html.escape(str(self.folder))}</b>: {html.escape(self._described)}</p>{shown}"

    @property
    def _described(self) -> str:
        try:
            return self.verdict
        except RunError as error:
            return str(error)

    _confusion = ("confusion_matrix", "confusion_matrices")


class TrainedRun(_Trained[Run]):
    """One training, by its best weights. `train` and `load` make it."""

    @property
    def config(self) -> Config:
        """What it was trained with."""
        return self._source.config

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds: of validation and test images value, low and high of every metric.

        Raises:
          RunError: it is not evaluated yet, or the file is damaged.
        """
        return files.read_object(self.folder / "metrics.json", validation=dict)

    @property
    def verdict(self) -> str:
        """Its accuracy with the interval, and on whom.

        Raises:
          RunError: as `metrics`.
        """
        judged = self.metrics[VALIDATION]
        about = counted(judged["num_images"], judged["num_groups"], describe_groups(judged))
        return f"{self.config.name}, accuracy {Interval.of(judged['accuracy'])} on {about} that it was not trained on"

    @property
    def predictions(self) -> pd.DataFrame:
        """Logits of the validation images, and of labelled test images: predictions.csv.

        Raises:
          RunError: it is not evaluated yet, or the file is damaged.
        """
        return _read_logits(self._source, "predictions.csv")


class TrainedStudy(_Trained[Study]):
    """Many trainings, and the ensemble of them that was chosen. `study` and `load` make it."""

    @property
    def config(self) -> Config:
        """That of the baseline."""
        return self._source.configs[self._source.baseline]

    @property
    def metrics(self) -> dict[str, Any]:
        """What results.json holds: the choice, the ensemble, calibration, decisions.

        Raises:
          RunError: the study is not finished, or the file is damaged.
        """
        return files.read_object(self.folder / "results.json", ensemble=dict, metric=str)

    @property
    def table(self) -> pd.DataFrame:
        """Every config with its score, its difference from the baseline and the verdict: study.csv.

        Raises:
          RunError: the study is not finished, or the file is damaged.
        """
        frame = Run(self.folder, self.config).read_csv("study.csv", ("config", "verdict"), text=TEXT_OF_TABLE)
        numbers = frame.columns.difference(TEXT_OF_TABLE)
        return frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in numbers})

    @property
    def verdict(self) -> str:
        """The best config, and what is to be expected of it.

        Raises:
          RunError: as `metrics`.
        """
        results, table = self.metrics, self.table
        if choice := results.get("choice"):
            expected = Interval(*(choice[f"cross_fitted{end}"] for end in ("", "_low", "_high")))
            about = f"{choice['chosen']}, the best of {len(table)} configs"
            return f"{about}; of that choice expect {results['metric']} {expected}"
        row = table.iloc[0]
        return f"{row['config']}, {results['metric']} {Interval(*(row[end] for end in ('mean', 'low', 'high')))}"

    @property
    def out_of_fold(self) -> pd.DataFrame:
        """Logits of labelled images, each by the members that never saw its person: out_of_fold.csv.

        On a split that the data set brings they are those of its validation images.

        Raises:
          RunError: the study is not finished, or the file is damaged.
        """
        name = self._source.predictions_file
        return _read_logits(Run(self.folder, self.config), name)


class LoadedBundle(_Trained[Bundle]):
    """A bundle. `load_bundle` makes it."""

    @property
    def config(self) -> Config:
        """What it decides by; keys that only training reads have their defaults."""
        return self._predictor.config

    @property
    def metrics(self) -> dict[str, Any]:
        """What its metrics.json holds: of which images, scores with intervals, limits."""
        return self._source.metrics

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self._source.card

    @property
    def verdict(self) -> str:
        """Its accuracy with the interval, and on which images."""
        metrics, name = self.metrics, self._source.facts["name"]
        if "accuracy" not in metrics["scores"]:
            return f"{name}: {metrics['note']}"
        score = Interval.of(metrics["scores"]["accuracy"])
        return f"{name}, accuracy {score} on {metrics['num_images']} images: {metrics['images']}"


def _read_logits(run: Run, name: str) -> pd.DataFrame:
    """A table of logits in the folder of a run; labels are the numbers of classes."""
    return run.read_csv(name, ("filename", "split"), ("label", "logit_"), text=("config",)).astype({"label": np.int64})
