"""The architectures by name. A builder takes the section `model` of the config and what the data decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fpclass.config import Config, base_config
from fpclass.errors import ConfigError
from fpclass.models import (
    airbench,
    alexnet,
    convnext,
    densenet,
    efficientnet,
    inception,
    mobilenet,
    resnet,
    resnet_v2,
    swin,
    vgg,
    vit,
)
from fpclass.models.blocks import Block
from fpclass.models.cnn import CNN
from fpclass.models.layers import fast_conv_form
from fpclass.models.network import Architecture, DenseHead, Network, stages_through

ARCHITECTURES: dict[str, Callable[[str], Architecture]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "mobilenet_v3_large": mobilenet.mobilenet_v3_large,
    "convnext_tiny": convnext.convnext_tiny,
    "swin_t": swin.swin_t,
    "vit_b_16": vit.vit_b_16,
    "efficientnet_b0": efficientnet.efficientnet_b0,
    "efficientnet_b2": efficientnet.efficientnet_b2,
    "efficientnet_lite0": efficientnet.efficientnet_lite0,
    "vgg16": vgg.vgg16,
    "vgg16_bn": vgg.vgg16_bn,
    "alexnet": alexnet.alexnet,
    "resnet50v2": resnet_v2.resnet50v2,
    "densenet121": densenet.densenet121,
    "inception_v3": inception.inception_v3,
}
"""The ports of published networks: from a variant (whose numbers decide about padding, epsilons …) to the stages."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "resnet18": ("torchvision",),
    "resnet34": ("torchvision",),
    "resnet50": ("torchvision",),
    "mobilenet_v2": ("torchvision", "keras"),
    "mobilenet_v3_large": ("torchvision", "keras"),
    "convnext_tiny": ("torchvision",),
    "swin_t": ("torchvision",),
    "vit_b_16": ("torchvision",),
    "efficientnet_b0": ("torchvision",),
    "efficientnet_b2": ("torchvision", "keras"),
    "efficientnet_lite0": ("lite",),
    "vgg16": ("torchvision", "keras"),
    "vgg16_bn": ("torchvision",),
    "alexnet": ("torchvision",),
    "resnet50v2": ("keras",),
    "densenet121": ("torchvision",),
    "inception_v3": ("torchvision", "keras"),
}
"""The variants of each, the usual one first."""

FROM_SCRATCH = (
    "conv_features",
    "kernel_size",
    "convs_per_block",
    "block_dropout_rate",
    "batch_norm",
    "squeeze_excitation",
    "conv_form",
)
"""Keys of `model` that say how a network of our own is built, and that published ones do not read."""


def build_cnn(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """The footprint CNN with the variant that the config describes.

    Raises:
      ConfigError: images so small that nothing is left after the convolutions.
    """
    _refuse_unread(model_config, ("variant", "weights", "last_stage", "convs_per_block", "block_dropout_rate"))
    if model_config.head == "moments":
        raise ConfigError("model.head is 'moments': that is for networks of stages; the cnn takes flatten or gap")
    form = model_config.conv_form
    smallest = min(image_size)
    for _ in model_config.conv_features:
        smallest = (smallest - model_config.kernel_size + 1) // 2
    if smallest < 1:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(model_config.conv_features)} convolutions "
            "of model.conv_features, each of which halves it"
        )
    return CNN(
        num_classes=num_classes,
        image_size=(image_size[0], image_size[1]),
        conv_features=tuple(model_config.conv_features),
        kernel_size=model_config.kernel_size,
        dense_features=tuple(model_config.dense_features),
        dropout_rate=model_config.dropout_rate,
        batch_norm=model_config.batch_norm,
        head="flatten" if model_config.head == "own" else model_config.head,
        squeeze_excitation=model_config.squeeze_excitation,
        conv_form=fast_conv_form() if form == "auto" else form,
        output=model_config.output,
        subclasses=tuple(model_config.subclasses),
    )


def build_blocks(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> Network:
    """A network of blocks, each of which halves the image, with a head of dense layers.

    Raises:
      ConfigError: images so small that nothing is left after the blocks.
    """
    _refuse_unread(model_config, ("variant", "weights", "last_stage", "kernel_size", "squeeze_excitation", "conv_form"))
    features = tuple(model_config.conv_features)
    if min(image_size) < 2 ** len(features):
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(features)} blocks of "
            "model.conv_features, each of which halves it"
        )
    stages = tuple(
        Block(
            width,
            model_config.convs_per_block,
            model_config.batch_norm,
            model_config.block_dropout_rate,
            name=f"block{i}",
            parent=None,
        )
        for i, width in enumerate(features, start=1)
    )
    return Network(
        stages=stages,
        head=_dense_head(model_config, num_classes, pool="gap" if model_config.head == "own" else model_config.head),
        min_size=(2 ** len(features),) * 2,
        cam_stage=f"block{len(features)}/relu{model_config.convs_per_block}",
        stem_kernel=("block1", "conv1", "kernel"),
    )


def build_airbench(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> Network:
    """The network of airbench: whitened patches, three groups of two convolutions, the maximum over places.

    Raises:
      ConfigError: images too small for the groups, or a head that it does not have.
    """
    unread = ("kernel_size", "convs_per_block", "block_dropout_rate", "batch_norm", "squeeze_excitation", "conv_form")
    _refuse_unread(
        model_config,
        ("variant", "weights", "last_stage", "head", "dense_features", "dropout_rate", "dense_l2", *unread),
    )
    features = tuple(model_config.conv_features)
    smallest = 2 ** len(features) + 1
    if min(image_size) < smallest:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(features)} groups of "
            f"model.conv_features, each of which halves it; at least {smallest} pixels"
        )
    groups = (airbench.Group(width, name=f"group{i}", parent=None) for i, width in enumerate(features, start=1))
    return Network(
        stages=(
            airbench.Whiten(name="whiten", parent=None),
            *groups,
            airbench.MaxPlaces(name="max", parent=None),
        ),
        head=_dense_head(model_config, num_classes, pool="none"),
        min_size=(smallest, smallest),
        cam_stage=f"group{len(features)}/gelu2",
        stem_kernel=("whiten", "conv", "kernel"),
        stem_of_images=airbench.whitening_kernel,
    )


def _dense_head(model_config: Config, num_classes: int, pool: str) -> DenseHead:
    return DenseHead(
        num_classes,
        pool,
        tuple(model_config.dense_features),
        model_config.dropout_rate,
        model_config.output,
        tuple(model_config.subclasses),
        name="head",
        parent=None,
    )


def _refuse_unread(model_config: Config, keys: Sequence[str], when: str = "") -> None:
    """A key that nobody reads is an error."""
    unset = base_config().model
    for key in keys:
        if model_config[key] != unset[key]:
            raise ConfigError(f"model.{key} is {model_config[key]!r}: {model_config.name} does not read it{when}")


def build_backbone(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> Network:
    """A port of a published network with a head for this task.

    Raises:
      ConfigError: images smaller than the network's minimum, or no multiple of its patches; a variant or stage that
        does not exist.
    """
    _refuse_unread(model_config, FROM_SCRATCH)
    if model_config.head == "own":
        _refuse_unread(model_config, ("dense_features", "dropout_rate", "dense_l2"), " with its own head")
    name, variant = model_config.name, model_config.variant or VARIANTS[model_config.name][0]
    if variant not in VARIANTS[name]:
        raise ConfigError(f"model.variant is {variant!r}: {name} has {', '.join(VARIANTS[name])}")
    architecture = ARCHITECTURES[name](variant)
    if image_size[0] < architecture.min_size[0] or image_size[1] < architecture.min_size[1]:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: {name} needs at least {architecture.min_size} (height, width)"
        )
    patch = architecture.patch_size
    if patch and (image_size[0] % patch or image_size[1] % patch):
        nearest = tuple(patch * max(1, round(side / patch)) for side in image_size)
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: {name} takes multiples of {patch} (height, width), for example "
            f"{nearest}"
        )
    stages, own_head = architecture.features, model_config.head == "own"
    if model_config.last_stage:
        names = [str(module.name) for module in stages]
        stages = stages[: stages_through(names, model_config.last_stage, "model.last_stage")]
        if own_head:
            raise ConfigError(
                "model.last_stage cuts the network off before its own classifier: model.head=gap, moments or flatten"
            )
    if own_head:
        stages += architecture.classifier
    last_maps = str((stages if not own_head else architecture.features)[-1].name)
    return Network(
        stages=stages,
        head=_dense_head(model_config, num_classes, pool="none" if own_head else model_config.head),
        min_size=architecture.min_size,
        patch_size=architecture.patch_size,
        cam_stage=architecture.cam_stage if own_head and architecture.cam_stage else last_maps,
        stem_kernel=architecture.stem_kernel,
    )


MODELS: dict[str, Callable[[Any, int, tuple[int, int]], nn.Module]] = {
    "cnn": build_cnn,
    "blocks": build_blocks,
    "airbench": build_airbench,
    **dict.fromkeys(ARCHITECTURES, build_backbone),
}


def variable_shapes(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shapes of everything that a network has, for images of (height, width, channels), without computing any of it."""
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)


def build_model(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """Builds the architecture that `model.name` names.

    Args:
      model_config: the section `model` of the config.
      num_classes: K.
      image_size: (height, width) in pixels.

    Raises:
      ConfigError: no such architecture, or one output for other than two classes.
    """
    if model_config.name not in MODELS:
        raise ConfigError(f"model.name is {model_config.name!r}: expected one of {', '.join(MODELS)}")
    if model_config.output == "sigmoid" and num_classes != 2:
        raise ConfigError(f"model.output is 'sigmoid': that is for two classes, and there are {num_classes}")
    return MODELS[model_config.name](model_config, num_classes, image_size)
