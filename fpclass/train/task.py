"""What is trained: a network from random or published weights, whole, or what is left behind cached features."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from fpclass.augment.compose import make_augment_batch
from fpclass.augment.intensity import normalise
from fpclass.augment.settings import check_classes, is_augmented
from fpclass.config import Config, flatten
from fpclass.console import progress, say
from fpclass.data.decode import Images
from fpclass.data.table import UNLABELLED, Table, canonical_label
from fpclass.errors import ConfigError
from fpclass.experiment import decided_by_weights
from fpclass.models.build import build_model
from fpclass.models.network import Network, split_variables
from fpclass.parallel import agree
from fpclass.run.prepare import Prepared
from fpclass.train.finetune import compute_in, make_plan
from fpclass.train.inputs import view_keys
from fpclass.train.state import Dataset


@dataclasses.dataclass(frozen=True)
class Task:
    """A network to train, with its data.

    Attributes:
      model: the network, or its part behind the cached features.
      num_cached: stages before that.
      dataset: on the host; `host_loop.put_dataset` moves it to the devices, once, but for images that stay on disk.
      frozen: params and batch_stats of the stages before `model`.
    """

    model: nn.Module
    num_cached: int
    dataset: Dataset
    frozen: dict[str, Any]

    def whole(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The variables of the whole network, from those of the part that was trained."""
        return {kind: {**self.frozen.get(kind, {}), **tree} for kind, tree in variables.items()}


def make_task(config: Config, prepared: Prepared, model_config: Config | None = None) -> Task:
    """Builds the network, loads its weights, and computes features where they are to be cached.

    Args:
      config: the whole config.
      prepared: its data.
      model_config: the section `model`, where it is another one than the config's.

    Raises:
      ConfigError: stages that do not exist, features that cannot be cached, or `augment.class_probability` of another
        number of classes.
      WeightsError: the weights cannot be had, or do not fit.
    """
    check_classes(config.augment, prepared.table.num_classes)
    model = build_model(model_config or config.model, prepared.table.num_classes, config.data.image_size)
    labels, sublabels = prepared.table.labels.astype(np.int32), subclass_labels(config, prepared.table)
    plan = make_plan(model, config)

    def on_host(images: Any, pretrained: dict[str, Any]) -> Dataset:
        arrays: Any = {"images": images, "labels": labels, "pretrained": pretrained, "sublabels": sublabels}
        return Dataset(**arrays)

    if not isinstance(model, Network):
        return Task(model, 0, on_host(prepared.images, {}), {})
    pretrained = pretrained_variables(config, model)
    if not config.finetune.cache_views:
        return Task(model, 0, on_host(prepared.images, pretrained), {})
    num_cached = plan.num_frozen[-1]
    if not num_cached or not pretrained:
        reason = "no stage stays frozen to the end" if pretrained else "random weights differ from member to member"
        raise ConfigError(f"finetune.cache_views is {config.finetune.cache_views}: {reason}, so nothing can be cached")
    frozen, rest = split_variables(pretrained, model.stage_names[:num_cached])
    # What processes compute may differ in the last bit, and what they share must not.
    features = agree(compute_features(model.prefix(num_cached), frozen, prepared.images, labels, config))
    return Task(model.suffix(num_cached), num_cached, on_host(features, rest), frozen)


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
    return load_pretrained(config.model.weights, model, shape, new_stem=config.finetune.new_stem)


def compute_features(
    prefix: Network, variables: dict[str, Any], images: Images, labels: Int[np.ndarray, " N"], config: Config
) -> np.ndarray:
    """Puts every image through the frozen stages once: as it is, and as many augmented views as are asked for.

    The views are the same for every member, whatever its seed.

    Args:
      prefix: the frozen stages.
      variables: params and batch_stats of theirs.
      images: of the run.
      labels: class of each, which may decide about its augmentation.
      config: the whole config.

    Returns:
      Features [N, 1 + views, …] in the type that the network computes in, view 0 of the images as they are.

    Raises:
      ConfigError: they would be larger than finetune.cache_gb.
    """
    data, dtype, batch = config.data, config.model.compute_dtype, config.train.batch_size
    num_views = config.finetune.cache_views if is_augmented(config.augment) else 0
    augment = make_augment_batch(config.augment, mean=data.mean, std=data.std)
    variables = {**variables, "params": compute_in(variables["params"], dtype)}

    @jax.jit
    def features_of(variables: Any, part: Any, classes: Any, rows: Any, view: Any) -> Any:
        keys = view_keys(jnp.full_like(rows, view), rows)
        plain = normalise(part, data.mean, data.std)
        inputs = jnp.where(view == 0, plain, augment(keys, part, classes)) if num_views else plain
        return prefix.apply(variables, compute_in(inputs, dtype), train=False)

    rows = np.arange(len(images), dtype=np.int32)
    example = jax.ShapeDtypeStruct((batch, *images.shape[1:]), images.dtype)
    shape = jax.eval_shape(features_of, variables, example, *[jnp.arange(batch)] * 2, jnp.int32(0))
    size = math.prod(shape.shape[1:]) * shape.dtype.itemsize * len(images) * (1 + num_views) / 1e9
    if size > config.finetune.cache_gb:
        raise ConfigError(
            f"the features of {len(images)} images in {1 + num_views} views take {size:.1f} GB, and finetune.cache_gb "
            f"is {config.finetune.cache_gb:g}: freeze to a later stage, set fewer views, or raise the limit"
        )
    say(f"features behind {prefix.stage_names[-1]}: {len(images)} images, {1 + num_views} views, {size:.2f} GB")
    features = np.empty((len(images), 1 + num_views, *shape.shape[1:]), shape.dtype)
    on_device = jax.device_put(variables)
    parts = [(view, start) for view in range(1 + num_views) for start in range(0, len(images), batch)]
    for view, start in progress(parts, len(parts), "features"):
        taken = rows[start : start + batch]
        padded = np.pad(taken, (0, batch - len(taken)), mode="edge")
        part = (jnp.asarray(array) for array in (images[padded], labels[padded], padded))
        result = features_of(on_device, *part, jnp.int32(view))
        features[taken, view] = np.asarray(result)[: len(taken)]
    return features
