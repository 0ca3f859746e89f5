"""How long a study will take, before it starts: a batch of its costliest networks is timed, the rest is counted.

Counted are passes over images: a stage that learns costs three forward passes (forward, gradients of what comes in and
of the weights), a frozen one costs one, a cached one none but for the views that are computed once, where they are not
on disk and no other config computes them; pretraining without labels has epochs of its own. Left out are compiling,
augmentation, and what early stopping saves. Rough, and said to be: it tells minutes from days.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fpclass.common.console import duration
from fpclass.common.parallel import launch_each, member_mesh
from fpclass.common.threads import num_cores
from fpclass.config import Config
from fpclass.data.splits import TRAIN, VALIDATION, rows_without_label
from fpclass.experiment import is_trained
from fpclass.models.network import Network, split_variables, variable_shapes
from fpclass.models.parts import part_size
from fpclass.models.probe import widths
from fpclass.run.log import Clock
from fpclass.run.prepare import Prepared
from fpclass.study.quick import quick_share
from fpclass.study.study import Study
from fpclass.train.contrastive import CROP
from fpclass.train.finetune import Plan, compute_in, make_plan
from fpclass.train.inputs.feature_cache import KeptFeatures, features_dir, is_cached, num_cached_views, stages_of
from fpclass.train.predict import make_views
from fpclass.train.probes.features import pooled_stages
from fpclass.train.probes.fit import NUM_PARTS, judged_share
from fpclass.train.task import build_network, pretrained_variables

BACKWARD = 2.0
"""What differentiating a stage costs beside the forward pass, in forward passes."""
TIMED_FLOP = 5e10
"""Floating-point operations of the batch that is timed, about: a second on a few cores."""
LITTLE_FLOP = 3e11
"""Floating-point operations below which nothing is timed: half a minute or less on two cores, also where convolutions
are slow."""
LONG_SECONDS = 3600.0
"""From here on the longest configs are named."""
TIMING_SECONDS = 6.0
"""For so long networks are timed, the costliest first; others are taken to be as fast, by their operations."""
NUM_CALLS = 4
"""Of a program by every core, where it is timed what all of them do."""
LOOKING_SECONDS = 4.0
"""For so long features are looked for on disk; of other configs they are taken to be absent."""
FIT_FLOP = 3.5e4
"""Operations that fitting a probe takes for each number of its features, about: many trials of many steps, where all
parts of the inner cross-validation are judged."""
START_FLOP = 5e10
"""What beginning with a config takes beside them, compiling above all, in operations."""
QUICK_SECONDS = 600.0
"""From here on `--quick` is mentioned."""
NUM_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the members of a config cost, in forward passes of an image, of so many floating-point operations each.

    Attributes:
      once: passes for features, which all members share.
      training: passes of all members.
    """

    model: nn.Module
    num_members: int
    once: float
    training: float
    flop: float

    @property
    def operations(self) -> float:
        """All of it, in floating-point operations."""
        return (self.once + self.training) * self.flop


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Attributes:
      text: a line, two for a long study; "" where nothing is left to do.
      work: of each config, in a unit of its own.
    """

    text: str
    work: dict[str, float]


def estimate(study: Study, prepared: Prepared, names: Collection[str]) -> Estimate:
    """Estimates what the members of some configs, that are not trained yet, will take.

    The data are those of the baseline.
    """
    costs = costs_of(study, prepared, names)
    if not costs:
        return Estimate("", {})
    work = {name: cost.operations + START_FLOP for name, cost in costs.items()}
    num_members = sum(cost.num_members for cost in costs.values())
    epochs = ", all epochs" if any(is_trained(study.configs[name]) for name in costs) else ""
    of_what = f"{num_members} trainings of {len(costs)} configs{epochs}"
    if sum(cost.operations for cost in costs.values()) < LITTLE_FLOP:
        text = f"estimate: little to compute for {of_what}: compiling, tables and figures take most of the time"
        return Estimate(text, work)
    seconds = time_all(study, costs)
    total = sum(seconds.values())
    text = f"estimate: about {duration(total)} here for {of_what}, from a first measurement, compiling not counted"
    if total > QUICK_SECONDS and not study.is_quick:
        text += f"\n          --quick: about {duration(_quick(study, costs, seconds))}, for a first look"
    if total < LONG_SECONDS or len(seconds) == 1:
        return Estimate(text, work)
    longest = sorted(seconds, key=lambda name: -seconds[name])[:NUM_NAMED]
    listed = ", ".join(f"{name} {duration(seconds[name])}" for name in longest)
    text = f"{text}\n          the longest: {listed}; smaller images, fewer configs, folds or epochs take less"
    return Estimate(text, work)


def costs_of(study: Study, prepared: Prepared, names: Collection[str]) -> dict[str, Cost]:
    """What the members of some configs that are not trained yet come to.

    What cannot be built is left out: its training will say why.
    """
    costs: dict[str, Cost] = {}
    flop: dict[str, float] = {}
    shares: dict[str, dict[int, float]] = {}
    on_disk = OnDisk(prepared)
    for name in names:
        config = study.configs[name]
        num_members = sum(not member.is_done for member in study.members(name))
        with contextlib.suppress(Exception):  # whatever is wrong with a config, its training says it
            model = build_network(config, prepared.table.num_classes)
            key = network_key(config)
            flop[key] = flop.get(key) or count_flop(model, config)
            if is_trained(config):
                plan = make_plan(model, config)
                shares[key] = shares.get(key, {0: 0.0})
                shares[key] |= shares_of(model, config, {*plan.num_frozen} - shares[key].keys())
                of_people = config.split.train_share / study.configs[study.baseline].split.train_share
                once, training = count_passes(model, config, plan, shares[key], prepared, num_members, of_people)
            else:
                once, training = count_of_probe(model, config, prepared, num_members, flop[key])
            once *= on_disk.missing_share(model, config) if once else 0
            training += num_members * passes_of_pretraining(config, prepared)
            costs[name] = Cost(model, num_members, once, training, flop[key])
    return costs


def count_passes(
    model: nn.Module,
    config: Config,
    plan: Plan,
    shares: dict[int, float],
    prepared: Prepared,
    num_members: int,
    of_people: float = 1.0,
) -> tuple[float, float]:
    """Forward passes of an image through the whole network: for features, and for these members of a config.

    Args:
      shares: of a forward pass, by number of leading stages.
      of_people: share of the training images of the prepared data that these members learn from.
    """
    num_train, num_judged = (len(prepared.splits.rows(role)) for role in (TRAIN, VALIDATION))
    num_train *= of_people
    epochs, cached, once = config.train.num_epochs, 0.0, 0.0
    if isinstance(model, Network) and is_cached(model.prefix(plan.num_frozen[-1]), config, len(prepared.table)):
        cached = shares[plan.num_frozen[-1]]
        once = len(prepared.table) * (1 + num_cached_views(config)) * cached
    ends = [*plan.starts[1:], epochs]
    training = sum(
        (end - start) * (1 - cached + BACKWARD * (1 - shares[frozen]))
        for start, end, frozen in zip(plan.starts, ends, plan.num_frozen, strict=True)
    )
    evaluations = 1 + epochs / config.train.eval_every_epochs
    return once, num_members * (num_train * training + num_judged * evaluations * (1 - cached))


def count_of_probe(
    model: Any, config: Config, prepared: Prepared, num_members: int, flop: float
) -> tuple[float, float]:
    """The same of probes: random weights differ from member to member, and so do features."""
    num_features = 1 if config.model.weights else num_members
    train = prepared.splits.rows(TRAIN)
    num_train, num_groups = len(train), prepared.splits.frame["unit"].iloc[train].nunique()
    fitted = num_train * min(num_train, sum(widths(model)))  # they have at most as many features as there are images
    fitted *= (1 + NUM_PARTS * judged_share(num_groups)) / (1 + NUM_PARTS)
    return num_features * len(prepared.table) * len(make_views(config.predict)), num_members * FIT_FLOP * fitted / flop


def passes_of_pretraining(config: Config, prepared: Prepared) -> float:
    """What pretraining without labels costs a member: two views of an image are crops of it, and all stages learn."""
    num_images = len(prepared.splits.rows(TRAIN)) + len(rows_without_label(prepared.table))
    return config.unlabelled.pretrain_epochs * num_images * 2 * CROP**2 * (1 + BACKWARD)


class OnDisk:
    """Which features need not be computed: those that an earlier start, or another config, has kept."""

    def __init__(self, prepared: Prepared):
        self._prepared, self._known, self._clock = prepared, set[pathlib.Path](), Clock()

    def missing_share(self, model: Any, config: Config) -> float:
        """The share of the views of all images whose features this config has to compute."""
        table, images = self._prepared.table, self._prepared.images
        same_images = (*images.shape[1:],) == (*config.data.image_size, config.data.channels)
        if not (config.model.weights and same_images) or self._clock.seconds() > LOOKING_SECONDS:
            return 1.0
        variables = pretrained_variables(config, model)
        if is_trained(config):
            count = make_plan(model, config).num_frozen[-1]
            frozen, _ = split_variables(variables, model.stage_names[:count])
            stages = stages_of(model.prefix(count), frozen, images, table.labels.astype(np.int32), config)
            num_views = 1 + num_cached_views(config)
        else:
            stages, num_views = pooled_stages(images, model, variables, config), 1
        kept = KeptFeatures(features_dir(), stages)
        paths = {kept.path(view) for view in range(num_views)}
        missing = [path for path in paths - self._known if not path.is_file()]
        self._known |= paths
        return len(missing) / num_views


def _quick(study: Study, costs: Mapping[str, Cost], seconds: Mapping[str, float]) -> float:
    """Seconds of a quick look, in which features cost as much as in the whole study."""
    share = quick_share(study)
    parts = {name: cost.once / max(cost.once + cost.training, 1.0) for name, cost in costs.items()}
    return sum(seconds[name] * (part + (1 - part) * share) for name, part in parts.items())


def time_all(study: Study, costs: Mapping[str, Cost]) -> dict[str, float]:
    """Seconds that the members of each config take; every network is timed once, for `TIMING_SECONDS` at all.

    Features are computed by every core at once: what that brings is timed of one network.
    """
    keys = {name: network_key(study.configs[name]) for name in costs}
    timed: dict[str, float] = {}
    started, flop, of_features = time.perf_counter(), 0.0, 0.0
    for name, cost in sorted(costs.items(), key=lambda item: -item[1].operations):
        if keys[name] not in timed and time.perf_counter() - started < TIMING_SECONDS:
            timed[keys[name]] = time_forward(cost.model, study.configs[name], cost.flop)
            flop += cost.flop
        if cost.once and keys[name] in timed and not of_features:
            together = time_forward(cost.model, study.configs[name], cost.flop, NUM_CALLS * num_cores())
            of_features = together / timed[keys[name]]
    speed = flop / sum(timed.values())
    passes = {name: timed.get(keys[name], cost.flop / speed) for name, cost in costs.items()}
    return {
        name: (cost.once * (of_features or 1.0) + cost.training) * passes[name] / _num_devices()
        for name, cost in costs.items()
    }


def network_key(config: Config) -> str:
    """The same for configs whose forward pass is the same."""
    return repr((config.model.to_dict(), config.data.image_size, config.data.channels))


def time_forward(model: nn.Module, config: Config, flop: float, num_calls: int = 1) -> float:
    """Seconds of an image's forward pass of so many operations, with weights of zeros, compiled and warm.

    Args:
      num_calls: of the program, at the same time where cores can; several are of parts of a batch, as features are.
    """
    variables, shape = _zeros(model, config), (*config.data.image_size, config.data.channels)
    size = int(min(max(TIMED_FLOP / max(flop, 1.0), 1), config.train.batch_size))
    if num_calls > 1:
        size = part_size(size, (size, *shape), variables["params"])
    images = jnp.zeros((size, *shape), config.model.compute_dtype)
    apply = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    jax.block_until_ready(apply(variables, images))
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        jax.block_until_ready(list(launch_each(lambda _: apply(variables, images), num_calls)))
        best = min(best, time.perf_counter() - started)
        if best > 0.3:
            break
    return best / (size * num_calls)


def shares_of(model: nn.Module, config: Config, counts: Collection[int]) -> dict[int, float]:
    """The share of a forward pass that so many leading stages have, by their operations as XLA counts them."""
    if not isinstance(model, Network) or not counts:
        return dict.fromkeys(counts, 0.0)
    whole = count_flop(model, config)
    return {count: min(count_flop(model.prefix(count), config) / whole, 1.0) if count else 0.0 for count in counts}


def count_flop(model: nn.Module, config: Config) -> float:
    """Floating-point operations of an image's forward pass, as XLA counts them; nothing is compiled."""
    image = jax.ShapeDtypeStruct((1, *config.data.image_size, config.data.channels), config.model.compute_dtype)
    lowered = jax.jit(lambda variables, images: model.apply(variables, images, train=False)).lower(
        _shapes(model, config), image
    )
    analysis: Any = lowered.cost_analysis()
    return float((analysis[0] if isinstance(analysis, list) else analysis or {}).get("flops", 0.0))


def _shapes(model: nn.Module, config: Config) -> Any:
    shapes = variable_shapes(model, (*config.data.image_size, config.data.channels))
    kept = {kind: tree for kind, tree in shapes.items() if kind in ("params", "batch_stats")}
    return jax.eval_shape(lambda tree: compute_in(tree, config.model.compute_dtype), kept)


def _zeros(model: nn.Module, config: Config) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _shapes(model, config))


def _num_devices() -> int:
    """Accelerators work side by side; the timed batch had all the cores of a machine without one."""
    devices = member_mesh().devices
    return 1 if devices.flat[0].platform == "cpu" else devices.size
