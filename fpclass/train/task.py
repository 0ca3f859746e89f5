"""A network to train with its data: from random or published weights, whole, or its part behind cached features."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Int

from fpclass.augment.compose import check_custom
from fpclass.augment.settings import check_classes
from fpclass.common.console import say
from fpclass.common.extension import is_own
from fpclass.common.parallel import agree
from fpclass.config import Config, flatten, subclass_counts
from fpclass.data.decode import Images
from fpclass.data.table import UNLABELLED, Table, canonical_label
from fpclass.errors import ConfigError
from fpclass.experiment import decided_by_weights, known_classes
from fpclass.explain.stages import find_path
from fpclass.models.build import build_model, explainable_form
from fpclass.models.network import Network, split_variables
from fpclass.models.own import check as check_own
from fpclass.train.contrastive import crop_size
from fpclass.train.finetune import Plan, make_plan
from fpclass.train.inputs.feature_cache import compute_features, features_dir, is_cached, size_gb
from fpclass.train.optim import make_optimizer
from fpclass.train.state import Dataset


@dataclasses.dataclass(frozen=True)
class Task:
    """A network to train, with its data.

    Attributes:
      model: the network, or its part behind the `num_cached` stages whose features are cached.
      dataset: on the host; `streaming.put_dataset` moves it to the devices, once, but for images that stay on disk.
      frozen: params and batch_stats of the stages before `model`.
    """

    model: nn.Module
    num_cached: int
    dataset: Dataset
    frozen: dict[str, Any]

    def whole(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The variables of the whole network, from those of the part that was trained."""
        return {kind: {**self.frozen.get(kind, {}), **tree} for kind, tree in variables.items()}


def make_task(config: Config, table: Table, images: Images, model_config: Config | None = None) -> Task:
    """Builds the network, loads its weights, and computes features where they are to be cached.

    Args:
      table: audited.
      model_config: the section `model`, where it is another one than the config's.

    Raises:
      ConfigError: stages that do not exist, features that cannot be cached, or `augment.class_probability` of another
        number of classes.
      WeightsError: the weights cannot be had, or do not fit.
    """
    check_classes(config.augment, table.num_classes)
    model = build_network(config, table.num_classes, model_config)
    labels, sublabels = table.labels.astype(np.int32), subclass_labels(config, table)
    plan = make_plan(model, config)

    def on_host(inputs: Any, pretrained: dict[str, Any]) -> Dataset:
        arrays: Any = {"images": inputs, "labels": labels, "pretrained": pretrained, "sublabels": sublabels}
        return Dataset(**arrays)

    if not isinstance(model, Network):
        return Task(model, 0, on_host(images, {}), {})
    pretrained = pretrained_variables(config, model)
    if not config.finetune.cache_views:
        return Task(model, 0, on_host(images, pretrained), {})
    _check_cache(config, model, plan)
    num_cached = plan.num_frozen[-1]
    if not is_cached(model.prefix(num_cached), config, len(images)):
        size = size_gb(model.prefix(num_cached), config, len(images))
        say(
            f"{config.name}: features behind {model.stage_names[num_cached - 1]} would take {size:.1f} GB, more than "
            f"finetune.cache_gb={config.finetune.cache_gb:g}: its frozen stages are computed anew in every step"
        )
        return Task(model, 0, on_host(images, pretrained), {})
    frozen, rest = split_variables(pretrained, model.stage_names[:num_cached])
    # What processes compute may differ in the last bit, and what they share must not.
    features = agree(compute_features(model.prefix(num_cached), frozen, images, labels, config, features_dir()))
    return Task(model.suffix(num_cached), num_cached, on_host(features, rest), frozen)


def check_network(config: Config) -> None:
    """Checks all that the config asks of the network and its training, before there are data.

    Of classes whose number only the data tell there are two.

    Raises:
      ConfigError: as `make_task`, `make_plan` and `make_optimizer`; the network cannot be pretrained without labels,
        and is to be; `explain.stage` is none to look at; or a network or an augmentation of the user's own cannot be
        used.
    """
    classes = known_classes(config)
    if classes:
        check_classes(config.augment, classes)
    model = build_network(config, classes or 2)
    image_shape = (*config.data.image_size, config.data.channels)
    if is_own(config.model.name):
        check_own(model, config.model.name, classes or 2, image_shape)
    check_custom(config.augment, image_shape)
    _check_cache(config, model, make_plan(model, config))
    _check_pretraining(config, model)
    make_optimizer(config.optim)
    if config.explain.stage:
        form = build_network(config, classes or 2, explainable_form(config.model))
        find_path(form, image_shape, config.explain.stage)


def _check_pretraining(config: Config, model: nn.Module) -> None:
    """Raises ConfigError where a network is to be pretrained without labels and cannot be."""
    if not config.unlabelled.pretrain_epochs:
        return
    key = f"unlabelled.pretrain_epochs is {config.unlabelled.pretrain_epochs}"
    if not isinstance(model, Network) or model.patch_size:
        raise ConfigError(f"{key}: that is for networks of stages of maps (blocks), and {config.model.name} is none")
    size = crop_size(config.data.image_size)
    try:
        build_model(config.model, 2, size, subclass_counts(config))
    except ConfigError as error:
        raise ConfigError(f"{key}: its views have {size[0]} x {size[1]} pixels; {error}") from None


def _check_cache(config: Config, model: nn.Module, plan: Plan) -> None:
    """Raises ConfigError where features are to be cached and cannot be."""
    num_views = config.finetune.cache_views
    if not num_views:
        return
    if not (plan.num_frozen[-1] and config.model.weights):
        is_random = not config.model.weights
        reason = "random weights differ from member to member" if is_random else "no stage stays frozen to the end"
        raise ConfigError(f"finetune.cache_views is {num_views}: {reason}, so nothing can be cached")
    *hidden, last = plan.stages[: plan.num_frozen[-1]]
    read = getattr(model.head, "stages", ()) if isinstance(model, Network) else ()
    if unseen := [name for name in read if name in hidden]:
        raise ConfigError(
            f"finetune.cache_views is {num_views}: behind {last}, whose features are cached, a probe cannot read "
            f"{', '.join(unseen)}; freeze fewer stages, name later ones in model.probe_stages, or set it to 0"
        )


def build_network(config: Config, num_classes: int, model_config: Config | None = None) -> nn.Module:
    """The network of a config, or of another section `model` than its own.

    Raises:
      ConfigError: as `build_model`.
    """
    return build_model(model_config or config.model, num_classes, config.data.image_size, subclass_counts(config))


def subclass_labels(config: Config, table: Table) -> Int[np.ndarray, " N"] | None:
    """Subclass of each image, where `model.subclasses` has them learnt: its place in the order of `data.merge`."""
    if not config.model.subclasses:
        return None
    order = [canonical_label(member) for _, members in config.data.merge for member in members]
    place = {name: k for k, name in enumerate(order)}
    return table.rows["original"].map(lambda name: place.get(name, UNLABELLED)).to_numpy(np.int32)


def require_weights(config: Config) -> None:
    """Makes sure that the weights of a config are on this machine; fetches them if need be.

    Raises:
      WeightsError: they are neither here nor to be had.
    """
    if config.model.weights:
        from fpclass.models.pretrained.source import require

        require(config.model.weights)


def pretrained_variables(config: Config, model: Network) -> dict[str, Any]:
    """What `model.weights` brings for this network, without the head; {} where they are random."""
    if not config.model.weights:
        return {}
    from fpclass.models.pretrained.pretrained import load_pretrained

    given = flatten(config)
    for key, value in decided_by_weights(config).items():  # a config that did not come through `load_config`
        if given[key] != value:
            raise ConfigError(f"{key} is {given[key]!r}, but the weights {config.model.weights} need {value!r}")
    shape = (*config.data.image_size, config.data.channels)
    own = config.model.name, config.model.variant
    return load_pretrained(config.model.weights, model, shape, own=own, new_stem=config.finetune.new_stem)
