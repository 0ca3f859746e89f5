"""VGG-16, without and with batch norm, and adaptive pooling.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015;
torchvision.models.vgg; keras.applications.vgg16.
"""

from __future__ import annotations

import flax.linen as nn

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.mapping import (
    Rule,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_dense_after_flatten,
    torch_layer,
)
from fpclass.models.network import Backbone, Dropout
from fpclass.models.plain_stages import AdaptiveFlatten, ConvRelu, DenseRelu, MaxPool

VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the convolutions between two pools. Source: table 1 of the paper, column D."""


def vgg16(*, is_normalised: bool, dropout_rate: float | None) -> Backbone:
    """VGG-16, with or without batch norm, and dropout after each hidden dense layer (None: there is none)."""
    features: list[nn.Module] = []
    for block, (channels, number) in enumerate(VGG16_BLOCKS, start=1):
        features += [
            ConvRelu(channels, is_normalised=is_normalised, name=f"block{block}_conv{i}") for i in range(1, number + 1)
        ]
        features.append(MaxPool(name=f"block{block}_pool"))
    classifier: list[nn.Module] = [AdaptiveFlatten((7, 7), name="flatten")]
    for i in (1, 2):
        classifier.append(DenseRelu(4096, name=f"fc{i}"))
        if dropout_rate is not None:
            classifier.append(Dropout(dropout_rate, name=f"dropout{i}"))
    return Backbone(
        features=tuple(features),
        classifier=tuple(classifier),
        stem_kernel=("block1_conv1", "conv", "kernel"),
        min_size=(32, 32),  # each of the five pools halves it; both references say so too
    )


CLASSIFIER = (
    *torch_layer(r"classifier\.0", "fc1/dense", torch_dense_after_flatten(512, 7, 7)),
    *torch_layer(r"classifier\.3", "fc2/dense", torch_dense),
    *torch_layer(r"classifier\.6", "head/logits", torch_dense),
)


def _places(layers_per_convolution: int) -> dict[str, int]:
    """Our stages with the first of their places in torchvision's list of layers, where batch norms, ReLUs count too."""
    places, position = {}, 0
    for block, (_, number) in enumerate(VGG16_BLOCKS, start=1):
        for i in range(1, number + 1):
            places[f"block{block}_conv{i}"] = position
            position += layers_per_convolution
        places[f"block{block}_pool"] = position
        position += 1
    return places


def _torchvision(name: str, num_parameters: int, tolerance: float, *, layers_per_convolution: int) -> Variant:
    rules: tuple[Rule, ...] = ()
    stages = {}
    for stage, place in _places(layers_per_convolution).items():
        if stage.endswith("pool"):
            stages[stage] = f"features.{place}"
            continue
        stages[stage] = f"features.{place + layers_per_convolution - 1}"
        rules += torch_layer(rf"features\.{place}", f"{stage}/conv", torch_conv)
        if layers_per_convolution == 3:
            # The two layers' names do not tell them from each other: each has its own number.
            rules += torch_batch_norm(rf"features\.{place + 1}", f"{stage}/bn")
    stages |= {"fc1": "classifier.1", "dropout1": "classifier.2", "fc2": "classifier.4", "dropout2": "classifier.5"}
    parity = Parity(f"torchvision:{name}", num_parameters, SIZES, stages, tolerance)
    return Variant("torchvision", (*rules, *CLASSIFIER), parity)


def _keras(source: str, target: str) -> tuple[Rule, ...]:
    """Rules of a layer: today's Keras says layer/kernel, the published files, which are older, layer/layer_W_1."""
    return (
        *keras_layer(source, target),
        Rule(rf"{source}/{source}_W_1", f"params/{target}/kernel"),
        Rule(rf"{source}/{source}_b_1", f"params/{target}/bias"),
    )


KERAS = (
    *(rule for stage in _places(1) if "conv" in stage for rule in _keras(stage, f"{stage}/conv")),
    *_keras("fc1", "fc1/dense"),
    *_keras("fc2", "fc2/dense"),
    *_keras("predictions", "head/logits"),
)
SIZES = ((32, 64), (71, 37))
# Bit for bit the same on one machine: both are the same XLA operations. Others need not agree on the last digit.
PARITY_KERAS = Parity(
    "keras:VGG16", 138_357_544, SIZES, {name: name for name in (*_places(1), "flatten", "fc1", "fc2")}, 1e-6
)

ARCHITECTURES = (
    Published(
        "vgg16",
        # Keras has no dropout. It flattens the maps as they are, and its weights ask for 7 x 7, which is 224 x 224
        # pixels; there the adaptive pool is the identity, and elsewhere it makes the weights usable.
        lambda variant: vgg16(is_normalised=False, dropout_rate=None if variant == "keras" else 0.5),
        (
            # Measured: 3.04e-6 on a CPU with AVX-512 and bfloat16.
            _torchvision("vgg16", 138_357_544, 5e-6, layers_per_convolution=2),
            Variant("keras", KERAS, PARITY_KERAS),
        ),
    ),
    Published(
        "vgg16_bn",
        lambda variant: vgg16(is_normalised=True, dropout_rate=0.5),
        (_torchvision("vgg16_bn", 138_365_992, 4e-6, layers_per_convolution=3),),
    ),
)
