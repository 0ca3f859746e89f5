"""What a map is about: the number that a network says of an image, a class, a margin, or the loss."""

from __future__ import annotations

from typing import TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CLASS, MARGIN, LOSS = "class", "margin", "loss"


@flax.struct.dataclass
class Target:
    """One number of the logits of each image.

    Attributes:
      classes: class index of each image, int32 [n].
      against: of a margin the class on the other side, int32 [n]; else it is not read.
      kind: "class" (the logit of `classes`), "margin" (that less the logit of `against`: what speaks for the one rather
        than the other), or "loss" (the log-loss of `classes`: what makes the image look like something else).
    """

    classes: Int[Array, "*n"]
    against: Int[Array, "*n"]
    kind: str = flax.struct.field(pytree_node=False, default=CLASS)

    def of(self, logits: Float[Array, "n k"]) -> Float[Array, " n"]:
        """The number of each image; of one image whose `classes` are a number, of each of its versions."""
        if self.kind == LOSS:
            return -_chosen(jax.nn.log_softmax(logits), self.classes)
        chosen = _chosen(logits, self.classes)
        return chosen - _chosen(logits, self.against) if self.kind == MARGIN else chosen


AnyTarget: TypeAlias = "Target | Int[Array, ' n']"
"""A target, or class indices [n], which stand for their logits."""


def as_target(target: AnyTarget) -> Target:
    """A target as it is; of class indices their logits."""
    return target if isinstance(target, Target) else class_logit(target)


def class_logit(classes: Int[Array, " n"]) -> Target:
    """The logit of a class of each image."""
    classes = jnp.asarray(classes, jnp.int32)
    return Target(classes, jnp.zeros_like(classes))


def margin(classes: Int[Array, " n"], against: Int[Array, " n"]) -> Target:
    """The logit of a class of each image, less that of another."""
    return Target(jnp.asarray(classes, jnp.int32), jnp.asarray(against, jnp.int32), MARGIN)


def loss(labels: Int[Array, " n"]) -> Target:
    """The log-loss of each image with its label, in nats."""
    labels = jnp.asarray(labels, jnp.int32)
    return Target(labels, jnp.zeros_like(labels), LOSS)


def _chosen(values: Array, classes: Array) -> Array:
    return jnp.sum(values * jax.nn.one_hot(classes, values.shape[-1], dtype=values.dtype), axis=-1)
