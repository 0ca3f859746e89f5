"""DenseNet-121: every layer sees the maps of all layers before it in its block.

Source: Huang et al., Densely Connected Convolutional Networks, CVPR 2017; torchvision.models.densenet.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fpclass.models.layers import Conv
from fpclass.models.network import Architecture, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import avg_pool, max_pool

Maps = Float[Array, "n h w c"]

GROWTH_RATE = 32
NUM_LAYERS = (6, 12, 24, 16)
"""Dense layers of each block. Source: table 1, DenseNet-121."""


class Stem(nn.Module):
    """7x7 convolution with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """A quarter of the size, 64 channels."""
        x = Conv(2 * GROWTH_RATE, (7, 7), 2, 3, name="conv")(x)
        x = nn.relu(batch_norm(x, mode, "bn"))
        return max_pool(x, 3, 2, 1)


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1 convolution, and the same with a 3x3 convolution; appended to what came in."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """All maps so far and 32 new ones behind them."""
        y = nn.relu(batch_norm(x, mode, "bn1"))
        y = Conv(4 * GROWTH_RATE, (1, 1), name="conv1")(y)
        y = nn.relu(batch_norm(y, mode, "bn2"))
        y = Conv(GROWTH_RATE, (3, 3), 1, 1, name="conv2")(y)
        return jnp.concatenate((x, y), axis=-1)


class Transition(nn.Module):
    """Batch norm, ReLU, 1x1 convolution to half the channels, 2x2 average: an odd last row or column is dropped."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Half the size, half the channels."""
        x = Conv(x.shape[-1] // 2, (1, 1), name="conv")(nn.relu(batch_norm(x, mode, "bn")))
        return avg_pool(x, 2, 2)


class FinalNorm(nn.Module):
    """Batch norm and ReLU behind the last block."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        """Normalises and rectifies."""
        return nn.relu(batch_norm(x, mode, "bn"))


def densenet121(variant: str) -> Architecture:
    """8.0 million parameters with 1000 classes."""
    stages: list[nn.Module] = [Stem(name="stem", parent=None)]
    for block, number in enumerate(NUM_LAYERS, start=1):
        stages += [DenseLayer(name=f"denseblock{block}_{layer}", parent=None) for layer in range(number)]
        if block < len(NUM_LAYERS):
            stages.append(Transition(name=f"transition{block}", parent=None))
    return Architecture(
        features=(*stages, FinalNorm(name="norm", parent=None)),
        classifier=(GlobalPool(name="pool", parent=None),),
        stem_kernel=("stem", "conv", "kernel"),
        min_size=(29, 29),  # 29 pixels are 8, 4, 2 and 1 in the blocks; 28 are 7, 3, 1 and none
    )
