"""The images of a sheet of maps, and what their maps are about."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from fpclass.config import Config
from fpclass.data.files import some_of
from fpclass.data.resize import Decoding
from fpclass.data.splits import draw_some
from fpclass.errors import DataError, DecodeError
from fpclass.explain.request import TARGETS, Request, classes_of
from fpclass.explain.targets import LOSS, MARGIN, Target, class_logit
from fpclass.run.folder import Run
from fpclass.run.predictor import decode_new

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Images of a sheet.

    Attributes:
      filenames: what the sheet calls them, [n].
      images: as the network takes them, before they are normalised.
      labels: class index, `NO_LABEL` where nobody knows it.
      probabilities: of the classes, by which the images are predicted, [n, K].
      words: what these images are, for the title.
      shapes: (height, width) in which they are shown; None: as the arrays are.
      remarks: of each what a reader has to know beside, or "".
    """

    filenames: np.ndarray
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n K"]
    words: str
    shapes: Int[np.ndarray, "n 2"] | None = None
    remarks: Sequence[str] = ()

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each."""
        return self.probabilities.argmax(axis=1)

    @property
    def is_right(self) -> list[bool | None]:
        """Whether each is predicted right; None where nobody knows."""
        pairs = zip(self.labels.tolist(), self.predicted.tolist(), strict=True)
        return [None if label == NO_LABEL else label == guess for label, guess in pairs]

    @property
    def how_many(self) -> str:
        """How many of them are right and wrong."""
        words = {False: "predicted wrong", True: "right", None: "of no known class"}
        counts = {what: self.is_right.count(value) for value, what in words.items()}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def titles(self, class_names: Sequence[str]) -> list[str]:
        """What stands above each image: name, class, the class chosen with its probability, and whether it is right."""
        titles = []
        for i, name in enumerate(self.filenames):
            guess, is_right = self.predicted[i], self.is_right[i]
            true = "" if is_right is None else f"true {class_names[self.labels[i]]}, "
            verdict = "" if is_right is None else (": right" if is_right else ": wrong")
            remark = f"; {self.remarks[i]}" if i < len(self.remarks) and self.remarks[i] else ""
            titles.append(
                f"{name}\n{true}predicted {class_names[guess]} ({self.probabilities[i, guess]:.0%}){verdict}{remark}"
            )
        return titles


def ranked(
    which: str, losses: Float[np.ndarray, " n"], probabilities: Float[np.ndarray, "n K"], num: int, seed: int
) -> Int[np.ndarray, " m"]:
    """Which of some predicted images a sheet shows, in its order.

    Args:
      which: one of `request.WHICH`.
      losses: by which images are ranked where these are wanted.
    """
    if which == "random":
        return draw_some(np.arange(len(losses)), num, seed)
    entropy = -np.sum(probabilities * np.log(np.maximum(probabilities, 1e-300)), axis=1)
    by = {"worst": -losses, "best": losses, "most_uncertain": -entropy}[which]
    return np.argsort(by, kind="stable")[:num]


def target_of(request: Request, chosen: Chosen, named: tuple[Sequence[str], Sequence[str]]) -> tuple[Target, str]:
    """What the maps of a sheet are about, and how its title calls it.

    Args:
      named: the classes as figures call them, and as the source codes them.

    Raises:
      ConfigError: there is no such class.
      DataError: an image without a label, and the target needs one.
    """
    classes = classes_of(request.target, *named)
    if classes:
        names = [named[0][place] for place in classes]
        shape = chosen.predicted.shape
        own, *other = (jnp.full(shape, place, jnp.int32) for place in classes)
        if not other:
            return class_logit(own), f"for {names[0]}"
        return Target(own, other[0], MARGIN), f"for {names[0]} rather than {names[1]}"
    about = own = chosen.predicted
    if request.target in ("true", "loss"):
        unlabelled = chosen.filenames[chosen.labels == NO_LABEL]
        if len(unlabelled):
            raise DataError(f"--target={request.target}: nobody knows the class of {some_of(unlabelled.tolist())}")
        about = chosen.labels
    ranking = np.argsort(-chosen.probabilities, axis=1, kind="stable")
    kind = {"margin": MARGIN, "loss": LOSS}.get(request.target, "class")
    found = Target(jnp.asarray(about, jnp.int32), jnp.asarray(ranking[:, 1], jnp.int32), kind)
    return found, TARGETS[request.target]


@dataclasses.dataclass(frozen=True)
class Named:
    """An image that was named: of the data, or a new one."""

    name: str
    path: pathlib.Path
    label: int


def find_named(run: Run, given: Sequence[str]) -> list[Named]:
    """The images that were named: by their names in the data of a run or a study, or by paths, also of new ones.

    Raises:
      DataError: there is no such file, and no image of that name.
      RunError: table.csv is damaged.
    """
    by_name: dict[str, Named] = {}
    if run.path("table.csv").is_file():
        frame = run.read_csv("table.csv", ("filename", "path"), ("label",))
        rows = zip(frame["filename"], frame["path"], frame["label"], strict=True)
        by_name = {name: Named(name, pathlib.Path(path), max(int(label), NO_LABEL)) for name, path, label in rows}
    by_path = {str(image.path): image for image in by_name.values()}
    found = []
    for name in given:
        path = pathlib.Path(name).expanduser()
        if path.is_file():
            found.append(by_path.get(str(path.resolve()), by_path.get(str(path), Named(name, path, NO_LABEL))))
        elif name in by_name and by_name[name].path.is_file():
            found.append(by_name[name])
        else:
            raise DataError(f"{name}: no such file, and the data of {run.folder} have no image of that name at hand")
    return found


def decode_named(images: Sequence[Named], config: Config) -> UInt8[np.ndarray, "n h w c"]:
    """Named images as a network takes them, decoded as those that it was trained on.

    Raises:
      DataError: one cannot be read.
    """
    decoded = []
    for image in images:
        try:
            decoded.append(decode_new(image.path, Decoding.of(config.data), config.data.max_file_mb))
        except DecodeError as error:
            raise DataError(f"{image.name}: {error}") from error
    return np.stack(decoded)


def file_shapes(images: Sequence[Named], config: Config) -> Int[np.ndarray, "n 2"] | None:
    """(height, width) of named images in their files, where decoding has not kept their shape."""
    from PIL import Image, ImageOps

    decoding = Decoding.of(config.data)
    if decoding.resize != "stretch" or decoding.crop != "none":
        return None
    shapes = []
    for image in images:
        with Image.open(image.path) as picture:
            upright = ImageOps.exif_transpose(picture)
            shapes.append((upright.height, upright.width))
    return np.array(shapes)
