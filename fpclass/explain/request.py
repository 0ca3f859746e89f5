"""Which maps are asked for: by which method, of which images, about what. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

from fpclass.errors import ConfigError, did_you_mean
from fpclass.explain.methods import METHODS, Method

WHICH = {
    "worst": "with the highest loss",
    "best": "with the lowest loss",
    "most_uncertain": "of which the network is least certain",
    "random": "drawn at random",
}
"""Images that are chosen by their predictions, and how a title calls them."""
FILES = "files"
TARGETS = {
    "predicted": "for the predicted class",
    "true": "for the true class",
    "margin": "for the predicted class rather than the runner-up",
    "loss": "against the true class (the loss)",
}
"""What maps may be about beside a class, or two with a comma between them; and how a title calls it."""
SCALES = ("own", "shared")
BASELINES = ("mean", "black", "white")


@dataclasses.dataclass(frozen=True)
class Request:
    """A sheet of maps.

    Attributes:
      method: one of `METHODS`.
      which: one of `WHICH`, or `FILES`.
      files: names of images of the data, or paths of images; none unless `which` is `FILES`.
      target: one of `TARGETS`, a class, or "CLASS,OTHER": the one rather than the other.
      scale: "own" scales each map by its own largest value, "shared" all of a sheet by the largest of all.
      baseline: what covers pixels, and the plain image that a method starts from: the mean colour, black or white.
    """

    method: str = "grad_cam"
    which: str = "worst"
    files: tuple[str, ...] = ()
    target: str = "predicted"
    scale: str = SCALES[0]
    baseline: str = BASELINES[0]

    @classmethod
    def of(cls, which: Sequence[str], method: str, target: str, scale: str, baseline: str) -> Request:
        """A request whose images are named by one of `WHICH`, or are files.

        Raises:
          ConfigError: a misspelt one of `WHICH`.
        """
        is_ranked = len(which) == 1 and which[0] in WHICH
        meant = did_you_mean(which[0], WHICH, likeness=0.7) if len(which) == 1 and not is_ranked else ""
        if meant and not os.path.exists(which[0]):
            raise ConfigError(f"--which={which[0]}: no such file{meant} One of {', '.join(WHICH)}, or image files")
        chosen, named = (which[0], ()) if is_ranked else (FILES, tuple(which))
        return cls(method, chosen, named, target, scale, baseline)

    @property
    def of_method(self) -> Method:
        """The method.

        Raises:
          ConfigError: there is none of this name.
        """
        found = METHODS.get(self.method)
        if found is None:
            raise ConfigError(f"--method={self.method}: expected one of {', '.join(METHODS)}")
        return found

    @property
    def name(self) -> str:
        """Of the files of the sheet."""
        about = "" if self.target == "predicted" else "_" + re.sub(r"[^\w]+", "-", self.target)
        return f"{self.method}_{self.which}{about}"

    @property
    def figure(self) -> str:
        """The file of the sheet."""
        return f"figures/{self.name}.png"

    @property
    def arrays(self) -> str:
        """The file of the maps as arrays."""
        return f"{self.name}.npz"

    def words(self, target: str) -> str:
        """What the images of the sheet are, for its title: `target` is how the target is called."""
        return f"What spoke {target} ({self.of_method.title})"


DEFAULT = Request()


def classes_of(target: str, class_names: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """The class, or two, that a target names, as figures or as the source call them; () for one of `TARGETS`.

    Raises:
      ConfigError: there is no such class.
    """

    def place(name: str) -> int | None:
        for names in (class_names, classes):
            if name in names:
                return list(names).index(name)
        return None

    if (whole := place(target)) is not None:
        return (whole,)
    if target in TARGETS:
        return ()
    places = [place(part.strip()) for part in target.split(",")]
    named = [found for found in places if found is not None]
    if len(named) == len(places) == 2 and named[0] != named[1]:
        return tuple(named)
    raise ConfigError(
        f"--target={target}: expected a class ({', '.join(class_names)}), two with a comma between them, or "
        f"{', '.join(TARGETS)}"
    )
