"""Cases of the tests: every variant of every published network, as its declaration describes it."""

from __future__ import annotations

import dataclasses
import re
import zlib
from typing import Any

import numpy as np

from fpclass.models.architecture import Parity, Published
from fpclass.models.mapping import Rule
from fpclass.models.network import Backbone
from fpclass.models.registry import ARCHITECTURES, published


@dataclasses.dataclass(frozen=True)
class Case:
    """One port and the comparison with its original."""

    name: str
    variant: str

    @property
    def parity(self) -> Parity:
        parity = published(self.name).variant(self.variant).parity
        assert parity is not None, f"{self.name} ({self.variant}) is not compared with its original"
        return parity

    @property
    def backbone(self) -> Backbone:
        return published(self.name).stages(self.variant)

    @property
    def mapping(self) -> tuple[Rule, ...]:
        return published(self.name).variant(self.variant).mapping

    @property
    def number(self) -> type[np.floating]:
        """The type of number in which it is compared."""
        return np.dtype(self.parity.dtype).type

    @property
    def training_size(self) -> tuple[int, int]:
        """Of the images of a step of training: small, for convolutions in double precision are slow."""
        smallest, size = self.backbone.min_size, (32, 48)
        is_possible = not self.parity.built_for and smallest[0] <= size[0] and smallest[1] <= size[1]
        return size if is_possible else self.parity.sizes[0]

    def options_for(self, size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the original's builder for images of this size."""
        return {"image_size": size} if self.parity.built_for else {}


CASES = tuple(
    Case(architecture.name, variant.name)
    for architecture in ARCHITECTURES.values()
    if isinstance(architecture, Published)
    for variant in architecture.variants
)


def draw_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers for an array of a reference network, float32; they depend on its name and shape only.

    Kernels keep the size of activations about the same from layer to layer, variances and scales are positive, and
    nothing is zero or one as it would be in a fresh network, so that no array can be left out unnoticed.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if re.search(r"(num_batches_tracked|count|position_index)$", name):
        return np.zeros(shape, np.int64)
    if re.search(r"(var|variance)$", name):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if re.search(r"(gamma|scale)$", name) or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) >= 2:
        is_keras = "kernel" in name
        fan_in = np.prod(shape[:-1]) if is_keras else np.prod(shape[1:])
        if is_keras and shape[-1] == 1 and len(shape) == 4:  # depthwise
            fan_in = shape[0] * shape[1]
        # Hundreds of millions in all: those of the largest arrays are a few thousand, again and again.
        few = rng.standard_normal(min(np.prod(shape), 65_537), np.float32)
        return np.resize(few * np.float32(np.sqrt(1.5 / fan_in)), shape)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


def draw_images(size: tuple[int, int], number: int) -> np.ndarray:
    """Images of noise, as normalised ones are: float32 [number, height, width, 3]."""
    return np.random.default_rng(1).standard_normal((number, *size, 3)).astype(np.float32)


RESNET18 = Case("resnet18", "torchvision")
"""A step of its training is golden; compiling backward passes takes long, and the parity tests have those of all."""
LABELS = np.array([1, 20, 300, 999])
"""Of the images of a step of training."""


def digest(array: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and a few single values of an array, float64 [2 + 8]."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.random.default_rng(flat.size).integers(0, flat.size, 8)
    return np.concatenate([[flat.mean(), flat.std()], flat[places]])
