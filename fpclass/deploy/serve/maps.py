"""Where the model looked in one image: a map over it, as a PNG."""

from __future__ import annotations

import base64
import dataclasses
import io
import threading
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fpclass.augment.intensity import normalise
from fpclass.data.resize import Decoding
from fpclass.deploy.serve.served import NewPicture, Served
from fpclass.explain.figures import resize_map
from fpclass.explain.maps import scale_maps
from fpclass.explain.methods import METHODS
from fpclass.explain.stages import default_stage, find_stages, has_places
from fpclass.models.build import explainable_form
from fpclass.train.task import build_network
from fpclass.train.trained import TrainedNetwork

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

    def picture(self, strength: float = STRENGTH, at_least: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """The map over the image, enlarged so that its shorter side has so many pixels."""
        from matplotlib import colormaps

        from fpclass.report.style import HEAT_COLOURS

        grey = np.repeat(self.image.mean(axis=-1, keepdims=True), 3, axis=-1)
        colours = 255 * colormaps[HEAT_COLOURS](resize_map(self.heat, self.image.shape[:2]))[..., :3]
        mixed = (1 - strength) * grey + strength * colours
        drawn = Image.fromarray(np.rint(mixed).astype(np.uint8))
        factor = max(1.0, at_least / min(drawn.size))
        size = round(drawn.width * factor), round(drawn.height * factor)
        return np.asarray(drawn if factor == 1 else drawn.resize(size, Image.Resampling.BICUBIC))

    def png(self, strength: float = STRENGTH) -> bytes:
        """The map over the image."""
        out = io.BytesIO()
        Image.fromarray(self.picture(strength)).save(out, "PNG")
        return out.getvalue()

    def data_url(self, strength: float = STRENGTH) -> str:
        """The same, as text."""
        return f"data:image/png;base64,{base64.b64encode(self.png(strength)).decode()}"


class Explainer:
    """Makes maps of one image at a time, by the members of the config that weighs most and has stages to look at."""

    def __init__(self, served: Served):
        self._lock = threading.Lock()
        predictor = served.predictor
        by_weight = sorted(predictor.members, key=lambda name: -predictor.combine.weights.get(name, 0.0))
        self._members: list[TrainedNetwork] = []
        self.stages: tuple[str, ...] = ()
        self.default = ""
        for name in by_weight:
            members = list(predictor.members[name])
            self._model, self._data = _explainable(members[0]), members[0].config.data
            blank: Any = jax.ShapeDtypeStruct((1, *self._data.image_size, self._data.channels), np.float32)
            stages = find_stages(self._model, blank)
            self.stages = tuple(stage for stage in stages if has_places(self._model, stages[stage]))
            if self.stages:
                self._members, self.default = members, default_stage(self._model, blank)
                break

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the ways of making a map, the usual one first; none where no network names a stage."""
        return tuple(METHODS) if self._members else ()

    def explain(self, picture: NewPicture, class_index: int, method: str = "", stage: str = "") -> HeatMap:
        """The map of an image for a class; "" stands for the usual method and stage."""
        chosen = METHODS[method or self.methods[0]]
        stage = (stage or self.default) if chosen.needs_stage else ""
        image = picture.image.pixels[Decoding.of(self._data)]
        inputs = normalise(jnp.asarray(image[None]), self._data.mean, self._data.std)
        classes = jnp.array([class_index])
        with self._lock:
            raw = [chosen.bind(self._model, member.variables, stage)(inputs, classes)[0] for member in self._members]
        return HeatMap(chosen.name, stage, scale_maps(np.stack(raw)).mean(axis=0), image)


def _explainable(network: TrainedNetwork) -> nn.Module:
    """The network in the form whose stages can be looked at."""
    return build_network(network.config, network.num_classes, explainable_form(network.config.model))
