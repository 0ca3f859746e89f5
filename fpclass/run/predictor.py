"""Trained networks that predict new images: restored once, compiled once, for one image or for any number.

Of a run here (`predictor_of_run`), of a study's ensemble in `study.trained.ensemble`; all that they do not share is in
the attributes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from fpclass.common.console import progress
from fpclass.common.files import read_bytes
from fpclass.common.threads import in_threads, num_cores
from fpclass.config import Config
from fpclass.data.decode import decode_image
from fpclass.data.files import image_files
from fpclass.data.resize import Decoding
from fpclass.data.sources.columns import LIMIT_KEY
from fpclass.errors import DataError, DecodeError, one_line, printable
from fpclass.run.best import BestModel
from fpclass.run.decisions.people import pooling_for_files, read_pooling, with_people_thresholds
from fpclass.run.decisions.rule import read_rule
from fpclass.run.decisions.whose import Whose, whose_files
from fpclass.run.folder import Run
from fpclass.run.prepare import read_classes
from fpclass.stats.cohort import group_codes
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.probabilities.ensembling import LogProbabilities
from fpclass.stats.probabilities.fold_average import Combination
from fpclass.train.trained import Siblings, TrainedNetwork, fetch


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image that is decoded already, in each of the ways that a predictor's networks take it (`decodings`)."""

    pixels: Mapping[Decoding, UInt8[np.ndarray, "H W C"]]


ImageSource: TypeAlias = pathlib.Path | bytes | Image.Image
"""A file, the bytes of one, or a picture."""
NewImage: TypeAlias = ImageSource | DecodedImage
"""What an image is decoded from, or what was decoded of it."""
WINDOW_BYTES = 2**28
"""Decoded images that are in memory at once, about."""
IN_ONE_GO = 16
"""Images that a thread decodes before it takes others, at most."""
KEPT_BYTES = 2**31
"""Weights that stay in memory, about; where members have more, each is restored whenever its turn comes."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Members of one or several configs that predict together. Several threads may call it.

    Attributes:
      members: with their weights, by the name of their config, folds of the first seed before those of the next.
      combine: makes calibrated log-probabilities of their logits.
      config: `submit.threshold_for` and `study.cost` say how a class is chosen.
      classes: as the source codes them.
      class_names: how figures call them.
      rule: calibration, and thresholds.
      pooling: over the images of a person.
      words: what the probabilities are.
      promises: of each image, abstention and sets; None where nothing is promised.
    """

    members: Mapping[str, Sequence[TrainedNetwork]]
    combine: Combination
    config: Config
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    rule: DecisionRule
    pooling: Pooling
    words: str
    promises: Promises | None = None

    def predict(
        self,
        images: Sequence[NewImage],
        filenames: Sequence[str],
        people: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Predicts new images.

        Args:
          images: N of them.
          filenames: what the table calls them.
          people: whose they are [N]; None where they are not pooled.
          batch_size: images that go through the network at once, at most; None: what suits their size.

        Returns:
          One row per image, with the columns of `predict_columns`.

        Raises:
          RunError: a checkpoint is missing or damaged.
          ConfigError: a threshold that was not fitted.
        """
        return pd.DataFrame(self.predict_columns(images, filenames, people, batch_size))

    def predict_columns(
        self,
        images: Sequence[NewImage],
        filenames: Sequence[str],
        people: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> dict[str, Any]:
        """Predicts new images as `predict` does, without the milliseconds that a data frame takes.

        Returns:
          As `prediction_columns`, and where images are not pooled what is promised of each; last the error.
        """
        logits, errors = self._logits(images, batch_size)
        log_probabilities = self.combine({name: of_config.astype(np.float64) for name, of_config in logits.items()})
        named, pooled = (self.classes, self.class_names), (self.pooling, people)
        columns = prediction_columns(filenames, errors, log_probabilities, self.rule, self.config, named, pooled)
        of_images = columns.pop("error")
        if self.promises and self.pooling.method == "none":  # what is promised is promised of an image
            for name, values in self.promises.columns(log_probabilities, self.classes).items():
                columns[name] = np.where(np.array(errors) == "", np.array(values, object), "")
        return columns | {"error": of_images}

    def _logits(self, images: Sequence[NewImage], batch_size: int | None) -> tuple[dict[str, SeedLogits], list[str]]:
        """Logits [M, N, K] by config, float32, and of each image why it could not be decoded, or ""."""
        shape = len(images), len(self.classes)
        logits = {name: np.zeros((len(members), *shape), np.float32) for name, members in self.members.items()}
        errors = [""] * len(images)
        computing: collections.deque[tuple[np.ndarray, list[Any]]] = collections.deque()
        for rows in self._windows(len(images)):
            for decoding, names in self.by_decoding.items():
                decoded, errors[rows] = self._decode(images[rows], decoding)
                while computing:  # while these were decoded
                    fetch(*computing.popleft())
                for name in names:
                    for which, launched in self.siblings[name].launch(decoded, batch_size):
                        computing.append((logits[name][which, rows], launched))
        while computing:
            fetch(*computing.popleft())
        return logits, errors

    def _windows(self, num_images: int) -> Iterator[slice]:
        largest = max(math.prod(decoding.shape) for decoding in self.by_decoding)
        step = max(1, WINDOW_BYTES // largest)
        return (slice(start, start + step) for start in range(0, num_images, step))

    @property
    def decodings(self) -> tuple[Decoding, ...]:
        """The ways in which images are decoded for its networks."""
        return tuple(self.by_decoding)

    @functools.cached_property
    def siblings(self) -> dict[str, Siblings]:
        """The members of each config, as they predict together."""
        return {name: Siblings(members, KEPT_BYTES // len(self.members)) for name, members in self.members.items()}

    @functools.cached_property
    def by_decoding(self) -> dict[Decoding, list[str]]:
        """The configs of each way of decoding images."""
        together: dict[Decoding, list[str]] = {}
        for name, members in self.members.items():
            together.setdefault(Decoding.of(members[0].config.data), []).append(name)
        return together

    def _decode(self, images: Sequence[NewImage], decoding: Decoding) -> tuple[UInt8[np.ndarray, "n H W C"], list[str]]:
        """Images, zeros where decoding failed, and of each why it did, or ""."""
        decoded = np.zeros((len(images), *decoding.shape), np.uint8)
        max_mb = self.config.data.max_file_mb

        def decode(row: int) -> str:
            try:
                decoded[row] = decode_new(images[row], decoding, max_mb)
            except DecodeError as error:
                return str(error)
            return ""

        if len(images) == 1 or all(isinstance(image, DecodedImage) for image in images):
            return decoded, [decode(row) for row in range(len(images))]
        step = max(1, min(IN_ONE_GO, len(images) // num_cores()))  # to hand one over costs as much as a small image

        def decode_some(part: int) -> list[str]:
            return [decode(row) for row in range(part * step, min((part + 1) * step, len(images)))]

        with contextlib.closing(in_threads(decode_some, math.ceil(len(images) / step))) as parts:
            return decoded, list(progress((error for part in parts for error in part), len(images)))


def predictor_of_run(run: Run) -> Predictor:
    """The best weights of a run, calibrated on what was held out of them.

    Raises:
      RunError: it has no checkpoint, or its files are damaged.
      ConfigError: `predict.pool` asks for what was not fitted.
    """
    classes, class_names = read_classes(run)
    best = BestModel(run, len(classes))
    rule = read_rule(best, len(classes))
    pooling = pooling_for_files(run.config, lambda: read_pooling(best, len(classes)))
    name = run.config.name
    return Predictor(
        members={name: [best]},
        combine=Combination({name: 1.0}, "probabilities", rule.calibration),
        config=run.config,
        classes=classes,
        class_names=class_names,
        rule=rule,
        pooling=pooling,
        words=describe_probabilities(rule, pooling),
    )


def predict_files(predictor: Predictor, inputs: Sequence[pathlib.Path], whose: Whose | None = None) -> pd.DataFrame:
    """Predicts image files, or the images of folders at any depth; the table as `Predictor.predict` makes it.

    Raises:
      DataError: no such file, or a folder without images.
      RunError, ConfigError: as `Predictor.predict` and `whose_files`.
    """
    paths = find_inputs(inputs)
    people = whose_files(paths, inputs, predictor.pooling, whose or Whose(), predictor.config)
    return predictor.predict(paths, [str(path) for path in paths], people)


def find_inputs(inputs: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The image files in a list of files and folders, each once.

    Raises:
      DataError: a path that does not exist, or a folder without images.
    """
    paths: dict[pathlib.Path, None] = {}
    for path in inputs:
        images = image_files(path) if path.is_dir() else [path]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir() and not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: no image file, and no folder")
        if not images:
            raise DataError(f"{path}: no image files in this folder")
        paths |= dict.fromkeys(images)
    return list(paths)


def decode_new(image: NewImage, decoding: Decoding, max_file_mb: float) -> UInt8[np.ndarray, "H W C"]:
    """A new image as a network takes it; of a file as training would have decoded it.

    Raises:
      DecodeError: it cannot be read or decoded.
    """
    if isinstance(image, DecodedImage):
        return image.pixels[decoding]
    if not isinstance(image, pathlib.Path):
        return decode_image(image, decoding)
    try:
        data = read_bytes(image, max_file_mb, LIMIT_KEY)
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror or one_line(error)}") from error
    return decode_image(data, decoding)


def prediction_columns(
    filenames: Sequence[str],
    errors: Sequence[str],
    log_probabilities: LogProbabilities,
    rule: DecisionRule,
    config: Config,
    named: tuple[Sequence[str], Sequence[str]],
    pooled: tuple[Pooling, np.ndarray | None],
) -> dict[str, Any]:
    """The columns of the table of predicted images.

    Args:
      errors: of each image, why it could not be decoded, or "".
      log_probabilities: of each image [N, K], calibrated by the rule.
      config: `submit.threshold_for` and `study.cost` say how a class is chosen.
      named: the classes as the source codes them, and their names.
      pooled: how images are pooled, and the person of each image [N], or None.

    Returns:
      A value per image: filename, predicted (the source's coding), name, probability_<class> …, calibration (how the
      probabilities were calibrated, and by which images), decision (how the class was chosen), error ("" if
      predicted, otherwise why not, and then all others are empty). Pooled ones also have person and pooling.

    Raises:
      ConfigError: a threshold that was not fitted.
    """
    classes, class_names = named
    is_fine = np.array(errors) == ""
    objective = config.submit.threshold_for
    pooling, people = pooled
    if people is not None:
        readable = np.flatnonzero(is_fine)  # a file that cannot be read says nothing about its person
        log_probabilities = log_probabilities.copy()
        log_probabilities[readable] = pooling.apply(log_probabilities[readable], group_codes(people[readable]))
        rule = with_people_thresholds(rule, pooling)
    predicted = rule.decide(log_probabilities, objective, config.study.cost)
    probabilities = np.where(is_fine[:, None], np.exp(log_probabilities), np.nan).round(6)
    of_class = {f"probability_{value}": probabilities[:, k] for k, value in enumerate(classes)}
    is_pooled = people is not None
    return {
        "filename": [printable(name) for name in filenames],
        **({"person": people} if is_pooled else {}),
        "predicted": np.where(is_fine, np.array(classes, object)[predicted], ""),
        "name": np.where(is_fine, np.array(class_names, object)[predicted], ""),
        **of_class,
        "calibration": np.where(is_fine, rule.short, ""),
        **({"pooling": np.where(is_fine, pooling.short, "")} if is_pooled else {}),
        "decision": np.where(is_fine, rule.describe_decision(objective, classes[-1]), ""),
        "error": list(errors),
    }


def describe_probabilities(rule: DecisionRule, pooling: Pooling) -> str:
    """In words what the probabilities are."""
    return f"probabilities: {rule.words}" + ("" if pooling.method == "none" else f"; {pooling.words}")
