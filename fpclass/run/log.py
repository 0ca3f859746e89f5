"""The log of a training: lines of `log.jsonl`, TensorBoard events, and what a person sees meanwhile."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fpclass.common.console import SILENT_SECONDS, duration, is_watched, make_bar, say, whisper
from fpclass.data.table import Table
from fpclass.run.folder import Run
from fpclass.train.device_engine import epoch_batches
from fpclass.train.engine import OF_STATE
from fpclass.train.state import Member


class Log(contextlib.ExitStack):
    """Writes the epochs of some trainings into their run folders, to be used as a context manager.

    What an epoch has to say is with the system before the next one is looked at: no kill costs it, and neither threads
    nor queues stand between, which took longer than a small network's epoch.
    """

    def __init__(self, runs: Sequence[Run]):
        super().__init__()
        with contextlib.ExitStack() as opened:  # closed again where not all of them can be
            self._histories = [opened.enter_context(run.appending_history()) for run in runs]
            self._events = [opened.enter_context(run.appending(_events_name())) for run in runs]
            self.push(opened.pop_all())
        for append in self._events:
            append(event(file_version="brain.Event:2"))

    def __call__(self, lines: dict[int, dict[str, Any]], seconds: float, *, is_batched: bool) -> None:
        """Writes an epoch: the lines of the trainings in it by position, from `log_record`, and the seconds of all.

        In a batched step trainings that have stopped cost what they did before; one after the other nothing.
        """
        share = round(seconds / (len(self._events) if is_batched else max(len(lines), 1)), 5)
        for position, line in lines.items():
            self._histories[position](line | {"seconds": share})
            scores = {
                key.replace("_", "/", 1): math.nan if value is None else value
                for key, value in line.items()
                if key != "epoch"
            }
            self._events[position](event(line["epoch"], scores))


def _events_name() -> str:
    """Name of a file of events in a run folder, by which TensorBoard knows it."""
    return f"tensorboard/events.out.tfevents.{int(time.time())}.{socket.gethostname()}"


def event(step: int = 0, scores: Mapping[str, float] | None = None, **fields: Any) -> bytes:
    """A TensorBoard event of now, as its files hold it: scores by their tags, or another kind by its field.

    Source: tensorboardX.record_writer.RecordWriter, which asks the disk for every flush.
    """
    from tensorboardX.proto import event_pb2, summary_pb2
    from tensorboardX.record_writer import masked_crc32c

    of_events, of_summaries = vars(event_pb2), vars(summary_pb2)  # made when they are imported
    if scores is not None:
        values = [{"tag": tag, "simple_value": value} for tag, value in scores.items()]
        fields["summary"] = of_summaries["Summary"](value=values)
    data = of_events["Event"](wall_time=time.time(), step=step, **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    check, check_of_data = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + check + data + check_of_data


class EpochBar(contextlib.AbstractContextManager["EpochBar"]):
    """A progress bar over the epochs of one training on a terminal, and lines elsewhere."""

    def __init__(self, num_epochs: int, done: int):
        self._num_epochs = num_epochs
        self._clock, self._silence = Clock(), Clock()
        self._text = ""
        self._warm: tuple[Clock, int] | None = None  # since the end of the first epoch, which compiles
        self._bar = make_bar(total=num_epochs, initial=done, desc="train", unit="epoch", disable=not is_watched())

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def within(self, epoch: int, share: float) -> None:
        """Shows how much of an epoch, the first is 1, is done."""
        if self._bar.disable:
            say_part(epoch, share)
        else:
            self._bar.set_postfix_str("  ".join(filter(None, (self._text, _of_epoch(epoch, share)))))

    def __call__(self, record: dict[str, Any]) -> None:
        """Shows one epoch; `record` as `log_record` gives it."""
        scores = {
            "train loss": record["train_loss"],
            "selection accuracy": record.get("selection_accuracy"),
            "validation accuracy": record.get("validation_accuracy"),
        }
        text = "  ".join(f"{key} {value:.3f}" for key, value in scores.items() if value is not None)
        self._text = text
        self._bar.update()
        self._warm = self._warm or (Clock(), record["epoch"])
        self._bar.set_postfix_str(text, refresh=False)
        if self._bar.disable and ("validation_accuracy" in record or self._silence.seconds() > SILENT_SECONDS):
            (clock, first), epoch = self._warm, record["epoch"]
            left = clock.seconds() * (self._num_epochs - epoch) / max(epoch - first, 1)
            rest = f", about {duration(left)} left" if first < epoch < self._num_epochs else ""
            say(f"epoch {epoch:>3}/{self._num_epochs}  {text}  {duration(self._clock.seconds())}{rest}")
            self._silence.restart()


def say_part(epoch: int, share: float) -> None:
    """Says on the standard error how much of a long epoch is done, where nobody watches a bar."""
    if not is_watched():
        whisper(_of_epoch(epoch, share))


def _of_epoch(epoch: int, share: float) -> str:
    return f"{100 * share:.0f} % of epoch {epoch}"


class Clock:
    """Seconds since it was made, or restarted."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._began

    def restart(self) -> float:
        """Seconds so far, which count anew from here."""
        seconds, self._began = self.seconds(), time.perf_counter()
        return seconds


def log_record(record: dict[str, Any]) -> dict[str, Any]:
    """A line of `log.jsonl` from the record of an epoch: plain numbers, None where undefined."""
    scores = {key: float(value) for key, value in record.items() if key not in OF_STATE}
    return {"epoch": int(record["epoch"])} | {k: value if math.isfinite(value) else None for k, value in scores.items()}


def files_of_batch(table: Table, member: Member, epoch: int, step: int, batch_size: int) -> str:
    """The files of the first images of a batch; epochs are counted from 1, steps from 0."""
    rows = np.asarray(epoch_batches(member, jnp.asarray(epoch - 1), batch_size)[step])
    return ", ".join(table.rows["filename"].to_numpy()[rows[rows >= 0]][:4])
