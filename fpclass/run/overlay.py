"""The map of one new image by trained networks, and that map over the image: for Python and for a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from fpclass.data.resize import Decoding
from fpclass.errors import ConfigError, DecodeError
from fpclass.explain.figures import overlay_png, resize_map
from fpclass.explain.maps import scale_maps, what_is_wrong
from fpclass.explain.methods import METHODS
from fpclass.explain.request import classes_of
from fpclass.explain.targets import MARGIN, Target
from fpclass.run.explain import has_stages, maps_of, no_stages
from fpclass.run.predictor import NewImage, Predictor, decode_new
from fpclass.train.trained import TrainedNetwork


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for a class in one image.

    Attributes:
      image: as the network takes it.
      raw: map at the stage's size, in units of the target; of several members the mean of maps that were scaled each.
      heat: the positive part of it, from 0 to 1, at the image's size.
      about: the class that it speaks for, or "A rather than B".
      stage: that the map is of; "" where it is the pixels.
      problem: why there is nothing to see, or "".
    """

    image: UInt8[np.ndarray, "h w c"]
    raw: Float[np.ndarray, "mh mw"]
    heat: Float[np.ndarray, "h w"]
    method: str
    about: str
    stage: str
    problem: str = ""

    @property
    def png(self) -> bytes:
        """The image in grey under its map in colours, a PNG file."""
        return overlay_png(self.image, self.heat)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png

    def __repr__(self) -> str:
        at = f" at {self.stage}" if self.stage else ""
        shown = self.problem or f"largest value {self.raw.max():.2g}"
        return f"<{METHODS[self.method].title}{at} for {self.about}: {shown}>"


def explain_image(
    predictor: Predictor, image: NewImage, method: str = "grad_cam", target: str = "", stage: str = ""
) -> Explanation:
    """The map of one image: of the config that weighs most and can be looked at, the mean of its members.

    What is compiled for one image serves all that come after it.

    Args:
      target: a class, or "CLASS,OTHER" for the one rather than the other; "": the class that is predicted.
      stage: of the network, for methods that look at one; "": as `stages.default_stage`.

    Raises:
      ConfigError: no such method, class or stage, or no network with stages.
      DecodeError: it is no image.
    """
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}: expected one of {', '.join(METHODS)}")
    return explain_classes(predictor, image, _classes(predictor, image, target), method, stage)


def explain_classes(
    predictor: Predictor, image: NewImage, classes: tuple[int, ...], method: str, stage: str = ""
) -> Explanation:
    """`explain_image` for a class by its place, or for one of two rather than the other; `method` is one of `METHODS`.

    Raises:
      ConfigError: no such stage, or no network with stages.
      DecodeError: it is no image.
    """
    members = explained_members(predictor, method)
    config = members[0].config
    decoded = decode_new(image, Decoding.of(config.data), config.data.max_file_mb)
    own, other = (jnp.array([place]) for place in (classes[0], classes[-1]))
    about = Target(own, other, MARGIN) if len(classes) > 1 else Target(own, other)
    found = [maps_of(member, decoded[None], about, stage or config.explain.stage, method) for member in members]
    raw = found[0][0] if len(found) == 1 else np.mean([scale_maps(maps) for maps, _ in found], axis=0)
    heat = resize_map(scale_maps(raw)[0], decoded.shape[:2])
    words = " rather than ".join(predictor.class_names[place] for place in classes)
    return Explanation(decoded, raw[0], heat, method, words, found[0][1], what_is_wrong(raw)[0])


def explained_members(predictor: Predictor, method: str) -> Sequence[TrainedNetwork]:
    """The networks whose maps are shown: of the config that weighs most, of those that have a stage to look at.

    Raises:
      ConfigError: the method looks at a stage, and no network has one.
    """
    by_weight = sorted(predictor.members, key=lambda name: -predictor.combine.weights.get(name, 0.0))
    configs = [predictor.members[name] for name in by_weight]
    needs_stage = METHODS[method].needs_stage
    seen = [of for of in configs if not needs_stage or has_stages(of[0].config, len(predictor.classes))]
    if not seen:
        raise ConfigError(no_stages(configs[0][0].config))
    return seen[0]


def _classes(predictor: Predictor, image: NewImage, target: str) -> tuple[int, ...]:
    """The class that a map is about, or the two."""
    if target:
        named = classes_of(target, predictor.class_names, predictor.classes)
        if not named:
            raise ConfigError(f"target is {target!r}: expected a class, {', '.join(predictor.class_names)}, or A,B")
        return named
    frame = predictor.predict(
        [image], ["image"], np.array(["image"], object) if predictor.pooling.method != "none" else None
    )
    if error := frame["error"].iloc[0]:
        raise DecodeError(error)
    return (list(predictor.classes).index(frame["predicted"].iloc[0]),)
