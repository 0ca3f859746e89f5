"""Probes: one linear layer on averages and standard deviations over space of several stages of a network."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.layers import Logits
from fpclass.models.network import HEAD, OUTPUT, Mode, Network, moments, stages_through, variable_shapes

PROBE = "probe"
"""The value of `model.head` that stands for it."""
NUM_STAGES = 4
"""Stages that are read where a config names none: the last resolutions of a convolutional network."""
SIDE = 224
"""Pixels of the images by which resolutions are compared: what is read must not depend on the size of the data."""
SMALLER = 0.7
"""A level of resolution ends where the next maps are less than so many times as high."""


class Moments(nn.Module):
    """What a probe knows of an image: averages and standard deviations over the places of several stages, one vector.

    Attributes:
      stages: whose outputs it takes, in this order.
      prefix_tokens: a stage's output is tokens of which so many are no places of the image: the first of them, the
        class token, is taken as it is, the others, registers, are left out.
    """

    stages: tuple[str, ...]
    prefix_tokens: int = 0

    def __call__(self, outputs: Sequence[Float[Array, "n *places f"]], mode: Mode) -> Float[Array, "n d"]:
        """The vector, [n, d]."""
        return self.pooled(outputs)

    def pooled(self, outputs: Sequence[Float[Array, "n *places f"]]) -> Float[Array, "n d"]:
        """One vector of the outputs of the stages."""
        parts = []
        for output in outputs:
            has_class_token = self.prefix_tokens > 0 and output.ndim == 3
            parts += [output[:, 0], moments(output[:, self.prefix_tokens :])] if has_class_token else [moments(output)]
        return jnp.concatenate(parts, axis=-1)


class ProbeHead(Moments):
    """A linear layer on standardised `Moments`: (x - mean) * scale, times kernel, plus bias. It is fitted, not trained.

    Attributes:
      num_classes, output, subclasses: see `layers.Logits`.

    Parameters: mean and scale [d]; logits, those of `layers.Logits`.
    """

    num_classes: int = 2
    output: str = "softmax"
    subclasses: tuple[int, ...] = ()

    def __call__(self, outputs: Sequence[Float[Array, "n *places f"]], mode: Mode) -> Float[Array, "n k"]:
        """Logits of the classes."""
        return self.classify(self.pooled(outputs), train=mode.train)

    @nn.compact
    def classify(self, features: Float[Array, "n d"], *, train: bool = False) -> Float[Array, "n k"]:
        """Logits of features that `Moments` gave."""
        mean = self.param("mean", nn.initializers.zeros, features.shape[-1:])
        scale = self.param("scale", nn.initializers.ones, features.shape[-1:])
        logits = Logits(self.num_classes, self.output, self.subclasses, nn.initializers.lecun_normal(), name="logits")
        standard = (features - jax.lax.stop_gradient(mean)) * jax.lax.stop_gradient(scale)  # as they were fitted
        return logits(standard, train=train)


def with_probe(network: nn.Module, model_config: Config, num_classes: int) -> Network:
    """A network whose head is the probe that the section `model` of a config describes.

    Raises:
      ConfigError: a network without stages, or a stage that it does not have.
    """
    if not isinstance(network, Network):
        raise ConfigError(f"model.head is {PROBE!r}: that is for networks of stages, and {model_config.name} is none")
    names, key = network.stage_names, "model.probe_stages"
    last = [stages_through(names, name, key) - 1 for name in model_config.probe_stages]
    stages = tuple(names[position] for position in sorted(set(last))) or stages_to_probe(network)
    head = ProbeHead(stages, network.prefix_tokens, num_classes, model_config.output, name=HEAD)
    return network.clone(head=head)


def stages_to_probe(network: Network) -> tuple[str, ...]:
    """The stages that a probe reads unless told otherwise: where the last levels of resolution end.

    Of networks that have hardly any, as those of tokens, as many from the middle to the last.
    """
    shapes = _output_shapes(network.stages)
    names = list(shapes)
    heights = [shape[1] if len(shape) == 4 else None for shape in shapes.values()]
    ends = [
        name
        for name, height, following in zip(names, heights, [*heights[1:], None], strict=True)
        if height is not None and (following is None or following < SMALLER * height)
    ]
    if len(ends) > 1:
        return tuple(ends[-NUM_STAGES:])
    positions = np.linspace(len(names) // 2, len(names) - 1, NUM_STAGES).round().astype(int)
    return tuple(names[position] for position in sorted({*positions.tolist()}))


@functools.lru_cache(maxsize=64)
def _output_shapes(stages: tuple[nn.Module, ...]) -> dict[str, tuple[int, ...]]:
    """Shape of what each stage makes of an image of `SIDE` pixels, with the batch."""
    network = Network(stages)
    outputs = variable_shapes(network, (SIDE, SIDE, 3))["perturbations"]
    return {name: outputs[f"{name}{OUTPUT}"].shape for name in network.stage_names}


def widths(network: Network) -> tuple[int, ...]:
    """How many features a probe has of each of its stages."""
    head = network.head
    assert isinstance(head, ProbeHead)
    shapes = [_output_shapes(network.stages)[name] for name in head.stages]
    return tuple(shape[-1] * (3 if head.prefix_tokens and len(shape) == 3 else 2) for shape in shapes)


def features_of(network: Network) -> Network:
    """The same network up to the vectors that its probe classifies: images [n, h, w, c] -> [n, d]."""
    head = network.head
    assert isinstance(head, ProbeHead)
    return network.clone(head=Moments(head.stages, head.prefix_tokens, name=HEAD))
