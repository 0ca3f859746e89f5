"""Probes: one linear layer on averages and deviations, or covariances, over space of several stages of a network."""

from __future__ import annotations

import functools
import hashlib
import math
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
MAX_CHANNELS = 64
"""Of a stage, between which covariances are taken; more of them are projected on so many: 2,080 numbers a stage."""
ROOT_STEPS = 5
"""Of Newton's iteration for a root (Li et al. 2018): what matters of small eigenvalues is that they count for more."""
SMALLER = 0.7
"""A level of resolution ends where the next maps are less than so many times as high."""


class Pooled(nn.Module):
    """What a probe knows of an image: moments, covariances or both over the places of several stages, one vector.

    Attributes:
      stages: whose outputs it takes, in this order.
      pooling: "moments", averages and standard deviations; "covariances"; or "both", first the one, then the other.
      prefix_tokens: a stage's output is tokens of which so many are no places of the image: the first of them, the
        class token, is taken as it is, the others, registers, are left out.
    """

    stages: tuple[str, ...]
    pooling: str = "moments"
    prefix_tokens: int = 0

    def __call__(self, outputs: Sequence[Float[Array, "n *places f"]], mode: Mode) -> Float[Array, "n d"]:
        """The vector, [n, d]."""
        return self.pooled(outputs)

    def pooled(self, outputs: Sequence[Float[Array, "n *places f"]]) -> Float[Array, "n d"]:
        """One vector of the outputs of the stages."""
        return jnp.concatenate(self.parts(outputs), axis=-1)

    def parts(self, outputs: Sequence[Float[Array, "n *places f"]]) -> list[Float[Array, "n d"]]:
        """The parts of that vector that a fit weighs: one of each stage, or, of both poolings, two."""
        pools = {"moments": [moments], "covariances": [covariances], "both": [moments, covariances]}[self.pooling]
        found = []
        for pool in pools:
            for output in outputs:
                of_places = pool(output[:, self.prefix_tokens :] if output.ndim == 3 else output)
                has_class_token = self.prefix_tokens > 0 and output.ndim == 3 and pool is pools[0]
                found.append(jnp.concatenate([output[:, 0], of_places], axis=-1) if has_class_token else of_places)
        return found


def covariances(x: Float[Array, "n *places f"]) -> Float[Array, "n d"]:
    """The matrix root of the covariance over the places of maps (or over tokens): [n, m (m + 1) / 2], m at most 64.

    It tells which features come together, which averages and deviations do not. More than 64 features are projected on
    64 sums of all of them, each added or subtracted by chance (`random_signs`). The root keeps a few large eigenvalues
    from being all that counts.

    Source: Li et al., Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square Root
    Normalization, CVPR 2018, equations 4 to 6; the projection: Achlioptas, Database-friendly random projections, JCSS
    2003.
    """
    places = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]).astype(jnp.float32)
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    if x.shape[-1] > MAX_CHANNELS:
        places = product(places, random_signs(x.shape[-1], MAX_CHANNELS) / np.float32(np.sqrt(x.shape[-1])))
    places -= places.mean(axis=1, keepdims=True)
    covariance = product(places.swapaxes(1, 2), places) / places.shape[1]
    trace = jnp.trace(covariance, axis1=1, axis2=2)[:, None, None] + 1e-12  # of maps that are the same everywhere
    one = jnp.eye(places.shape[-1])
    root, inverse = covariance / trace, jnp.broadcast_to(one, covariance.shape)
    for _ in range(ROOT_STEPS):
        step = 1.5 * one - 0.5 * product(inverse, root)
        root, inverse = product(root, step), product(step, inverse)
    rows, columns = np.triu_indices(places.shape[-1])
    return (root * jnp.sqrt(trace))[:, rows, columns]


@functools.lru_cache(maxsize=64)
def random_signs(num_rows: int, num_columns: int) -> Float[np.ndarray, "rows columns"]:
    """A matrix of 1 and -1 by chance, the same on every machine and in every version of NumPy."""
    drawn = hashlib.shake_128(f"{num_rows} x {num_columns}".encode()).digest(-(-num_rows * num_columns // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[: num_rows * num_columns]
    return bits.reshape(num_rows, num_columns).astype(np.float32) * 2 - 1


class ProbeHead(Pooled):
    """A linear layer on standardised `Pooled`: (x - mean) * scale, times kernel, plus bias. It is fitted, not trained.

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
        """Logits of features that `Pooled` gave."""
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
    pooling = model_config.probe_pooling
    head = ProbeHead(stages, pooling, network.prefix_tokens, num_classes, model_config.output, name=HEAD)
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
    """How many features each part has that a fit of the probe weighs (`Pooled.parts`)."""
    head = network.head
    assert isinstance(head, ProbeHead)
    known = Pooled(head.stages, head.pooling, head.prefix_tokens)
    shapes = [jax.ShapeDtypeStruct(_output_shapes(network.stages)[name], jnp.float32) for name in head.stages]
    return tuple(part.shape[-1] for part in jax.eval_shape(known.parts, shapes))


def features_of(network: Network) -> Network:
    """The same network up to the vectors that its probe classifies: images [n, h, w, c] -> [n, d]."""
    head = network.head
    assert isinstance(head, ProbeHead)
    return network.clone(head=Pooled(head.stages, head.pooling, head.prefix_tokens, name=HEAD))
