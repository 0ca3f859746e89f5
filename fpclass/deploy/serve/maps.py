"""Where the model looked in one image: `run.overlay` for a server, as strong and as large as it is asked for."""

from __future__ import annotations

import base64
import dataclasses
import threading

from fpclass.deploy.serve.served import NewPicture, Served
from fpclass.errors import ConfigError
from fpclass.explain.figures import STRENGTH, overlay_png
from fpclass.explain.methods import METHODS
from fpclass.explain.stages import default_stage, find_stages, has_places
from fpclass.run.explain import explainable
from fpclass.run.overlay import Explanation, explain_classes, explained_members


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """A map, to be laid over its image."""

    explanation: Explanation

    @property
    def method(self) -> str:
        """By which it was made."""
        return self.explanation.method

    @property
    def stage(self) -> str:
        """That it is of; "" where it is the pixels."""
        return self.explanation.stage

    def png(self, strength: float = STRENGTH, at_least: int = 0) -> bytes:
        """The map over the image, enlarged so that its shorter side has so many pixels."""
        height, width = self.explanation.image.shape[:2]
        factor = max(1.0, at_least / min(height, width))
        size = round(factor * height), round(factor * width)
        return overlay_png(self.explanation.image, self.explanation.heat, size if factor > 1 else None, strength)

    def data_url(self, strength: float = STRENGTH, at_least: int = 0) -> str:
        """The same, as text."""
        return f"data:image/png;base64,{base64.b64encode(self.png(strength, at_least)).decode()}"


class Explainer:
    """Makes maps of one image at a time, and knows by which methods and of which stages there are any.

    Attributes:
      methods: names of the ways of making a map, the usual one first.
      stages: that can be looked at; none where no network names one.
      default: the stage that is looked at by itself, or "".
    """

    def __init__(self, served: Served):
        self._lock, self._predictor = threading.Lock(), served.predictor
        self.methods, self.stages, self.default = tuple(METHODS), (), ""
        try:
            config = explained_members(served.predictor, self.methods[0])[0].config
        except ConfigError:  # no network names a stage
            self.methods = tuple(method.name for method in METHODS.values() if not method.needs_stage)
            return
        model, image = explainable(config, len(served.predictor.classes))
        stages = find_stages(model, image)
        self.stages = tuple(stage for stage in stages if has_places(model, stages[stage]))
        self.default = config.explain.stage or default_stage(model, image)

    def explain(self, picture: NewPicture, class_index: int, method: str = "", stage: str = "") -> HeatMap:
        """The map of an image for a class; "" stands for the usual method and stage."""
        with self._lock:
            return HeatMap(
                explain_classes(self._predictor, picture.image, (class_index,), method or self.methods[0], stage)
            )
