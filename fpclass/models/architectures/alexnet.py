"""AlexNet, in the form of its one-tower successor.

Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014; torchvision.models.alexnet.
"""

from __future__ import annotations

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.mapping import torch_conv, torch_dense, torch_dense_after_flatten, torch_layer
from fpclass.models.network import Backbone, Dropout
from fpclass.models.plain_stages import AdaptiveFlatten, ConvRelu, DenseRelu, MaxPool


def alexnet(variant: str) -> Backbone:
    """AlexNet of torchvision."""
    return Backbone(
        features=(
            ConvRelu(64, 11, 4, 2, name="conv1"),
            MaxPool(3, name="pool1"),
            ConvRelu(192, 5, 1, 2, name="conv2"),
            MaxPool(3, name="pool2"),
            ConvRelu(384, name="conv3"),
            ConvRelu(256, name="conv4"),
            ConvRelu(256, name="conv5"),
            MaxPool(3, name="pool5"),
        ),
        classifier=(
            AdaptiveFlatten((6, 6), name="flatten"),
            Dropout(0.5, name="dropout6"),
            DenseRelu(4096, name="fc6"),
            Dropout(0.5, name="dropout7"),
            DenseRelu(4096, name="fc7"),
        ),
        stem_kernel=("conv1", "conv", "kernel"),
        min_size=(63, 63),  # 63 -> 15 -> 7 -> 3 -> 1; 62 leaves no window for the last pool. torchvision says so too.
    )


TORCHVISION = (
    *torch_layer(r"features\.0", "conv1/conv", torch_conv),
    *torch_layer(r"features\.3", "conv2/conv", torch_conv),
    *torch_layer(r"features\.6", "conv3/conv", torch_conv),
    *torch_layer(r"features\.8", "conv4/conv", torch_conv),
    *torch_layer(r"features\.10", "conv5/conv", torch_conv),
    *torch_layer(r"classifier\.1", "fc6/dense", torch_dense_after_flatten(256, 6, 6)),
    *torch_layer(r"classifier\.4", "fc7/dense", torch_dense),
    *torch_layer(r"classifier\.6", "head/logits", torch_dense),
)
_FEATURES = {"conv1": 1, "pool1": 2, "conv2": 4, "pool2": 5, "conv3": 7, "conv4": 9, "conv5": 11, "pool5": 12}
_CLASSIFIER = {"fc6": 2, "dropout7": 3, "fc7": 5}
STAGES = {name: f"features.{place}" for name, place in _FEATURES.items()} | {
    name: f"classifier.{place}" for name, place in _CLASSIFIER.items()
}
PARITY = Parity("torchvision:alexnet", 61_100_840, ((64, 96), (99, 67)), STAGES, 2.6e-6)

ARCHITECTURES = (Published("alexnet", alexnet, (Variant("torchvision", TORCHVISION, PARITY),)),)
