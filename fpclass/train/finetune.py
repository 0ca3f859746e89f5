"""Freezing, gradual unfreezing and per-stage learning rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from fpclass.common.extension import bare
from fpclass.config import Config, base_config, flatten
from fpclass.errors import ConfigError
from fpclass.models.network import HEAD, Network, stages_before
from fpclass.models.probe import PROBE

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The phases of a training. In each of them so many leading stages are frozen, the later the fewer.

    Attributes:
      stages: in order; empty for a network that has none.
      starts: epoch (0 for the first) in which each phase begins.
      num_frozen: leading stages that are frozen in each phase.
      free: paths of parameters that learn from the start although their stage is frozen.
      fixed: paths of parameters that never learn.
      backbone_rate: learning rate of the last stage with weights, relative to that of the head.
      rate_decay: learning rate of a stage with weights, relative to that of the next one.
    """

    stages: tuple[str, ...] = ()
    starts: tuple[int, ...] = (0,)
    num_frozen: tuple[int, ...] = (0,)
    free: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()
    backbone_rate: float = 1.0
    rate_decay: float = 1.0

    @property
    def num_phases(self) -> int:
        """How many phases there are."""
        return len(self.starts)

    def phase_at(self, epoch: int) -> int:
        """The phase that an epoch (0 for the first) belongs to."""
        return max(phase for phase, start in enumerate(self.starts) if start <= epoch)

    def phase_of(self, path: Path) -> int | None:
        """The phase in which a parameter begins to learn; None if it never does."""
        if path in self.fixed:
            return None
        if path in self.free or path[0] not in self.stages:
            return 0
        position = self.stages.index(path[0])
        return next((phase for phase, frozen in enumerate(self.num_frozen) if position >= frozen), None)

    def rates(self, params: PyTree) -> dict[Path, float]:
        """Learning rate of every parameter, relative to that of the head."""
        depths = {name: depth for depth, name in enumerate(reversed([s for s in self.stages if s in params]))}
        return {
            path: self.backbone_rate * self.rate_decay ** depths[path[0]]
            if path[0] in depths and path not in self.free
            else 1.0
            for path in flatten_dict(params)
        }

    def groups(self, params: PyTree) -> list[dict[Path, Any]]:
        """The parameters that begin to learn in each phase, by path."""
        groups: list[dict[Path, Any]] = [{} for _ in self.starts]
        for path, leaf in flatten_dict(params).items():
            phase = self.phase_of(path)
            if phase is not None:
                groups[phase][path] = leaf
        return groups


def make_plan(model: nn.Module, config: Config, num_cached: int = 0) -> Plan:
    """Reads the section `finetune` of the config for a network.

    Args:
      model: the network, or what is left of it when the features of its first stages are cached.
      num_cached: leading stages of the whole network that are not part of `model`.

    Raises:
      ConfigError: a stage or a count that the network does not have, an order that is none, or a network without
        stages to freeze.
    """
    finetune = config.finetune
    if not isinstance(model, Network):
        _refuse_finetuning(config)
        return Plan()
    names = model.stage_names
    if config.model.head == PROBE and not finetune.from_probe:
        return Plan(names, num_frozen=(len(names),))
    stage, count = finetune.freeze_before, finetune.num_frozen
    if stage and count:
        raise ConfigError(f"finetune.freeze_before is {stage!r} and finetune.num_frozen is {count}: give one of them")
    if count > len(names) + num_cached:
        raise ConfigError(f"finetune.num_frozen is {count}: the network has {len(names)} stages: {', '.join(names)}")
    starts, frozen = [0], [max(0, count - num_cached)]
    if stage:
        frozen = [_frozen_before(names, stage, "finetune.freeze_before")]
    for name, epoch in finetune.unfreeze:
        starts.append(epoch)
        frozen.append(_frozen_before(names, name, "finetune.unfreeze"))
    if starts != sorted(set(starts)) or frozen != sorted(set(frozen), reverse=True):
        raise ConfigError(
            f"finetune.unfreeze is {finetune.unfreeze!r}: expected (stage, epoch) pairs with rising epochs from 1, "
            "each of a stage before that of the last pair, and the first of one before finetune.freeze_before"
        )
    free = (model.stem_kernel,) if finetune.new_stem else ()
    fixed = (model.stem_kernel,) if model.stem_of_images else ()
    return Plan(names, tuple(starts), tuple(frozen), free, fixed, finetune.backbone_rate, finetune.rate_decay)


def _refuse_finetuning(config: Config) -> None:
    """A key that nobody reads is an error."""
    given, defaults = flatten(config), flatten(base_config())
    for key in [*(key for key in given if key.startswith("finetune.")), "train.remat"]:
        if given[key] != defaults[key]:
            raise ConfigError(f"{key} is {given[key]!r}: model.name={bare(config.model.name)} has no stages")


def _frozen_before(names: tuple[str, ...], until: str, key: str) -> int:
    return len(names) if until == HEAD else stages_before([*names, HEAD], until, key)


def model_of_phase(model: nn.Module, config: Config, plan: Plan, phase: int) -> nn.Module:
    """The network as it is trained in a phase: its frozen stages, its batch norm, and what it keeps in memory."""
    if not isinstance(model, Network):
        return model
    return model.clone(num_frozen=plan.num_frozen[phase], batch_norm=batch_norm_mode(config), remat=config.train.remat)


def batch_norm_mode(config: Config) -> str:
    """What batch norm does in training: published statistics are kept, unless the config says otherwise."""
    mode = config.finetune.batch_norm
    return mode if mode != "auto" else "frozen_stats" if config.model.weights else "train"


def divide(params: PyTree, plan: Plan, phase: int) -> tuple[list[dict[Path, Any]], dict[Path, Any]]:
    """The parameters that learn in a phase, by the phase in which they began, and those that rest, by path."""
    groups = plan.groups(params)[: phase + 1]
    learning = {path for group in groups for path in group}
    return groups, {path: leaf for path, leaf in flatten_dict(params).items() if path not in learning}


def unite(groups: list[dict[Path, Any]], resting: dict[Path, Any]) -> PyTree:
    """What `divide` took apart."""
    flat = dict(resting)
    for group in groups:
        flat |= group
    return unflatten_dict(flat)


def compute_in(tree: PyTree, dtype: str) -> PyTree:
    """Floating-point leaves in the type that a network computes in."""
    if dtype == "float32":
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def dense_penalty(groups: list[dict[Path, Any]], kernels: Collection[Path], strength: Any) -> Any:
    """Sum of squares of some kernels, times `model.dense_l2`; Keras' kernel_regularizer."""
    leaves = [leaf for group in groups for path, leaf in group.items() if path in kernels]
    return strength * sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)
