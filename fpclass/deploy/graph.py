"""What a predictor computes of decoded images, as one function of arrays: the same preprocessing, networks, arithmetic.

From uint8 pixels at the networks' sizes to calibrated probabilities: what exports hold. Reading and resizing a file
comes before it (`data.resize.Decoding`); pooling over a person's images, and choosing a class, come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from fpclass.augment.intensity import normalise
from fpclass.config import Config
from fpclass.data.resize import Decoding
from fpclass.run.predictor import Predictor
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.probabilities.fold_average import Combination
from fpclass.train.finetune import compute_in
from fpclass.train.predict import make_logits
from fpclass.train.task import build_network
from fpclass.train.trained import Siblings

Graph = Callable[..., Array]
"""(images uint8 [n, H, W, C] of each decoding …) -> probabilities float32 [n, K]."""


def make_graph(predictor: Predictor, form: Callable[[Config], Config] = lambda model_config: model_config) -> Graph:
    """The function from decoded images to calibrated probabilities, weights inside.

    Args:
      form: of the networks, made of the section `model` of their config.

    Returns:
      A function of one array of images for each of `predictor.by_decoding`, in its order.
    """
    order = {decoding: i for i, decoding in enumerate(predictor.by_decoding)}
    of_each = {name: _member_logits(siblings, form) for name, siblings in predictor.siblings.items()}
    places = {name: order[Decoding.of(of[0].config.data)] for name, of in predictor.members.items()}

    def graph(*images: UInt8[Array, "n H W C"]) -> Float[Array, "n K"]:
        logits = {name: of_config(images[places[name]]) for name, of_config in of_each.items()}
        return jnp.exp(combine(predictor.combine, logits))

    return graph


def _member_logits(siblings: Siblings, form: Callable[[Config], Config]) -> Callable[[Array], list[Array]]:
    """Makes the function from images to the logits [n, K] of each member of a config."""
    network = siblings.networks[0]
    config, dtype = network.config, network.config.model.compute_dtype
    logits_of = make_logits(build_network(config, network.num_classes, form(config.model)), config)

    def apply(variables: Any, images: Array) -> Array:
        taken = normalise(images, config.data.mean, config.data.std)
        computed = {"params": compute_in(variables["params"], dtype), "batch_stats": variables["batch_stats"]}
        return logits_of(computed, cast(Array, compute_in(taken, dtype)))

    def of_members(images: Array) -> list[Array]:
        if siblings.joined is None:
            return [apply(member.variables, images) for member in siblings.networks]
        rest, heads = siblings.joined

        def of_head(head: Any) -> Array:
            return apply({kind: {**rest[kind], **head[kind]} for kind in rest}, images)

        return list(jax.vmap(of_head)(heads))

    return of_members


def combine(how: Combination, logits: Mapping[str, list[Array]]) -> Float[Array, "n K"]:
    """`Combination.__call__` of arrays of JAX, in float32."""

    def average(values: list[Array], weights: list[float]) -> Array:
        if len(values) == 1:
            return jax.nn.log_softmax(values[0])
        each = [jax.nn.log_softmax(value) for value in values]
        if how.average == "logits":
            return jax.nn.log_softmax(sum(w * value for w, value in zip(weights, each, strict=True)))
        # Of probabilities, not below the smallest number: the logarithm of 0 is none.
        mean = sum(w * jnp.exp(value) for w, value in zip(weights, each, strict=True))
        return jax.nn.log_softmax(jnp.log(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny)))

    def equal(values: list[Array]) -> Array:
        return average(values, [1 / len(values)] * len(values))

    of_folds = []
    for fold in range(how.num_folds):
        of_configs = [equal(logits[name][fold :: how.num_folds]) for name in how.weights]
        of_folds.append(calibrate(how.calibration, average(of_configs, list(how.weights.values()))))
    log_probabilities = equal(of_folds)
    scale = how.sharpening.scale
    return log_probabilities if scale == 1 else jax.nn.log_softmax(scale * log_probabilities)


def calibrate(calibration: Calibration, logits: Array) -> Array:
    """`Calibration.apply` of arrays of JAX."""
    scale, bias = (jnp.asarray(values, jnp.float32) for values in (calibration.scale, calibration.bias))
    return jax.nn.log_softmax(jax.nn.log_softmax(logits) * scale + bias)
