"""The same weights on images of another size than they learnt from, where the network takes them."""

from __future__ import annotations

import copy
import dataclasses
import functools

import jax

from fpclass.config import Config
from fpclass.deploy.bundle import shapes_of
from fpclass.deploy.serve.served import Served
from fpclass.errors import FpclassError
from fpclass.train.trained import TrainedNetwork

STEP_PX = 32
"""From one size to the next."""
SMALLEST, LARGEST = 0.5, 2.0
"""Sides, in terms of those that the network learnt from."""
KEPT = 4
"""Sizes whose programs stay in memory."""


class Sizes:
    """A model on images of any height, in the shape that it learnt from."""

    def __init__(self, served: Served):
        self._served = served
        self.height = served.predictor.decodings[0].image_size[0]
        steps = range(self.height % STEP_PX or STEP_PX, int(LARGEST * self.height) + 1, STEP_PX)
        self.heights = tuple(height for height in steps if height >= SMALLEST * self.height)
        self.at = functools.lru_cache(KEPT)(self._at)
        self.are_possible = len(self.heights) > 1 and self._fits(self.heights[0]) and self._fits(self.heights[-1])

    def nearest(self, height: float) -> int:
        """The height nearest to one: a client may ask for any, and each is a program to compile."""
        return min(self.heights if self.are_possible else (self.height,), key=lambda each: abs(each - height))

    def _at(self, height: int) -> Served:
        """The model at a height, pixels: another program, the same weights."""
        if height == self.height:
            return self._served
        predictor = self._served.predictor
        members = {name: self._resized(list(networks), height) for name, networks in predictor.members.items()}
        return dataclasses.replace(self._served, predictor=dataclasses.replace(predictor, members=members))

    def _resized(self, networks: list[TrainedNetwork], height: int) -> list[TrainedNetwork]:
        first = TrainedNetwork(_scaled(networks[0].config, height / self.height), networks[0].num_classes, dict)
        return [first.with_weights(functools.partial(getattr, network, "variables")) for network in networks]

    def _fits(self, height: int) -> bool:
        """Whether the weights of every network are of the shapes that images of this height ask for."""
        try:
            for networks in self._served.predictor.members.values():
                (resized,) = self._resized([networks[0]], height)
                if _shapes(shapes_of(resized)) != _shapes(shapes_of(networks[0])):
                    return False
        except (FpclassError, ValueError):
            return False
        return True


def _shapes(tree: object) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


def _scaled(config: Config, factor: float) -> Config:
    """A copy of a config for images of other sides."""
    other = copy.deepcopy(config)
    with other.unlocked():
        other.data.image_size = tuple(max(1, round(factor * side)) for side in config.data.image_size)
    return other
