"""Random keys. Every random number has an address, key = f(seed, purpose, epoch or step, example).

A result depends neither on the order in which things run, nor on who trains at the same time, nor on an interruption.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

PARAMS, ORDER, AUGMENT, DROPOUT, MIXING, VIEWS, FLIPS, CONTRAST = range(8)
"""Purposes of random numbers: the first part of their address, after the seed."""

Scalar = Int[Array, ""] | int


def address(seed: Scalar, purpose: int, *where: Scalar) -> Key[Array, ""]:
    """The key at an address: seed, purpose, then for example epoch and example."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    for part in where:
        key = jax.random.fold_in(key, part)
    return key


def augmentation_keys(seed: Scalar, epoch: Scalar, rows: Int[Array, " B"]) -> Key[Array, " B"]:
    """The keys of the augmentation of these rows, in an epoch of the member with this seed."""
    key = address(seed, AUGMENT, epoch)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def mirrored_in(seed: Scalar, epoch: Scalar, rows: Int[Array, " B"]) -> Bool[Array, " B"]:
    """Whether each of these rows is mirrored in this epoch: in every other one, from the first or from the second on.

    Source: Jordan, arXiv 2404.00498, section 3.6: all images and mirror images are seen in every pair of epochs.
    """
    first = jax.vmap(lambda row: jax.random.bits(address(seed, FLIPS, row)) % 2)(rows)
    return (first + jnp.asarray(epoch, first.dtype)) % 2 == 1


def view_in(epoch: Scalar, rows: Int[Array, " B"], num_views: int) -> Int[Array, " B"]:
    """The augmented view, from 1 on, on which each of these rows is trained in this epoch.

    Neighbours start at different views; every image sees each of its own equally often.
    """
    return 1 + (epoch + rows) % num_views


def view_keys(view: Int[Array, " B"], rows: Int[Array, " B"]) -> Key[Array, " B"]:
    """The keys of the augmentation of a cached view of each of these rows, the same for every member."""
    return jax.vmap(lambda of_row, row: address(0, VIEWS, of_row, row))(view, rows)
