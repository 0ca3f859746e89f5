"""The compiled functions of an engine: batches of an epoch, the loop over some of them, evaluation, judgement.

The loop takes as many batches as it is told to, in one program: it is compiled once, for whole epochs as for parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from fpclass.common.parallel import put
from fpclass.config import Config
from fpclass.models.network import Network
from fpclass.train.engine import Engine, Epoch, TrainPart
from fpclass.train.finetune import Plan, make_plan
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.inputs import feature_inputs, image_inputs, spread
from fpclass.train.keys import ORDER, PARAMS, address
from fpclass.train.memory import check_fits
from fpclass.train.optim import make_optimizer, make_plateau
from fpclass.train.predict import Predict, make_predict, scores_of
from fpclass.train.state import PADDING, Best, Dataset, EpochSums, Inputs, Member, TrainState, select
from fpclass.train.step import TrainStep, make_train_step

NUM_STEM_IMAGES = 5000
"""Training images that a first kernel is made of, where it is not drawn."""


def epoch_batches(member: Member, epoch: Int[Array, ""], batch_size: int) -> Int[Array, "steps B"]:
    """Shuffles the training rows of an epoch into batches; `PADDING` comes last.

    Every row draws its own number, so a row's place relative to another does not depend on who else is there.
    """
    rows = member.train_rows
    key = address(member.seed, ORDER, epoch)
    draws = jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row)))(rows)
    _, _, rows = lax.sort((rows == PADDING, draws, rows), num_keys=2)
    return jnp.pad(rows, (0, -len(rows) % batch_size), constant_values=PADDING).reshape(-1, batch_size)


Judge = Callable[[TrainState, Member, Array, dict[str, Array]], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Functions:
    """What an engine is put together from, not compiled: `init`, a step for every phase of the plan, and `predict`."""

    init: Callable[[Member, Dataset], TrainState]
    train_steps: tuple[TrainStep, ...]
    predict: Predict
    plan: Plan


def make_engine(model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0) -> Engine:
    """Compiles the engine of images on the device; arguments as `make_functions` takes them."""
    functions = make_functions(model, config, batch_mesh, num_cached=num_cached)
    return Engine(
        init=jax.jit(functions.init),
        train_parts=compile_train_parts(functions, config),
        evaluate_epoch=jax.jit(make_evaluate_epoch(functions.predict, make_judge(config), config)),
        predict=jax.jit(functions.predict),
        batch_size=config.train.batch_size,
        plan=functions.plan,
        mesh=batch_mesh,
        hyper=put(Hyperparameters.of(config), batch_mesh),
    )


def make_functions(
    model: nn.Module, config: Config, batch_mesh: Mesh | None = None, *, num_cached: int = 0
) -> Functions:
    """Makes the functions of an engine that know nothing of epochs.

    Args:
      model: the network; or its part behind cached features.
      batch_mesh: devices that share every batch, a mesh with the one axis "batch"; None: one device.
      num_cached: leading stages of the whole network whose features are the data set; 0: it has images.

    Raises:
      ConfigError: values of `optim` or `finetune` that do not fit the network or each other.
    """
    plan = make_plan(model, config, num_cached)
    inputs = spread(feature_inputs() if num_cached else image_inputs(config), batch_mesh)
    return Functions(
        init=make_init(model, config, inputs, plan),
        train_steps=tuple(make_train_step(model, config, inputs, plan, phase) for phase in range(plan.num_phases)),
        predict=make_predict(model, config, inputs),
        plan=plan,
    )


def make_init(model: nn.Module, config: Config, inputs: Inputs, plan: Plan) -> Callable[[Member, Dataset], TrainState]:
    """Makes `Engine.init`: random weights by the member's seed, under those that are pretrained."""
    optimizer, plateau = make_optimizer(config.optim), make_plateau(config.optim)

    def copied(tree: PyTree) -> PyTree:  # donated buffers must not appear twice
        return jax.tree.map(jnp.copy, tree)

    def init(member: Member, dataset: Dataset) -> TrainState:
        example = jnp.zeros((1, *inputs.shape(dataset)), jnp.float32)
        variables = model.init(address(member.seed, PARAMS), example, train=False)
        flat: dict[str, Any] = {kind: flatten_dict(variables.get(kind, {})) for kind in ("params", "batch_stats")}
        if isinstance(model, Network) and model.stem_of_images:
            flat["params"][model.stem_kernel] = model.stem_of_images(inputs.plain(dataset.images, stem_rows(member)))
        for kind, tree in dataset.pretrained.items():
            flat[kind] |= flatten_dict(tree)
        params, batch_stats = unflatten_dict(flat["params"]), unflatten_dict(flat["batch_stats"])
        zero, infinite = jnp.zeros((), jnp.int32), jnp.array(jnp.inf, jnp.float32)
        state = TrainState(
            step=zero,
            epoch=zero,
            batch=zero,
            sums=EpochSums.nothing(len(member.class_weights)),
            params=copied(params),
            batch_stats=copied(batch_stats),
            opt_state=tuple(optimizer.init(group) for group in plan.groups(params)),
            plateau=plateau.init(params),
            average=copied((params, batch_stats)) if config.train.ema_decay else (),
            best=Best(copied(params), copied(batch_stats), -infinite, infinite, zero),
            stale_evaluations=zero,
            # A member without rows only fills up the devices: it has stopped before it began.
            is_stopped=jnp.all(member.train_rows == PADDING),
        )
        check_fits(state)  # while this is traced, before anything is allocated
        return state

    return init


def stem_rows(member: Member) -> Int[Array, " n"]:
    """The training rows whose images the first kernel is made of, where it is: drawn, and again if there are fewer.

    Always as many, so that they do not depend on the padding of a member's rows.
    """
    drawn = epoch_batches(member, jnp.zeros((), jnp.int32), 1)[:, 0]
    return drawn[jnp.arange(NUM_STEM_IMAGES) % jnp.sum(drawn != PADDING)]


def compile_train_parts(functions: Functions, config: Config) -> tuple[TrainPart, ...]:
    """`Engine.train_parts`, compiled when they are first called."""
    return tuple(jax.jit(make_train_part(step, config), donate_argnums=0) for step in functions.train_steps)


def make_train_part(train_step: TrainStep, config: Config) -> TrainPart:
    """Makes one of `Engine.train_parts`: a loop over batches `start` to `stop` of the epoch that the state is in."""

    def train_part(
        state: TrainState, member: Member, dataset: Dataset, hyper: Hyperparameters,
        start: Int[Array, ""], stop: Int[Array, ""],
    ) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
        batches = epoch_batches(member, state.epoch, config.train.batch_size)

        def one_batch(i: Int[Array, ""], state: TrainState) -> TrainState:
            state, of_step = train_step(state, member, dataset, hyper, batches[i])
            return dataclasses.replace(state, batch=i + 1, sums=add_step(state.sums, of_step, i))

        def train(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            state = lax.fori_loop(start, stop, one_batch, state)
            is_whole = state.batch == len(batches)
            is_bad = is_whole & (state.sums.bad_step >= 0)
            after = dataclasses.replace(
                state,
                epoch=state.epoch + is_whole,
                batch=jnp.where(is_whole, 0, state.batch),
                sums=select(is_whole, state.sums.cleared(), state.sums),
                is_stopped=is_bad,
            )
            return after, epoch_record(state.sums, after)

        def wait(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            return state, epoch_record(state.sums.cleared(), state)

        return lax.cond(state.is_stopped, wait, train, state)

    return train_part


def add_step(sums: EpochSums, of_step: dict[str, Array], i: Int[Array, ""]) -> EpochSums:
    """The sums after step `i` of the epoch, whose loss, weight, correct and predicted `train_step` gives."""
    is_bad = ~jnp.isfinite(of_step["loss"]) & (sums.bad_step < 0)
    return EpochSums(
        loss=sums.loss + of_step["loss"] * of_step["weight"],
        weight=sums.weight + of_step["weight"],
        correct=sums.correct + of_step["correct"],
        predicted=sums.predicted + of_step["predicted"],
        bad_step=jnp.where(is_bad, i, sums.bad_step).astype(jnp.int32),
    )


def epoch_record(sums: EpochSums, after: TrainState) -> dict[str, Array]:
    """Record of an epoch, and of the state after it; precision: mean over classes, 0 for one never predicted.

    Without examples all three are nan.
    """
    num_examples = jnp.sum(sums.predicted)
    precision = jnp.mean(sums.correct / jnp.maximum(sums.predicted, 1))
    return {
        "loss": sums.loss / sums.weight,
        "accuracy": jnp.sum(sums.correct) / num_examples,
        "precision": jnp.where(num_examples > 0, precision, jnp.nan),
        "bad_step": sums.bad_step,
        "epoch": after.epoch,
        "is_stopped": after.is_stopped,
    }


def judged_rows(member: Member) -> dict[str, Int[Array, " n"]]:
    """The rows that an evaluation looks at, by their role."""
    rows = {"validation": member.validation_rows, "selection": member.selection_rows}
    return {role: of_role for role, of_role in rows.items() if len(of_role)}


def judged_weights(state: TrainState, config: Config) -> tuple[PyTree, PyTree]:
    """The params and batch_stats that an evaluation looks at."""
    return state.average if config.train.ema_decay else (state.params, state.batch_stats)


def make_evaluate_epoch(predict: Predict, judge: Judge, config: Config) -> Epoch:
    """Makes `Engine.evaluate_epoch`: predicts what is judged, and judges it."""

    def evaluate_epoch(state: TrainState, member: Member, dataset: Dataset) -> tuple[TrainState, dict[str, Array]]:
        weights = judged_weights(state, config)
        logits = {role: predict(*weights, dataset.images, rows) for role, rows in judged_rows(member).items()}
        return judge(state, member, dataset.labels, logits)

    return evaluate_epoch


def make_judge(config: Config) -> Judge:
    """Makes `judge(state, member, labels, logits by role)`: scores, the best weights, the plateau, the early stop."""
    train_config, plateau = config.train, make_plateau(config.optim)

    def judge(
        state: TrainState, member: Member, labels: Int[Array, " N"], logits: dict[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        params, batch_stats = judged_weights(state, config)
        record = {}
        for role, rows in judged_rows(member).items():
            scores = scores_of(logits[role], labels[rows], rows != PADDING)
            record |= {f"{role}_{name}": value for name, value in scores.items()}
        score, loss, is_higher, is_better = jnp.array(jnp.nan), jnp.array(jnp.nan), jnp.array(True), jnp.array(True)
        if train_config.early_stopping != "none":
            score = record[f"selection_{train_config.selection_metric}"]
            score = -score if train_config.selection_metric == "loss" else score
            loss, is_higher = record["selection_loss"], score > state.best.score
            is_better = is_higher | ((score == state.best.score) & (loss < state.best.loss))
        best = select(is_better, Best(params, batch_stats, score, loss, state.epoch), state.best)
        stale = jnp.where(is_higher, 0, state.stale_evaluations + 1)  # patience is for the metric
        lr_plateau = state.plateau
        if config.optim.schedule == "plateau":
            _, lr_plateau = plateau.update({}, state.plateau, value=record["selection_loss"])
        is_stopped = (train_config.early_stopping == "patience") & (stale >= train_config.patience)
        evaluated = dataclasses.replace(
            state, best=best, stale_evaluations=stale, plateau=lr_plateau, is_stopped=is_stopped
        )
        judged = select(state.is_stopped, state, evaluated)
        return judged, record | {"is_stopped": judged.is_stopped}

    return judge
