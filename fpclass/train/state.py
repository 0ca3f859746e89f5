"""The data set on the device, a member (a seed and its rows), and the training state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

PADDING = -1
"""Row number that stands for "no example" in the last batch of an epoch."""


@flax.struct.dataclass
class Dataset:
    """Images and labels that all members share, on the device.

    Attributes:
      images: anything of this shape that rows can be taken from by `images[rows]`: an array on the device, or a
        `streaming.Window` of images whose others stay on disk. Where a frozen prefix was computed once, its features
        float [N, views, …], of which view 0 is of the images as they are, and the others of augmented ones.
      sublabels: subclass of each, where these are learnt (`model.subclasses`).
      pretrained: params and batch_stats that members start from, where they do not draw their own.
    """

    images: UInt8[Array, "N H W C"] | Float[Array, "N V *F"]
    labels: Int[Array, " N"]
    pretrained: PyTree = flax.struct.field(default_factory=dict)
    sublabels: Int[Array, " N"] | None = None


@flax.struct.dataclass
class Member:
    """One training of a config: its seed and its rows.

    Attributes:
      seed: of initial weights, order, augmentation and dropout.
      train_rows: rows to train on, filled up with `PADDING` where members of different sizes train together.
      selection_rows: rows on which the best epoch is chosen; may be empty.
      validation_rows: rows that are watched, never used.
      class_weights: weight of an example in the loss by its class.
      targets: probabilities to learn in place of the labels, of every row of the data set; None: the labels.
    """

    seed: Int[Array, ""]
    train_rows: Int[Array, " n"]
    selection_rows: Int[Array, " s"]
    validation_rows: Int[Array, " v"]
    class_weights: Float[Array, " K"]
    targets: Float[Array, "N K"] | None = None


def rows_of(member: Member) -> Int[np.ndarray, " n"]:
    """The rows that a member trains on, without what fills them up."""
    rows = np.asarray(member.train_rows)
    return rows[rows != PADDING]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Functions from rows of a data set to inputs of a network.

    Attributes:
      draw: (member, epoch, dataset, rows [B]) -> batch for training.
      plain: (images of the data set, rows [n]) -> batch for evaluation.
      shape: data set -> shape of one example.
      shard: spreads the first axis of a batch over the devices that share it.
      num_devices: how many these are.
      are_images: whether whole images come out, not cached features.
    """

    draw: Callable[[Member, Int[Array, ""], Dataset, Int[Array, " B"]], Array]
    plain: Callable[[Array, Int[Array, " n"]], Array]
    shape: Callable[[Dataset], tuple[int, ...]]
    shard: Callable[[Array], Array] = lambda batch: batch
    num_devices: int = 1
    are_images: bool = True


@flax.struct.dataclass
class Best:
    """The weights of the best epoch so far by the selection metric, or of the last one where nothing is selected.

    Where a moving average of the weights is kept (`train.ema_decay`), they are those of the average.

    Attributes:
      score: the larger, the better; of the loss its negative.
      loss: on the same rows: of epochs with the same score the one with the lowest is the best.
    """

    params: PyTree
    batch_stats: PyTree
    score: Float[Array, ""]
    loss: Float[Array, ""]
    epoch: Int[Array, ""]


@flax.struct.dataclass
class EpochSums:
    """What an epoch has come to so far.

    Attributes:
      loss: of the steps, each times its weight; weight: of their examples.
      correct, predicted: examples by the class that was predicted for them.
      bad_step: the first step whose loss was not finite, -1 where all were. It stays: who had one trains no further.
    """

    loss: Float[Array, ""]
    weight: Float[Array, ""]
    correct: Float[Array, " K"]
    predicted: Float[Array, " K"]
    bad_step: Int[Array, ""]

    @classmethod
    def nothing(cls, num_classes: int) -> EpochSums:
        """Those of an epoch that begins."""
        zero, of_classes = jnp.zeros(()), jnp.zeros(num_classes)
        return cls(zero, zero, of_classes, of_classes, jnp.array(-1, jnp.int32))

    def cleared(self) -> EpochSums:
        """Those of the epoch after this one."""
        return dataclasses.replace(self.nothing(len(self.correct)), bad_step=self.bad_step)


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; what a checkpoint holds and a resume restores, in the midst of an epoch too.

    `opt_state` has one optimiser state per phase of the plan, of the parameters that begin to learn in it. `average`
    is the moving average of params and batch_stats, empty where none is kept. A state that `is_stopped` no longer
    changes: its member waits for those that train at the same time. `batch` counts the batches of the epoch that are
    behind it, `sums` what they came to.
    """

    step: Int[Array, ""]
    epoch: Int[Array, ""]
    batch: Int[Array, ""]
    sums: EpochSums
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    plateau: PyTree
    average: PyTree
    best: Best
    stale_evaluations: Int[Array, ""]
    is_stopped: Bool[Array, ""]


def select(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """One tree or the other, leaf by leaf."""
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)
