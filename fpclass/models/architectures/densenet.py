"""DenseNet-121: every layer sees the maps of all layers before it in its block.

Source: Huang et al., Densely Connected Convolutional Networks, CVPR 2017; torchvision.models.densenet.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps
from fpclass.models.mapping import Rule, torch_batch_norm, torch_conv, torch_dense, torch_layer
from fpclass.models.network import Backbone, GlobalPool, Mode, batch_norm
from fpclass.models.pooling import avg_pool, max_pool

GROWTH_RATE = 32
NUM_LAYERS = (6, 12, 24, 16)
"""Dense layers of each block. Source: table 1, DenseNet-121."""


class Stem(nn.Module):
    """7x7 convolution with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        x = Conv(2 * GROWTH_RATE, (7, 7), 2, 3, name="conv")(x)
        return max_pool(nn.relu(batch_norm(x, mode, "bn")), 3, 2, 1)


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1 convolution, and the same with a 3x3 convolution; appended to what came in."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        y = Conv(4 * GROWTH_RATE, (1, 1), name="conv1")(nn.relu(batch_norm(x, mode, "bn1")))
        y = Conv(GROWTH_RATE, (3, 3), 1, 1, name="conv2")(nn.relu(batch_norm(y, mode, "bn2")))
        return jnp.concatenate((x, y), axis=-1)


class Transition(nn.Module):
    """Batch norm, ReLU, 1x1 convolution to half the channels, 2x2 average: an odd last row or column is dropped."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        x = Conv(x.shape[-1] // 2, (1, 1), name="conv")(nn.relu(batch_norm(x, mode, "bn")))
        return avg_pool(x, 2, 2)


class FinalNorm(nn.Module):
    """Batch norm and ReLU behind the last block."""

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        return nn.relu(batch_norm(x, mode, "bn"))


def densenet121(variant: str) -> Backbone:
    """DenseNet-121 of torchvision."""
    stages: list[nn.Module] = [Stem(name="stem")]
    for block, number in enumerate(NUM_LAYERS, start=1):
        stages += [DenseLayer(name=f"denseblock{block}_{layer}") for layer in range(number)]
        if block < len(NUM_LAYERS):
            stages.append(Transition(name=f"transition{block}"))
    return Backbone(
        features=(*stages, FinalNorm(name="norm")),
        classifier=(GlobalPool(name="pool"),),
        stem_kernel=("stem", "conv", "kernel"),
        min_size=(29, 29),  # 29 pixels are 8, 4, 2 and 1 in the blocks; 28 are 7, 3, 1 and none
    )


def _dense_layer(block: int, layer: int) -> tuple[Rule, ...]:
    # Theirs count from 1. The published file has "norm.1.weight", a network of today "norm1.weight".
    source, target = rf"features\.denseblock{block}\.denselayer{layer + 1}", f"denseblock{block}_{layer}"
    return (
        *torch_batch_norm(rf"{source}\.norm\.?(1|2)", rf"{target}/bn\1"),
        *torch_layer(rf"{source}\.conv\.?(1|2)", rf"{target}/conv\1", torch_conv),
    )


TORCHVISION = (
    *torch_layer(r"features\.conv0", "stem/conv", torch_conv),
    *torch_batch_norm(r"features\.norm0", "stem/bn"),
    *(r for block, number in enumerate(NUM_LAYERS, 1) for layer in range(number) for r in _dense_layer(block, layer)),
    *torch_batch_norm(r"features\.transition(\d)\.norm", r"transition\1/bn"),
    *torch_layer(r"features\.transition(\d)\.conv", r"transition\1/conv", torch_conv),
    *torch_batch_norm(r"features\.norm5", "norm/bn"),
    *torch_layer("classifier", "head/logits", torch_dense),
)
# A layer of the original gives its new maps only: the ends of blocks, which hold them all, are compared.
STAGES = {"stem": "features.pool0"}
for _block, _number in enumerate(NUM_LAYERS, start=1):
    STAGES[f"denseblock{_block}_{_number - 1}"] = f"features.denseblock{_block}"
    STAGES |= {f"transition{_block}": f"features.transition{_block}"} if _block < len(NUM_LAYERS) else {}
PARITY = Parity("torchvision:densenet121", 7_978_856, ((32, 64), (45, 37)), STAGES, 1.5e-6, 1.1e-7)

ARCHITECTURES = (Published("densenet121", densenet121, (Variant("torchvision", TORCHVISION, PARITY),)),)
