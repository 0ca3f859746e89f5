"""Whether a new image is like those that a model learnt from: notes in words, by the facts of decoding.

A model answers whatever it is shown, and often with much confidence where it was shown nothing like it. The facts here
are coarse (size, shape, brightness, contrast); an image that passes them need not be one of the kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.audit import NEAR_BLANK_STD
from fpclass.data.resize import Decoding
from fpclass.errors import DataError

MARGIN = 0.1
"""Of the width of a range, or of its upper end: so much beyond what was seen in training an image may still be."""
TINY_SHARE = 0.5
"""Of the sides that a network takes: an image of less is more invented by enlarging than seen."""
FACTS = {
    "side": ("small", "large", "shorter side of {:.0f} pixels"),
    "aspect": ("narrow", "wide", "width {:.2f} times the height"),
    "mean": ("dark", "bright", "mean grey level {:.0f} of 255"),
    "std": ("flat", "harsh", "standard deviation of the grey levels {:.0f} of 255"),
}
"""Facts that are compared: what is below the range, what is above it, and in words."""
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
"""Pillow's names of pixel formats without colour."""
HARMLESS = ("large",)
"""Kinds that a network does not notice: images are made smaller anyway."""


@dataclasses.dataclass(frozen=True)
class Note:
    """What stands out in an image.

    Attributes:
      kind: one word, for programs.
      text: the same for people.
      is_unlike: whether the answer of a model for such an image is not to be relied on.
    """

    kind: str
    text: str
    is_unlike: bool


@dataclasses.dataclass(frozen=True)
class ImageRange:
    """Ranges of the facts of the images that a model learnt from.

    Attributes:
      num_images: how many they were.
      ranges: smallest and largest value of each of `FACTS`.
      are_grey: whether some of their files hold grey pictures.
    """

    num_images: int
    ranges: Mapping[str, tuple[float, float]]
    are_grey: bool = True

    @classmethod
    def of_rows(cls, rows: Any) -> ImageRange:
        """The ranges in the rows of a table of images with their facts (table.csv), those of it that decode."""
        are_grey = bool(rows["mode"].isin(GREY_MODES).any())
        facts: Any = rows[["width", "height", "mean", "std"]].apply(pd.to_numeric, errors="coerce").dropna()
        usable = facts[facts["width"] > 0]
        values = _values(usable)
        ranges = {name: (float(v.min()), float(v.max())) for name, v in values.items() if len(usable)}
        return cls(len(usable), ranges, are_grey)

    @classmethod
    def from_json(cls, value: Any) -> ImageRange:
        """What `to_json` gave.

        Raises:
          DataError: it is something else.
        """
        try:
            ranges = {str(name): (float(low), float(high)) for name, (low, high) in value["ranges"].items()}
            return cls(int(value["num_images"]), ranges, bool(value["are_grey"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"ranges of the training images: expected num_images and ranges, met {value!r}") from error

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable."""
        ranges = {name: list(ends) for name, ends in self.ranges.items()}
        return {"num_images": self.num_images, "ranges": ranges, "are_grey": self.are_grey}

    def notes(self, facts: Mapping[str, Any]) -> list[Note]:
        """What is beyond the ranges of training by more than `MARGIN`."""
        found = []
        for name, value in _values(facts).items():
            low, high = self.ranges.get(name, (-np.inf, np.inf))
            margin = MARGIN * max(high - low, high) if np.isfinite(high - low) else 0.0
            if low - margin <= value <= high + margin:
                continue
            kind = FACTS[name][0] if value < low else FACTS[name][1]
            words = FACTS[name][2]
            seen = f"those of the {self.num_images} images it learnt from are {low:.4g} to {high:.4g}"
            found.append(Note(kind, f"{kind}: {words.format(value)}; {seen}", kind not in HARMLESS))
        return found


def notes_of(facts: Mapping[str, Any], decoding: Decoding, training: ImageRange | None) -> list[Note]:
    """What stands out in a decoded image.

    Args:
      facts: as `decode.decode_and_describe` gives them.
      decoding: how a network takes it.
      training: what the model learnt from, where that is known.
    """
    found = []
    if facts["std"] < NEAR_BLANK_STD:
        found.append(Note("blank", f"blank: the grey levels differ by {facts['std']:.1f} of 255", True))
    height, width = decoding.image_size
    if min(facts["height"] / height, facts["width"] / width) < TINY_SHARE:
        sizes = f"{facts['width']} x {facts['height']} pixels, enlarged to {width} x {height}"
        is_usual = training is not None and min(facts["height"], facts["width"]) >= training.ranges.get("side", (0,))[0]
        found.append(Note("tiny", f"tiny: {sizes}", not is_usual))
    if training is not None:
        kinds = {note.kind for note in found} | ({"small"} if any(note.kind == "tiny" for note in found) else set())
        found += [note for note in training.notes(facts) if note.kind not in kinds]
    if decoding.channels == 3 and facts["is_grey"] and training is not None and not training.are_grey:
        seen = f"none of the {training.num_images} images it learnt from has a grey file"
        found.append(Note("grey", f"without any colour; {seen}", True))
    if decoding.channels == 1 and not facts["is_grey"]:
        found.append(Note("coloured", "in colour; the model reads it as grey", False))
    if facts["note"]:
        found.append(Note("read_as", str(facts["note"]), False))
    return found


def _values(facts: Any) -> dict[str, Any]:
    """The facts that are compared, of one image or of the rows of a table."""
    width, height = facts["width"], facts["height"]
    values = {"side": np.minimum(width, height), "aspect": width / np.maximum(height, 1)}
    return values | {name: facts[name] for name in ("mean", "std")}
