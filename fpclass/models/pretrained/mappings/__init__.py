"""One mapping table per architecture and origin: which published array goes where."""

from __future__ import annotations

import re
from collections.abc import Collection

from fpclass.models.pretrained.mappings import (
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
from fpclass.models.pretrained.rules import Rule

MAPPINGS: dict[tuple[str, str], tuple[Rule, ...]] = {
    ("resnet18", "torchvision"): resnet.TORCHVISION,
    ("resnet34", "torchvision"): resnet.TORCHVISION,
    ("resnet50", "torchvision"): resnet.TORCHVISION,
    ("mobilenet_v2", "torchvision"): mobilenet.TORCHVISION_V2,
    ("mobilenet_v2", "keras"): mobilenet.KERAS_V2,
    ("mobilenet_v3_large", "torchvision"): mobilenet.TORCHVISION_V3,
    ("mobilenet_v3_large", "keras"): mobilenet.KERAS_V3,
    ("convnext_tiny", "torchvision"): convnext.TORCHVISION,
    ("swin_t", "torchvision"): swin.TORCHVISION,
    ("vit_b_16", "torchvision"): vit.TORCHVISION,
    ("efficientnet_b0", "torchvision"): efficientnet.TORCHVISION,
    ("efficientnet_b2", "torchvision"): efficientnet.TORCHVISION,
    ("efficientnet_b2", "keras"): efficientnet.KERAS,
    ("efficientnet_lite0", "lite"): efficientnet.LITE,
    ("vgg16", "torchvision"): vgg.TORCHVISION,
    ("vgg16", "keras"): vgg.KERAS,
    ("vgg16_bn", "torchvision"): vgg.TORCHVISION_BN,
    ("alexnet", "torchvision"): alexnet.TORCHVISION,
    ("resnet50v2", "keras"): resnet_v2.KERAS,
    ("densenet121", "torchvision"): densenet.TORCHVISION,
    ("inception_v3", "torchvision"): inception.TORCHVISION,
    ("inception_v3", "keras"): inception.KERAS,
}
"""(architecture, variant) -> rules."""

OTHER_NAMINGS: dict[tuple[str, str], tuple[tuple[Rule, ...], ...]] = {
    ("inception_v3", "keras"): (inception.KERAS_FROM_1,),
}
"""Further tables where files name the same arrays differently, and a name alone does not tell which it is."""


def rules_for(architecture: str, variant: str, names: Collection[str]) -> tuple[Rule, ...]:
    """The table that has a place for every array of a file; the usual one where none has.

    Args:
      architecture: name of the network.
      variant: of it.
      names: of all arrays of the file.
    """
    usual = MAPPINGS[architecture, variant]
    for rules in (usual, *OTHER_NAMINGS.get((architecture, variant), ())):
        patterns = [re.compile(rule.source) for rule in rules]
        if all(any(pattern.fullmatch(name) for pattern in patterns) for name in names):
            return rules
    return usual
