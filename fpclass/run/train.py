"""One training with everything around it: resume, checkpoints, log, and what a person sees meanwhile."""

from __future__ import annotations

import contextlib
import math
import time
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fpclass.config import Config
from fpclass.console import Interruption, is_terminal, say
from fpclass.data.splits import SELECTION, TRAIN, VALIDATION
from fpclass.errors import DataError, TrainingError
from fpclass.experiment import needs_selection
from fpclass.parallel import agree, batch_mesh, fetch, is_first_process, put
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, check_same_start
from fpclass.train.engine import Engine, epoch_batches, epochs_passed, fit, have_all_stopped
from fpclass.train.host_engine import describe_stream, engine_for, is_streamed, put_dataset
from fpclass.train.state import Member, TrainState
from fpclass.train.task import Task, make_task

FOLD_STRIDE = 0x9E3779B1
"""Odd, and far from small numbers: seeds of different folds do not meet."""


def make_member(config: Config, prepared: Prepared) -> Member:
    """The member that a config and its split describe: its seed and its rows, on the host.

    Raises:
      DataError: no images where some are needed.
    """
    splits, labels = prepared.splits, prepared.table.labels
    train, validation = splits.rows(TRAIN), splits.rows(VALIDATION)
    selection = splits.rows(SELECTION) if config.split.selection == "inner" else validation
    selection = selection if needs_selection(config) else selection[:0]
    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataError(f"no images left for {name}: see audit.json for what is in quarantine, and config.split")
    weights = np.ones(prepared.table.num_classes, np.float32)
    if config.train.class_weights == "balanced":
        weights = balanced_class_weights(labels[train], prepared.table.num_classes)
    # Folds of one seed share nothing, so that what chance does to one of them tells of chance in general.
    seed = (config.seed + FOLD_STRIDE * max(config.split.fold, 0)) % 2**32
    on_host: Any = (np.uint32(seed), train, selection, validation, weights)
    return Member(*on_host)


def balanced_class_weights(labels: Int[np.ndarray, " n"], num_classes: int) -> Float[np.ndarray, " K"]:
    """Weights n / (K n_k), so that every class weighs the same in the loss, float32 [K]."""
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * np.maximum(counts, 1))).astype(np.float32)


def train(run: Run, prepared: Prepared, interruption: Interruption) -> bool:
    """Trains from the last checkpoint of the run folder, or from the start, and keeps `last` and `best`.

    Args:
      run: the run folder.
      prepared: its data.
      interruption: asked after every epoch.

    Returns:
      Whether training came to its end; False if it was interrupted (the same command goes on from there).

    Raises:
      RunError: the data have changed since the folder was begun, or it cannot be written to.
      TrainingError: the loss is not finite.
    """
    from fpclass.train import checkpoints

    config = run.config
    check_same_start(run, prepared)
    mesh = batch_mesh(config.train.num_devices)
    task = make_task(config, prepared)
    member, dataset = put(make_member(config, prepared), mesh), put_dataset(task.dataset, mesh)
    engine = engine_for(dataset.images, task.model, config, mesh, num_cached=task.num_cached)
    last, best = run.path("checkpoints/last"), run.path("checkpoints/best")
    state = engine.init(member, dataset)
    start = int(agree(np.array(checkpoints.latest_epoch(last) or 0)))
    if start:
        host = fetch(state)
        if is_first_process():
            host = jax.device_get(checkpoints.restore(last, host))
        state = put(jax.tree.map(agree, host), mesh)
    run.truncate_history(start)
    say(describe_network(config, task, state, engine))
    if is_streamed(dataset):
        say(describe_stream(dataset))
    if start:
        say(f"going on after epoch {start} of {config.train.num_epochs}")

    def save(state: TrainState) -> None:
        state = fetch(state)
        if not is_first_process():
            return
        weights = task.whole({"params": state.best.params, "batch_stats": state.best.batch_stats})
        checkpoints.save(best, int(state.best.epoch), weights)
        checkpoints.save(last, epochs_passed(state), state)

    with contextlib.ExitStack() as stack:
        reporter = stack.enter_context(Reporter(run, config.train.num_epochs))

        def on_epoch(state: TrainState, record: dict[str, Any]) -> bool:
            _check_finite(record, run, prepared, engine, member)
            reporter(log_record(record))
            if record["epoch"] % config.train.checkpoint_every_epochs == 0:
                save(state)
            return not agree(np.array(bool(interruption.signal_number)), any_process=True)

        state = fit(engine, state, member, dataset, config.train, on_epoch)
    save(state)
    epoch, is_stopped = epochs_passed(state), have_all_stopped(state)
    if is_stopped:
        say(f"stopped after epoch {epoch}: {config.train.patience} evaluations without improvement")
    return epoch == config.train.num_epochs or is_stopped


def describe_network(config: Config, task: Task, state: TrainState, engine: Engine) -> str:
    """One line about what is trained: its size, where its weights come from, how much of it learns."""
    whole = task.whole({"params": state.params})
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(whole))
    learning = [sum(leaf.size for leaf in group.values()) for group in engine.plan.groups(state.params)]
    origin = f"weights {config.model.weights}" if config.model.weights else "not pretrained"
    share = (
        ""
        if sum(learning) == num_parameters
        else f", {', then '.join(f'{n:,}' for n in accumulate(learning))} of them learn"
    )
    kind = jax.devices()[0].device_kind
    return f"model: {config.model.name}, {num_parameters:,} parameters{share}, {origin}; {kind}"


class Reporter:
    """Writes `log.jsonl` and TensorBoard events, and tells a person how training goes."""

    def __init__(self, run: Run, num_epochs: int):
        self._run = run
        self._num_epochs = num_epochs
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Reporter:
        from tensorboardX import SummaryWriter
        from tqdm import tqdm

        self._events = self._stack.enter_context(SummaryWriter(str(self._run.path("tensorboard"))))
        done = sum(1 for _ in self._run.history())
        self._bar = self._stack.enter_context(
            tqdm(total=self._num_epochs, initial=done, desc="train", unit="epoch", disable=not is_terminal())
        )
        self._clock = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, record: dict[str, Any]) -> None:
        """Reports one epoch."""
        epoch = record["epoch"]
        now = time.perf_counter()
        self._run.append_history(record | {"seconds": round(now - self._clock, 3)})
        self._clock = now
        scores = {key: math.nan if value is None else value for key, value in record.items() if key != "epoch"}
        for key, value in scores.items():
            self._events.add_scalar(key.replace("_", "/", 1), value, epoch)
        shown = {
            "loss": scores["train_loss"],
            "selection": scores.get("selection_accuracy"),
            "validation": scores.get("validation_accuracy"),
        }
        text = "  ".join(f"{key} {value:.3f}" for key, value in shown.items() if value is not None)
        self._bar.update()
        self._bar.set_postfix_str(text, refresh=False)
        if self._bar.disable and "validation_accuracy" in scores:
            say(f"epoch {epoch:>3}/{self._num_epochs}  {text}")


def log_record(record: dict[str, Any]) -> dict[str, Any]:
    """A line of `log.jsonl` from the record of an epoch: plain numbers, None where undefined."""
    scores = {key: float(value) for key, value in record.items() if key not in ("epoch", "step_loss")}
    return {"epoch": int(record["epoch"])} | {k: value if math.isfinite(value) else None for k, value in scores.items()}


def first_bad_batch(record: dict[str, Any], prepared: Prepared, member: Member, batch_size: int) -> str:
    """Where the loss first was not a number in an epoch, with the files of that batch; "" if it always was one."""
    bad = np.flatnonzero(~np.isfinite(record["step_loss"]))
    if not len(bad):
        return ""
    step, epoch = int(bad[0]), int(record["epoch"])
    rows = np.asarray(epoch_batches(member, jnp.asarray(epoch - 1), batch_size)[step])
    names = prepared.table.rows["filename"].to_numpy()[rows[rows >= 0]]
    loss = record["step_loss"][step]
    return f"loss is {loss} in epoch {epoch}, step {step + 1} (batch: {', '.join(names[:4])}, …)"


def _check_finite(record: dict[str, Any], run: Run, prepared: Prepared, engine: Engine, member: Member) -> None:
    """Stops when a step's loss was not a number, naming the files of that step's batch."""
    from fpclass.train import checkpoints

    where = first_bad_batch(record, prepared, member, engine.batch_size)
    if not where:
        return
    good = checkpoints.latest_epoch(run.path("checkpoints/last"))
    kept = f"the last good checkpoint is epoch {good}" if good else "there is no checkpoint yet"
    advice = "lower optim.learning_rate or set optim.gradient_clip_norm, in a new --workdir"
    raise TrainingError(f"{where}; {kept} in {run.folder}; {advice}")
