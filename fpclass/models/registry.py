"""All architectures by name."""

from __future__ import annotations

from fpclass.common.extension import EXPECTED, is_own
from fpclass.errors import ConfigError, did_you_mean
from fpclass.models import own
from fpclass.models.architecture import Architecture, Published
from fpclass.models.architectures import (
    airbench,
    alexnet,
    blocks,
    cnn,
    convnext,
    densenet,
    efficientnet,
    foundation,
    inception,
    mobilenet,
    resnet,
    resnet_v2,
    swin,
    vgg,
    vit,
)

FAMILIES = (
    cnn, blocks, airbench,
    resnet, mobilenet, convnext, swin, vit, foundation, efficientnet, vgg, alexnet, resnet_v2, densenet, inception,
)  # fmt: skip
"""In the order in which names are listed."""

ARCHITECTURES: dict[str, Architecture | Published] = {
    architecture.name: architecture for family in FAMILIES for architecture in family.ARCHITECTURES
}


def declaration(name: str) -> Architecture | Published:
    """What is declared of the network of a name, which may be that of a function of the user's own.

    Raises:
      ConfigError: no such architecture.
    """
    if is_own(name):
        return own.declaration(name)
    if name not in ARCHITECTURES:
        meant = did_you_mean(name, ARCHITECTURES).removeprefix(",")
        raise ConfigError(f"model.name is {name!r}:{meant} expected one of {', '.join(ARCHITECTURES)}, {EXPECTED}")
    return ARCHITECTURES[name]


def published(name: str) -> Published:
    """What is declared of a published network, whose name weights have.

    Raises:
      KeyError: no such network.
    """
    architecture = ARCHITECTURES[name]
    if not isinstance(architecture, Published):
        raise KeyError(name)
    return architecture
