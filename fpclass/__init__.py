"""From labelled images to an answer that holds: which model, how good, why, and the thing to hand in.

    import fpclass
    run = fpclass.train("photos")                 # or fpclass.load("runs/photos"), a run or a study
    run.predict("cat.jpg")
    fpclass.best("photos", minutes=20)            # several ways, an ensemble, what to expect of it
    fpclass.load_bundle("bundle").predict(images)  # what `fpclass bundle` made of either, to hand on

`import fpclass` imports nothing heavy: what is used is imported when it is used first. docs/python.md has all of it.
"""

from __future__ import annotations

import importlib
import inspect
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fpclass.api.classifier import ImageClassifier
    from fpclass.api.compare import compare
    from fpclass.api.figures import Figures
    from fpclass.api.prediction import Prediction
    from fpclass.api.trained import LoadedBundle, TrainedRun, TrainedStudy, load, load_bundle
    from fpclass.api.training import best, study, train
    from fpclass.errors import (
        ConfigError,
        DataError,
        DecodeError,
        FpclassError,
        RunError,
        TrainingError,
        WeightsError,
    )

__version__ = "0.4.0"

__all__ = [
    "ConfigError",
    "DataError",
    "DecodeError",
    "Figures",
    "FpclassError",
    "ImageClassifier",
    "LoadedBundle",
    "Prediction",
    "RunError",
    "TrainedRun",
    "TrainedStudy",
    "TrainingError",
    "WeightsError",
    "__version__",
    "best",
    "compare",
    "load",
    "load_bundle",
    "study",
    "train",
]

_HOMES = {
    "fpclass.api.classifier": ("ImageClassifier",),
    "fpclass.api.compare": ("compare",),
    "fpclass.api.figures": ("Figures",),
    "fpclass.api.prediction": ("Prediction",),
    "fpclass.api.training": ("best",),
    "fpclass.api.trained": ("LoadedBundle", "TrainedRun", "TrainedStudy", "load", "load_bundle"),
    "fpclass.errors": tuple(name for name in __all__ if name.endswith("Error")),
}
"""Where the names live that are imported when they are asked for; `train` and `study` are below."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _PackageAndFunction(types.ModuleType):
    """A package of which there is a function of the same name too: `fpclass.train.engine`, `fpclass.train("photos")`.

    Python gives a package the name of each part that is imported; no function of that name could stay beside it.
    """

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module("fpclass.api.training"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """See docs/python.md."""
        return self._function(*args, **options)


for _name in ("fpclass.train", "fpclass.study"):
    importlib.import_module(_name).__class__ = _PackageAndFunction
