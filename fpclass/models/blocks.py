"""Networks of blocks, for small photographs: convolutions, batch norm, pool, dropout; then a head."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from fpclass.models.layers import Conv, stage
from fpclass.models.network import Mode, batch_norm
from fpclass.models.pooling import max_pool


class Block(nn.Module):
    """3x3 convolutions with ReLU that keep the size, batch norm after the last, 2x2 max-pool, dropout.

    Attributes:
      features: channels of each convolution.
      num_convs: convolutions before the pool.
      use_batch_norm: whether there is one.
      dropout_rate: share of the pooled features that is dropped in training.

    Stages: relu1, relu2, …: after each convolution.

    Source: Simonyan and Zisserman, ICLR 2015 (pairs of 3x3 convolutions); Ioffe and Szegedy, ICML 2015.
    """

    features: int
    num_convs: int = 2
    use_batch_norm: bool = True
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Float[Array, "n h2 w2 f"]:
        """Convolves, normalises, pools and drops out; a last odd row or column is dropped."""
        for i in range(1, self.num_convs + 1):
            x = nn.relu(Conv(self.features, padding=1, use_bias=True, name=f"conv{i}")(x))
            x = stage(self, f"relu{i}", x)
        if self.use_batch_norm:
            x = batch_norm(x, mode, "batch_norm")
        x = max_pool(x, 2, 2)
        return nn.Dropout(self.dropout_rate, deterministic=not mode.train)(x)
