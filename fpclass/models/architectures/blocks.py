"""Networks of blocks, for small photographs: convolutions, batch norm, pool, dropout; then a head."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.architecture import Architecture
from fpclass.models.layers import Conv, stage
from fpclass.models.network import Mode, Network, batch_norm, dense_head
from fpclass.models.pooling import max_pool


class Block(nn.Module):
    """3x3 convolutions with ReLU and padding, batch norm after the last, 2x2 max-pool (odd ends dropped), dropout.

    Stages: relu1, relu2, …: after each convolution.

    Source: Simonyan and Zisserman, ICLR 2015 (pairs of 3x3 convolutions); Ioffe and Szegedy, ICML 2015.
    """

    features: int
    num_convs: int = 2
    use_batch_norm: bool = True
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Float[Array, "n h2 w2 f"]:
        for i in range(1, self.num_convs + 1):
            x = nn.relu(Conv(self.features, padding=1, use_bias=True, name=f"conv{i}")(x))
            x = stage(self, f"relu{i}", x)
        if self.use_batch_norm:
            x = batch_norm(x, mode, "batch_norm")
        x = max_pool(x, 2, 2)
        return nn.Dropout(self.dropout_rate, deterministic=not mode.train)(x)


def build(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> Network:
    """A network of blocks, each of which halves the image, with a head of dense layers.

    Raises:
      ConfigError: images so small that nothing is left after the blocks.
    """
    features, num_convs = tuple(model_config.conv_features), model_config.convs_per_block
    if min(image_size) < 2 ** len(features):
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(features)} blocks of "
            "model.conv_features, each of which halves it"
        )
    return Network(
        stages=tuple(
            Block(width, num_convs, model_config.batch_norm, model_config.block_dropout_rate, name=f"block{i}")
            for i, width in enumerate(features, start=1)
        ),
        head=dense_head(model_config, num_classes, pool="gap" if model_config.head == "own" else model_config.head),
        min_size=(2 ** len(features),) * 2,
        cam_stage=f"block{len(features)}/relu{num_convs}",
        stem_kernel=("block1", "conv1", "kernel"),
    )


UNREAD = ("variant", "weights", "last_stage", "kernel_size", "squeeze_excitation", "conv_form")

ARCHITECTURES = (Architecture("blocks", build, UNREAD),)
