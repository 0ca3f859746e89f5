"""The engine of a config: its interface, and the loop over epochs that calls it.

Two modules make one: `device_engine`, whose loops over batches are compiled, and `host_engine`, whose loops run on the
host; `placement` decides. `members.MemberEngine` trains several members at the same time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from fpclass.config import Config
from fpclass.parallel import agree, fetch, put
from fpclass.train.finetune import Plan
from fpclass.train.predict import Predict
from fpclass.train.state import Dataset, Member, TrainState

Epoch = Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Engine:
    """The pure functions of one config, and the devices they run on. `members.MemberEngine` has them for many members.

    Attributes:
      init: (member, dataset) -> TrainState.
      train_epochs: for every phase of the plan, (state, member, dataset) -> (state, record): record has loss,
        accuracy, precision and step_loss [steps], all nan for a member that has stopped.
      evaluate_epoch: (state, member, dataset) -> (state, record): scores of the selection and validation rows; keeps
        the best weights and decides about stopping.
      predict: from `make_predict`.
      batch_size: examples per optimiser step.
      mesh: devices that share every batch; None: one device.
      is_batched: whether several members take part in the same program step (`vmap`).
    """

    init: Callable[[Member, Dataset], TrainState]
    train_epochs: tuple[Epoch, ...]
    evaluate_epoch: Epoch
    predict: Predict
    batch_size: int
    plan: Plan
    mesh: Mesh | None
    is_batched: bool = False

    @property
    def train_epoch(self) -> Epoch:
        """That of the first phase, and of the only one where nothing is unfrozen on the way."""
        return self.train_epochs[0]

    def put_members(self, members: Sequence[Member]) -> Member:
        """Puts the members that train at the same time onto the devices."""
        (member,) = members
        return put(member, self.mesh)

    def split(self, tree: PyTree, num_members: int) -> list[PyTree]:
        """The parts of the members in a state or in a record on the host."""
        assert num_members == 1
        return [tree]

    def to_host(self, state: TrainState, num_members: int) -> TrainState:
        """What a checkpoint of these members holds."""
        del num_members
        return fetch(state)

    def to_devices(self, restored: TrainState, fresh: TrainState) -> TrainState:
        """The state to go on from: `restored` is what `to_host` gave, `fresh` what `init` gives for these members."""
        del fresh
        return put(jax.tree.map(agree, restored), self.mesh)


def fit(
    engine: Engine,
    state: TrainState,
    member: Member,
    dataset: Dataset,
    train_config: Config,
    on_epoch: Callable[[TrainState, dict[str, Any]], bool],
) -> TrainState:
    """Trains from where `state` stands to the last epoch, an early stop, or until `on_epoch` returns False.

    With a `MemberEngine` state, member and records have one more axis in front.

    Args:
      state: fresh, or restored from a checkpoint.
      dataset: on the device.
      train_config: the section `train` of the config.
      on_epoch: gets the state and the record of each epoch (NumPy scalars; step_loss [steps]).
    """
    every, num_epochs = train_config.eval_every_epochs, train_config.num_epochs
    epoch, is_stopped = epochs_passed(state), have_all_stopped(state)
    while epoch < num_epochs and not is_stopped:
        state, record = engine.train_epochs[engine.plan.phase_at(epoch)](state, member, dataset)
        epoch += 1
        record = {"epoch": epoch} | {f"train_{k}" if k != "step_loss" else k: v for k, v in record.items()}
        if epoch == 1 or epoch % every == 0 or epoch == num_epochs:
            state, scores = engine.evaluate_epoch(state, member, dataset)
            record |= scores
            is_stopped = have_all_stopped(state)
        if not on_epoch(state, fetch(record)):
            break
    return state


def epochs_passed(state: TrainState) -> int:
    """Epochs that a member has behind it, or of several the one that ran longest."""
    return int(np.max(fetch(state.epoch)))


def have_all_stopped(state: TrainState) -> bool:
    """Whether a member, or every one of several, has stopped early."""
    return bool(np.all(fetch(state.is_stopped)))
