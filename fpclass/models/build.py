"""Networks from the section `model` of a config, and the forms in which the same network can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from fpclass.common.extension import bare
from fpclass.config import Config, base_config
from fpclass.errors import ConfigError
from fpclass.models.architecture import Published
from fpclass.models.network import Network, dense_head, stages_through
from fpclass.models.probe import PROBE, with_probe
from fpclass.models.registry import declaration


def build_model(
    model_config: Config, num_classes: int, image_size: tuple[int, int], subclasses: Sequence[int] = ()
) -> nn.Module:
    """Builds the architecture that `model.name` names.

    Args:
      image_size: (height, width) in pixels.
      subclasses: number of subclasses of every class that are learnt one by one; () where the classes are learnt.

    Raises:
      ConfigError: no such architecture, one output for other than two classes, a key that the network does not read, or
        what it says of itself below.
    """
    architecture = declaration(model_config.name)
    if model_config.output == "sigmoid" and num_classes != 2:
        raise ConfigError(f"model.output is 'sigmoid': that is for two classes, and there are {num_classes}")
    _refuse_unread(model_config, architecture.unread)
    is_probe = model_config.head == PROBE
    if is_probe:
        _refuse_unread(model_config, ("dense_features", "dropout_rate", "dense_l2"), " with a probe")
    if isinstance(architecture, Published):
        model: Any = build_backbone(architecture, model_config, num_classes, image_size)
    else:
        model = architecture.build(model_config, num_classes, image_size)
    if is_probe:
        model = with_probe(model, model_config, num_classes)
    if not subclasses:
        return model
    learnt: dict[str, Any] = {"subclasses": tuple(subclasses)}
    head = model.head if isinstance(model, Network) else None
    return model.clone(head=head.clone(**learnt)) if head else model.clone(**learnt)


def build_backbone(
    architecture: Published, model_config: Config, num_classes: int, image_size: tuple[int, int]
) -> Network:
    """A port of a published network with a head for this task.

    Raises:
      ConfigError: images smaller than the network's minimum, or no multiple of its patches; a variant or stage that
        does not exist.
    """
    own_head, name = model_config.head == "own", architecture.name
    if own_head:
        _refuse_unread(model_config, ("dense_features", "dropout_rate", "dense_l2"), " with its own head")
    variants = [variant.name for variant in architecture.variants]
    variant = model_config.variant or variants[0]
    if variant not in variants:
        raise ConfigError(f"model.variant is {variant!r}: {name} has {', '.join(variants)}")
    backbone = architecture.stages(variant)
    if image_size[0] < backbone.min_size[0] or image_size[1] < backbone.min_size[1]:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: {name} needs at least {backbone.min_size} (height, width)"
        )
    patch = backbone.patch_size
    if patch and (image_size[0] % patch or image_size[1] % patch):
        nearest = tuple(patch * max(1, round(side / patch)) for side in image_size)
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: {name} takes multiples of {patch} (height, width), for example "
            f"{nearest}"
        )
    stages = backbone.features
    if model_config.last_stage:
        names = [str(module.name) for module in stages]
        stages = stages[: stages_through(names, model_config.last_stage, "model.last_stage")]
        if own_head:
            raise ConfigError(
                "model.last_stage cuts the network off before its own classifier: model.head=gap, moments or flatten"
            )
    last_maps, num_registers = str(stages[-1].name), max(0, backbone.prefix_tokens - 1)
    return Network(
        stages=(*stages, *backbone.classifier) if own_head else stages,
        head=dense_head(model_config, num_classes, "none" if own_head else model_config.head, num_registers),
        min_size=backbone.min_size,
        patch_size=backbone.patch_size,
        prefix_tokens=backbone.prefix_tokens,
        cam_stage=backbone.cam_stage if own_head and backbone.cam_stage else last_maps,
        stem_kernel=backbone.stem_kernel,
    )


def _refuse_unread(model_config: Config, keys: Sequence[str], when: str = "") -> None:
    """A key that nobody reads is an error."""
    default = base_config().model
    for key in keys:
        if model_config[key] != default[key]:
            raise ConfigError(f"model.{key} is {model_config[key]!r}: {bare(model_config.name)} does not read it{when}")


def has_matrix_form(model_config: Config) -> bool:
    """Whether the network's convolutions can be matrix products: what batches members with kernels of their own."""
    return declaration(model_config.name).has_matrix_form


def matrix_form(model_config: Config) -> Config:
    """The same network with convolutions as matrix products, where it has that form and the config leaves it open."""
    is_open = has_matrix_form(model_config) and model_config.conv_form == "auto"
    return _with_form(model_config, "polyphase" if is_open else model_config.conv_form)


def explainable_form(model_config: Config, stage: str = "") -> Config:
    """The same network with its convolutions as stages, which can be looked at.

    Args:
      stage: the only one that is; where it is of the last convolution, those before it stay matrix products.
    """
    if not has_matrix_form(model_config):
        return model_config
    is_last = stage.startswith(f"conv{len(model_config.conv_features)}/") and jax.default_backend() == "cpu"
    return _with_form(model_config, "last_direct" if is_last else "direct")


def _with_form(model_config: Config, form: str) -> Config:
    changed = ConfigDict(model_config.to_dict())
    changed.conv_form = form
    return changed
