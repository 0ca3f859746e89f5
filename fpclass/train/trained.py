"""Trained networks that predict new images: one, or several of one config, which share what they have in common."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt8

from fpclass.common.console import progress
from fpclass.common.parallel import launch_each
from fpclass.config import Config
from fpclass.data.decode import Images
from fpclass.models.network import HEAD
from fpclass.models.parts import eval_batch
from fpclass.train.predict import Predict, make_predict, size_at_once
from fpclass.train.task import build_network

BATCH_GROWTH = 4
"""From one size of batches of new images to the next: 1, 4, 16, 64, …; each of them is a program to compile."""
IN_TURN = 256
"""Decoded images that members predict before progress is shown and others have their turn."""
Variables = dict[str, Any]
"""Trees of arrays: params and batch_stats."""


class TrainedNetwork:
    """A network with weights, which are restored when they are asked for first. Several threads may use one.

    Attributes:
      config: describes the network, how images are normalised, and the views that a prediction averages.
      model: the network.
    """

    def __init__(self, config: Config, num_classes: int, restore: Callable[[], Variables]):
        self.config, self.num_classes = config, num_classes
        self.model: nn.Module = build_network(config, num_classes)
        predict = make_predict(self.model, config)
        self.predict_alone: Predict = jax.jit(predict)
        self.predict_heads: Predict = jax.jit(of_heads(predict))
        self._restore, self._lock = restore, threading.RLock()  # one of several threads restores and compiles

    def with_weights(self, restore: Callable[[], Variables]) -> Self:
        """The same network with other weights: what is compiled serves both."""
        other = copy.copy(self)
        other._restore = restore
        other.forget()
        return other

    @cached_property
    def variables(self) -> Variables:
        """Params and batch_stats; raises what `restore` does."""
        with self._lock:
            return self.__dict__.get("variables") or self._restore()

    def forget(self) -> None:
        """Lets go of the weights; they are restored where they are asked for again."""
        self.__dict__.pop("variables", None)


class Siblings:
    """Networks of one config that predict the same images: as one program where they differ in their heads alone.

    Such are probes of a network that stays as it was published, for which all but the heads is computed once. Others
    follow one another, by one program that serves all.

    Attributes:
      kept_bytes: of weights that stay in memory; where all have more, each is restored when its turn comes.
    """

    def __init__(self, networks: Sequence[TrainedNetwork], kept_bytes: float = math.inf):
        self.networks, self.kept_bytes = networks, kept_bytes
        self._lock = threading.Lock()

    def launch(
        self, images: UInt8[np.ndarray, "n H W C"], batch_size: int | None = None
    ) -> Iterator[tuple[slice, list[Float[Array, "m b K"]]]]:
        """Logits of new images, batch by batch, which the device may still be computing; `n` or a few rows more.

        Batches have one of a few sizes, up to batch_size (None: what suits images and network), and the last one may
        be filled up: so another number of images compiles little, and the bits of an image are those of its batch's
        size.

        Returns:
          Which members, and their batches, until all members had their turn.
        """
        first = self.networks[0]
        at_most = eval_batch(images.shape, images.size)
        suits = size_at_once(first.config, first.variables["params"], images.shape, at_most)
        sizes = batch_sizes(len(images), batch_size or suits)
        padded = np.concatenate([images, np.zeros((sum(sizes) - len(images), *images.shape[1:]), np.uint8)])
        batches = np.split(padded, np.cumsum(sizes)[:-1]) if sizes else []
        with self._lock:  # one of several threads restores
            joined = self.joined
        if joined:
            yield slice(None), launched(first.predict_heads, joined, batches)
            return
        for i, network in enumerate(self.networks):
            kept = network.variables
            weights = kept["params"], kept["batch_stats"]
            yield slice(i, i + 1), [logits[None] for logits in launched(network.predict_alone, weights, batches)]
            if self._size > self.kept_bytes:
                network.forget()

    def predict(self, images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "m n K"]:
        """Logits of all members, float32, of some rows of images that are decoded; with progress."""
        logits = np.empty((len(self.networks), len(rows), self.networks[0].num_classes), np.float32)
        starts = range(0, len(rows), IN_TURN)
        for start in progress(starts, len(starts), "predictions", "window"):
            now = slice(start, start + IN_TURN)
            for which, batches in self.launch(np.asarray(images[rows[now]])):
                fetch(logits[which, now], batches)
        return logits

    @cached_property
    def _size(self) -> int:
        """Bytes of the weights of all, which are of one shape; summing them up takes as long as a small network."""
        return len(self.networks) * size_of(self.networks[0].variables)

    @cached_property
    def joined(self) -> tuple[Variables, Variables] | None:
        """What all have in common, and their heads one behind the other; None where they differ in more."""
        if len(self.networks) == 1:
            return None
        rest, first = split_head(self.networks[0].variables)
        heads = [first]
        for network in self.networks[1:]:
            others, head = split_head(network.variables)
            if size_of(rest) == 0 or not are_equal(rest, others):
                return None
            heads.append(head)
            network.forget()
        return rest, jax.tree.map(lambda *leaves: jnp.stack(leaves), *heads)


def fetch(logits: np.ndarray, batches: list[Any]) -> None:
    """Puts logits [M, b, K] of batches, the last of which may be filled up, into an array [M, n, K] for all of them."""
    logits[:] = np.concatenate([np.asarray(batch) for batch in batches], axis=1)[:, : logits.shape[1]]


def launched(predict: Predict, weights: tuple[Variables, Variables], batches: Sequence[np.ndarray]) -> list[Array]:
    """Logits of the images of each batch, which an accelerator may still be computing."""

    def of_batch(i: int) -> Array:
        return predict(*weights, batches[i], np.arange(len(batches[i]), dtype=np.int32))

    return list(launch_each(of_batch, len(batches)))


def batch_sizes(num_images: int, largest: int) -> list[int]:
    """The sizes of batches for so many images: 1, 4, 16, … or the largest, together as many images or a few more.

    What is left is filled up where that is less than as much again; else it goes in smaller batches.
    """
    sizes = [1]
    while sizes[-1] < largest:
        sizes.append(min(sizes[-1] * BATCH_GROWTH, largest))
    found = [largest] * (num_images // largest)
    left = num_images % largest
    while left > 0:
        found.append(next(size for size in sizes if size >= left))
        if found[-1] >= 2 * left:
            found[-1] = max(size for size in sizes if size <= left)
        left -= found[-1]
    return found


def of_heads(predict: Predict) -> Predict:
    """Makes of what predicts by one network what predicts by several that differ in their heads alone.

    Returns:
      (rest, heads, images, rows [n]) -> logits [M, n, K]; `rest` are the variables without the head, `heads` those of
      the heads, each array with the members as its first axis. Nothing but the heads is computed for each member.
    """

    def predict_heads(rest: PyTree, heads: PyTree, images: Any, rows: Any) -> Array:
        def of_head(head: PyTree) -> Array:
            whole = {kind: {**rest[kind], **head[kind]} for kind in rest}
            return predict(whole["params"], whole["batch_stats"], images, rows)

        return jax.vmap(of_head)(heads)

    return predict_heads


def split_head(variables: Variables) -> tuple[Variables, Variables]:
    """Divides variables into those of all stages and those of the head."""
    head = {kind: {name: tree[name] for name in (HEAD,) if name in tree} for kind, tree in variables.items()}
    rest = {kind: {name: part for name, part in tree.items() if name != HEAD} for kind, tree in variables.items()}
    return rest, head


def are_equal(one: PyTree, other: PyTree) -> bool:
    """Whether the arrays of two trees of the same structure are the same, bit for bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a is b or np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def size_of(variables: PyTree) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
