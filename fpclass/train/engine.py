"""The engine of a config: its interface, the parts that an epoch is divided into, and the loop over epochs.

`device_engine` makes one for images on the devices, `stream_engine` for images on disk; `members.MemberEngine` trains
several members at the same time. `placement` decides.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from fpclass.common.parallel import agree, fetch, fetch_record, put
from fpclass.config import Config
from fpclass.train.finetune import Plan
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.predict import Predict
from fpclass.train.state import Dataset, Member, TrainState

Epoch = Callable[[TrainState, Member, Dataset], tuple[TrainState, dict[str, Array]]]
TrainPart = Callable[[TrainState, Member, Dataset, Hyperparameters, Any, Any], tuple[TrainState, dict[str, Array]]]
PART_SECONDS = 2.0
"""A device is given work for about so long at once, and once more ahead: so long one waits for a stop, or a sign of
life."""
OF_STATE = ("epoch", "bad_step", "is_stopped")
"""What a record says of the state that an epoch ends with."""


class Pace:
    """How many batches a device is given at once: about as many as take `PART_SECONDS`, by how long others took.

    The first call compiles, so that it is one batch and tells nothing.
    """

    def __init__(self) -> None:
        self._seconds_per_batch: float | None = None
        self._has_begun = False

    @property
    def num_batches(self) -> int:
        """Of the next part, at most."""
        seconds = self._seconds_per_batch
        return max(1, int(PART_SECONDS / max(seconds, 1e-9))) if seconds else 1

    def took(self, num_batches: int, seconds: float) -> None:
        """Learns from a part."""
        if self._has_begun:  # the processes of a job must go on in step
            self._seconds_per_batch = float(agree(np.array(seconds / num_batches)))
        self._has_begun = True


@dataclasses.dataclass(frozen=True)
class Engine:
    """The compiled functions of one config, and the devices they run on. `members.MemberEngine` has them for many.

    Attributes:
      init: (member, dataset) -> TrainState.
      train_parts: for every phase of the plan, (state, member, dataset, hyper, start, stop) -> (state, record): trains
        on the batches `start` to `stop` of the epoch that the state is in. The record is of the epoch so far: loss,
        accuracy, precision, nan for a member that has stopped; bad_step, where its loss was not finite first, or -1;
        and epoch and is_stopped of the state. A member with a bad step stops at the end of that epoch.
      evaluate_epoch: (state, member, dataset) -> (state, record): scores of the selection and validation rows, and
        is_stopped; keeps the best weights and decides about stopping.
      predict: from `make_predict`.
      batch_size: examples per optimiser step.
      mesh: devices that share every batch; None: one device.
      hyper: of the config, on these devices; all else is the same for every config of its structure.
      is_batched: whether several members take part in the same program step (`vmap`).
      num_ahead: parts of an epoch that a device is given before the last one has ended.
    """

    init: Callable[[Member, Dataset], TrainState]
    train_parts: tuple[TrainPart, ...]
    evaluate_epoch: Epoch
    predict: Predict
    batch_size: int
    plan: Plan
    mesh: Mesh | None
    hyper: Hyperparameters
    is_batched: bool = False
    num_ahead: int = 0

    def of_config(self, config: Config) -> Self:
        """The engine of another config of the same structure, by the same compiled programs."""
        return dataclasses.replace(self, hyper=put(Hyperparameters.of(config), self.mesh))

    def num_batches(self, member: Member) -> int:
        """Batches of an epoch; of several members together the most that one has."""
        return -(-member.train_rows.shape[-1] // self.batch_size)

    def parts(
        self, state: TrainState, member: Member, dataset: Dataset, start: int, pace: Pace | None
    ) -> Iterator[tuple[int, Dataset]]:
        """Divides an epoch from batch `start` on: where each part ends, and the data set to take it from."""
        del state
        stop, last = start, self.num_batches(member)
        while stop < last:
            stop = min(stop + pace.num_batches, last) if pace else last
            yield stop, dataset

    def train_epoch(
        self,
        state: TrainState,
        member: Member,
        dataset: Dataset,
        *,
        phase: int = 0,
        start: int = 0,
        pace: Pace | None = None,
        after_part: Callable[[TrainState], bool] = lambda _: True,
    ) -> tuple[TrainState, dict[str, Array] | None]:
        """Trains an epoch, from batch `start` on.

        Args:
          pace: how much of it the device is given at once; None: all of it.
          after_part: given the state in the midst of the epoch; False stops there.

        Returns:
          The state and the record of the epoch; None if it is not at its end.
        """
        records: list[dict[str, Array]] = []
        num_batches = self.num_batches(member)
        for stop, part in self.parts(state, member, dataset, start, pace):
            if stop < num_batches and not records:
                jax.block_until_ready(state)  # the epoch before, whose time is not that of this part
            began = time.perf_counter()
            state, record = self.train_parts[phase](state, member, part, self.hyper, np.int32(start), np.int32(stop))
            records = [*records[-1:], record]
            if stop < num_batches:
                jax.block_until_ready(records[: len(records) - self.num_ahead][-1:])
                if pace:
                    pace.took(stop - start, time.perf_counter() - began)
                if not after_part(state):
                    return state, None
            start = stop
        return state, records[-1]

    def put_members(self, members: Sequence[Member]) -> Member:
        """Puts the members that train at the same time onto the devices."""
        (member,) = members
        return put(member, self.mesh)

    def split(self, tree: PyTree, num_members: int) -> list[PyTree]:
        """The parts of the members in a state or in a record on the host."""
        assert num_members == 1
        return [tree]

    def join(self, of_each: Sequence[PyTree]) -> PyTree:
        """What `split` took apart."""
        (tree,) = of_each
        return tree

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
    on_epoch: Callable[[dict[str, Any]], None],
    after_part: Callable[[Callable[[], TrainState]], bool] = lambda _: True,
) -> TrainState:
    """Trains from where `state` stands to the last epoch, an early stop, or until it is told to stop.

    A device has its next epoch before the record of the last one is looked at. Of an early stop that record tells; the
    epoch that was begun meanwhile changes nothing, since a state that is stopped stays as it is.

    With a `MemberEngine` state, member and records have one more axis in front.

    Args:
      state: fresh, or restored from a checkpoint, which may be of the midst of an epoch.
      dataset: on the device.
      train_config: the section `train` of the config.
      on_epoch: gets the record of each epoch (NumPy scalars).
      after_part: called between epochs, and in the midst of a long one; False stops there. What it is given returns the
        state, once `on_epoch` has the records of all that is behind it.
    """
    every, num_epochs = train_config.eval_every_epochs, train_config.num_epochs
    epoch, is_stopped, start = epochs_passed(state), have_all_stopped(state), batches_passed(state)
    paces = [Pace() for _ in engine.train_parts]
    waiting: dict[str, Array] | None = None

    def hand_over() -> bool:
        """Hands over the record that waits; whether all have stopped."""
        nonlocal waiting
        record, waiting = fetch_record(waiting), None
        if record is not None:
            on_epoch(record)
        return record is not None and bool(np.all(record["is_stopped"]))

    def go_on(state: TrainState) -> bool:
        def settled() -> TrainState:
            nonlocal is_stopped
            is_stopped |= hand_over()
            return state

        return after_part(settled)

    def go_on_in_epoch(state: TrainState) -> bool:
        nonlocal is_stopped
        is_stopped |= hand_over()
        return go_on(state)

    while epoch < num_epochs and not is_stopped:
        phase = engine.plan.phase_at(epoch)
        state, record = engine.train_epoch(
            state, member, dataset, phase=phase, start=start, pace=paces[phase], after_part=go_on_in_epoch
        )
        if record is None:
            break
        start, epoch = 0, epoch + 1
        of_epoch = {key: record.pop(key) for key in OF_STATE} | {f"train_{key}": x for key, x in record.items()}
        if epoch == 1 or epoch % every == 0 or epoch == num_epochs:
            state, scores = engine.evaluate_epoch(state, member, dataset)
            of_epoch |= scores
        is_stopped |= hand_over()
        if is_stopped:  # before the epoch at hand, which was none
            break
        waiting = of_epoch
        if epoch < num_epochs and not go_on(state):
            break
    hand_over()
    return state


def epochs_passed(state: TrainState) -> int:
    """Epochs that a member has behind it, or of several the one that ran longest."""
    return int(np.max(fetch(state.epoch)))


def batches_passed(state: TrainState) -> int:
    """Batches of the epoch it is in that a member has behind it; of several those of all that have not stopped."""
    return int(np.max(fetch(state.batch)))


def have_all_stopped(state: TrainState) -> bool:
    """Whether a member, or every one of several, has stopped early."""
    return bool(np.all(fetch(state.is_stopped)))
