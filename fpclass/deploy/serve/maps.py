"""Where the model looked in one image: a map over it, as a PNG."""

from __future__ import annotations

import base64
import dataclasses
import io
import threading

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fpclass.deploy.serve.served import NewPicture, Served
from fpclass.explain.figures import resize_map
from fpclass.explain.stages import default_stage, find_stages, has_places
from fpclass.run.best import BestModel
from fpclass.run.explain import explained, has_stages, maps_of

METHODS = ("grad_cam",)
STRENGTH = 0.5
"""Of the map over the image, unless somebody chooses another: 0 is the image alone, 1 the map alone."""


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """A map, and what it lies on.

    Attributes:
      heat: in [0, 1], at the stage's size; the mean over the members.
      image: as the network takes it, uint8.
    """

    method: str
    stage: str
    heat: Float[np.ndarray, "mh mw"]
    image: UInt8[np.ndarray, "h w c"]

    def png(self, strength: float = STRENGTH) -> bytes:
        """The map over the image."""
        from matplotlib import colormaps

        from fpclass.report.style import HEAT_COLOURS

        grey = np.repeat(self.image.mean(axis=-1, keepdims=True), 3, axis=-1)
        colours = 255 * colormaps[HEAT_COLOURS](resize_map(self.heat, self.image.shape[:2]))[..., :3]
        mixed = (1 - strength) * grey + strength * colours
        out = io.BytesIO()
        Image.fromarray(np.rint(mixed).astype(np.uint8)).save(out, "PNG")
        return out.getvalue()

    def data_url(self, strength: float = STRENGTH) -> str:
        """The same, as text."""
        return f"data:image/png;base64,{base64.b64encode(self.png(strength)).decode()}"


class Explainer:
    """Makes maps by the members of the first config whose network has stages to look at; one image at a time."""

    def __init__(self, served: Served):
        self._lock = threading.Lock()
        num_classes = len(served.predictor.classes)
        self._members: list[BestModel] = next(
            (list(ms) for ms in served.predictor.members.values() if has_stages(ms[0].run.config, num_classes)), []
        )
        self.stages, self.default = self._find_stages()

    @property
    def methods(self) -> tuple[str, ...]:
        """Ways of making a map; none where the network names no stages."""
        return METHODS if self._members else ()

    def explain(self, picture: NewPicture, class_index: int, method: str, stage: str) -> HeatMap:
        """The map of an image for a class; stage "" is the default one."""
        from fpclass.data.resize import Decoding

        image = picture.image.pixels[Decoding.of(self._members[0].run.config.data)]
        classes = np.array([class_index])
        with self._lock:
            raw = [maps_of(best, image[None], classes, stage or self.default)[0][0] for best in self._members]
        scaled = [one / one.max() if one.max() > 0 else one for one in raw]
        return HeatMap(method, stage or self.default, np.mean(scaled, axis=0), image)

    def _find_stages(self) -> tuple[tuple[str, ...], str]:
        if not self._members:
            return (), ""
        data = self._members[0].run.config.data
        model, inputs = explained(self._members[0], np.zeros((1, *data.image_size, data.channels), np.uint8))
        stages = find_stages(model, inputs)
        return tuple(name for name in stages if has_places(model, stages[name])), default_stage(model, inputs)
