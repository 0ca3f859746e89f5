"""AlexNet, in the form of its one-tower successor.

Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014; torchvision.models.alexnet.
"""

from __future__ import annotations

from fpclass.models.network import Architecture, Dropout
from fpclass.models.vgg import AdaptiveFlatten, ConvRelu, DenseRelu, MaxPool


def alexnet(variant: str) -> Architecture:
    """61.1 million parameters with 1000 classes."""
    return Architecture(
        features=(
            ConvRelu(64, 11, 4, 2, name="conv1", parent=None),
            MaxPool(3, name="pool1", parent=None),
            ConvRelu(192, 5, 1, 2, name="conv2", parent=None),
            MaxPool(3, name="pool2", parent=None),
            ConvRelu(384, name="conv3", parent=None),
            ConvRelu(256, name="conv4", parent=None),
            ConvRelu(256, name="conv5", parent=None),
            MaxPool(3, name="pool5", parent=None),
        ),
        classifier=(
            AdaptiveFlatten((6, 6), name="flatten", parent=None),
            Dropout(0.5, name="dropout6", parent=None),
            DenseRelu(4096, name="fc6", parent=None),
            Dropout(0.5, name="dropout7", parent=None),
            DenseRelu(4096, name="fc7", parent=None),
        ),
        stem_kernel=("conv1", "conv", "kernel"),
        min_size=(63, 63),  # 63 -> 15 -> 7 -> 3 -> 1; 62 leaves no window for the last pool. torchvision says so too.
    )
