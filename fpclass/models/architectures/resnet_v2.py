"""ResNet-50 V2: batch norm and ReLU come before each convolution, and nothing after the sum.

Source: He et al., Identity Mappings in Deep Residual Networks, ECCV 2016; keras.applications.resnet_v2.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps
from fpclass.models.mapping import keras_batch_norm, keras_layer
from fpclass.models.network import Backbone, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import max_pool

glorot_uniform = nn.initializers.glorot_uniform()


def norm_relu(x: Maps, mode: Mode, name: str) -> Maps:
    """Batch norm with Keras' numbers, then ReLU."""
    return nn.relu(batch_norm(x, mode, name, epsilon=1.001e-5, momentum=0.99, unbiased=False))


class Stem(nn.Module):
    """7x7 convolution with bias and stride 2, 3x3 max-pool with stride 2; no batch norm, no ReLU."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        x = Conv(64, (7, 7), 2, 3, use_bias=True, kernel_init=glorot_uniform, name="conv")(x)
        # Without a ReLU before it the pool sees negative numbers, and the border of zeros that Keras adds wins over
        # them: it is part of the maps here, where PyTorch's padding would be -inf.
        return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, then 1x1, 3x3 and 1x1 convolution, added to what came in.

    Attributes:
      features: channels of the first two convolutions; the last one has 4 times as many.
      strides: of the 3x3 convolution, and of the shortcut.
      has_projection: the shortcut is a 1x1 convolution of what batch norm and ReLU give; otherwise it is the input,
        every `strides`-th row and column of it.
    """

    features: int
    strides: int = 1
    has_projection: bool = False

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        features, strides = self.features, self.strides
        y = norm_relu(x, mode, "preact_bn")
        if self.has_projection:
            x = Conv(4 * features, (1, 1), strides, use_bias=True, kernel_init=glorot_uniform, name="shortcut_conv")(y)
        else:
            x = x[:, ::strides, ::strides]
        y = norm_relu(Conv(features, (1, 1), kernel_init=glorot_uniform, name="conv1")(y), mode, "bn1")
        # Zeros at every side at stride 2 too: not TensorFlow's "SAME".
        y = norm_relu(Conv(features, (3, 3), strides, 1, kernel_init=glorot_uniform, name="conv2")(y), mode, "bn2")
        return x + Conv(4 * features, (1, 1), use_bias=True, kernel_init=glorot_uniform, name="conv3")(y)


class FinalNorm(nn.Module):
    """Batch norm and ReLU after the last sum."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        return norm_relu(x, mode, "bn")


NUM_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
"""Of each group. Source: table 1 of the first ResNet paper, 50 layers."""
BLOCKS = [(group, i) for group, number in NUM_BLOCKS.items() for i in range(1, number + 1)]


def resnet50v2(variant: str) -> Backbone:
    """ResNet-50 V2 of Keras."""
    blocks = [
        # The last block of a group makes the maps smaller, not the first one; those of conv5 stay as they are.
        PreActivationBlock(
            2 ** (group + 4), 2 if i == NUM_BLOCKS[group] and group < 5 else 1, i == 1, name=f"conv{group}_block{i}"
        )
        for group, i in BLOCKS
    ]
    return Backbone(
        features=(Stem(name="stem"), *blocks, FinalNorm(name="post")),
        classifier=(GlobalPool(name="pool"),),
        stem_kernel=("stem", "conv", "kernel"),
        # Every window has its padding, so that one pixel stays one pixel. (Keras refuses sides under 32, without need.)
        min_size=(1, 1),
    )


KERAS = (
    *keras_layer("conv1_conv", "stem/conv"),
    *keras_batch_norm(r"(conv\d_block\d)_preact_bn", r"\1/preact_bn"),
    *keras_layer(r"(conv\d_block\d)_0_conv", r"\1/shortcut_conv"),
    *keras_layer(r"(conv\d_block\d)_([123])_conv", r"\1/conv\2"),
    *keras_batch_norm(r"(conv\d_block\d)_([12])_bn", r"\1/bn\2"),
    *keras_batch_norm("post_bn", "post/bn"),
    *keras_layer("predictions", "head/logits"),
)
STAGES = {
    "stem": "pool1_pool",
    **{f"conv{group}_block{i}": f"conv{group}_block{i}_out" for group, i in BLOCKS},
    "post": "post_relu",
    "pool": "avg_pool",
}
PARITY = Parity("keras:ResNet50V2", 25_568_360, ((32, 48), (67, 45)), STAGES, 2.6e-6)

ARCHITECTURES = (Published("resnet50v2", resnet50v2, (Variant("keras", KERAS, PARITY),)),)
