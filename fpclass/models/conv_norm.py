"""Convolution with batch norm and activation, with the details in which the origins of weights differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array

from fpclass.models.layers import BatchNorm, Conv, Maps, kaiming_normal
from fpclass.models.network import Mode


@dataclasses.dataclass(frozen=True)
class Details:
    """Numbers of one origin.

    Attributes:
      epsilon: of batch norm; this and the next three as in `layers.BatchNorm`.
      is_same: padding as TensorFlow's "SAME", which at stride 2 and even sizes has a row more at the bottom and a
        column more at the right; otherwise the same number of zeros at every side.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    unbiased: bool = True
    use_scale: bool = True
    is_same: bool = False

    def padding(self, kernel_size: int) -> int | str:
        """What `layers.Conv` takes for a convolution that keeps the size, or divides it by its stride."""
        return "SAME" if self.is_same else kernel_size // 2

    def batch_norm(self, x: Array, mode: Mode, name: str) -> Array:
        """Batch norm inside a stage, applied as the stage is."""
        norm = BatchNorm(mode.batch_norm, self.momentum, self.epsilon, self.unbiased, self.use_scale, name=name)
        return norm(x, train=mode.train, mask=mode.mask)


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation.

    Attributes:
      kernel_size: (height, width), pixels.
      padding: as in `layers.Conv`; None: as the origin pads.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int = 1
    details: Details = Details()
    activation: Callable[[Array], Array] = nn.relu
    groups: int = 1
    padding: str | None = None
    kernel_init: nn.initializers.Initializer = kaiming_normal

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        padding = self.details.padding(self.kernel_size[0]) if self.padding is None else self.padding
        conv = Conv(
            self.features, self.kernel_size, self.strides, padding, self.groups, False, self.kernel_init, name="conv"
        )
        return self.activation(self.details.batch_norm(conv(x), mode, "bn"))


def divisible_by_8(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below. Source: `_make_divisible` of all originals."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
