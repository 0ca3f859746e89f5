"""VGG-16 (torchvision, Keras), and with batch norm (torchvision)."""

from __future__ import annotations

from fpclass.models.pretrained.rules import (
    Rule,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_dense_after_flatten,
    torch_layer,
)
from fpclass.models.vgg import VGG16_BLOCKS


def _torchvision_features(layers_per_convolution: int) -> tuple[Rule, ...]:
    """The features are one list of layers: convolutions, batch norms if there are, ReLUs and pools count alike."""
    rules: list[Rule] = []
    position = 0
    for block, (_, number) in enumerate(VGG16_BLOCKS, start=1):
        for i in range(1, number + 1):
            target = f"block{block}_conv{i}"
            rules += torch_layer(rf"features\.{position}", f"{target}/conv", torch_conv)
            if layers_per_convolution == 3:
                # The two layers' names do not tell them from each other: each has its own number.
                rules += torch_batch_norm(rf"features\.{position + 1}", f"{target}/bn")
            position += layers_per_convolution
        position += 1
    return tuple(rules)


CLASSIFIER = (
    *torch_layer(r"classifier\.0", "fc1/dense", torch_dense_after_flatten(512, 7, 7)),
    *torch_layer(r"classifier\.3", "fc2/dense", torch_dense),
    *torch_layer(r"classifier\.6", "head/logits", torch_dense),
)

TORCHVISION = (*_torchvision_features(2), *CLASSIFIER)
TORCHVISION_BN = (*_torchvision_features(3), *CLASSIFIER)


def _keras(source: str, target: str) -> tuple[Rule, ...]:
    """Rules of a layer: today's Keras says layer/kernel, the published files, which are older, layer/layer_W_1."""
    return (
        *keras_layer(source, target),
        Rule(rf"{source}/{source}_W_1", f"params/{target}/kernel"),
        Rule(rf"{source}/{source}_b_1", f"params/{target}/bias"),
    )


KERAS = (
    *(
        rule
        for block, (_, number) in enumerate(VGG16_BLOCKS, start=1)
        for i in range(1, number + 1)
        for rule in _keras(f"block{block}_conv{i}", f"block{block}_conv{i}/conv")
    ),
    *_keras("fc1", "fc1/dense"),
    *_keras("fc2", "fc2/dense"),
    *_keras("predictions", "head/logits"),
)
