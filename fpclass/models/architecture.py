"""Declaration of a network: its builder, the variants of a published one, how each compares with its original."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

import flax.linen as nn

from fpclass.config import Config
from fpclass.models.mapping import Rule, matching
from fpclass.models.network import Backbone


@dataclasses.dataclass(frozen=True)
class Parity:
    """Comparison of a variant with its original.

    Attributes:
      original: "torchvision:resnet18", "keras:VGG16" …; tests/support/reference_networks.py builds it.
      num_parameters: trainable ones with 1000 classes.
      sizes: (height, width) in pixels of the images compared: one not square, one odd.
      stages: our stage -> the original's module or layer whose output it is; every stage that has a counterpart.
      tolerance: largest difference of a stage or of the logits, relative to the largest magnitude there; at most twice
        the measured one.
      gradient_tolerance: likewise of updated statistics and gradients, which are computed in double precision but
        mapped in single precision.
      dtype: of the comparison: "float64" for a network that makes too much of the last digit at drawn weights.
      built_for: pixels of the side of the square images that the published positions are for, which `num_parameters`
        counts: the original is built for images of one size, its argument `image_size`. 0: for any.
    """

    original: str
    num_parameters: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    stages: Mapping[str, str]
    tolerance: float
    gradient_tolerance: float = 1e-7
    dtype: str = "float32"
    built_for: int = 0


@dataclasses.dataclass(frozen=True)
class Variant:
    """Origin of published weights, whose details (padding, epsilons, dropout …) the network then has.

    Attributes:
      name: "torchvision", "keras" …
      parity: comparison with the original; the tests want one of every variant.
      other_mappings: where files name the same arrays differently, and a name alone does not tell which it is.
    """

    name: str
    mapping: tuple[Rule, ...]
    parity: Parity | None = None
    other_mappings: tuple[tuple[Rule, ...], ...] = ()

    def rules_for(self, names: Collection[str]) -> tuple[Rule, ...]:
        """The mapping that has a place for every array of a file with these names; the usual one where none has."""
        return matching((self.mapping, *self.other_mappings), names)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Network of our own, built as the config says.

    Attributes:
      build: from the section `model` of the config, the number of classes and the images' (height, width).
      unread: keys of `model` that it does not read: a value other than the default is an error.
      has_matrix_form: `model.conv_form` can write its convolutions as matrix products, with the same parameters and
        results: compiled loops are then fast on CPU, and members can be batched.
    """

    name: str
    build: Callable[[Config, int, tuple[int, int]], nn.Module]
    unread: tuple[str, ...]
    has_matrix_form: bool = False


@dataclasses.dataclass(frozen=True)
class Published:
    """Port of a published network; its head is built as the config says, see `build.build_backbone`.

    Attributes:
      stages: from the name of a variant to its stages.
      variants: the usual one first.
    """

    name: str
    stages: Callable[[str], Backbone]
    variants: tuple[Variant, ...]

    unread: ClassVar[tuple[str, ...]] = (
        *("conv_features", "kernel_size", "convs_per_block", "block_dropout_rate"),
        *("batch_norm", "squeeze_excitation", "conv_form"),
    )
    has_matrix_form: ClassVar[bool] = False

    def variant(self, name: str) -> Variant:
        """The variant of a name.

        Raises:
          KeyError: there is none.
        """
        return {variant.name: variant for variant in self.variants}[name]
