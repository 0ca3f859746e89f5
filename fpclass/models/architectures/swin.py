"""Swin-T, version 1.

Source: Liu et al., Swin Transformer, ICCV 2021; torchvision.models.swin_transformer.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fpclass.models.architecture import Parity, Published, Variant
from fpclass.models.layers import Conv, Maps, StochasticDepth
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm
from fpclass.models.network import Backbone, GlobalPool, Mode
from fpclass.models.transformer import MLP, Norm, SelfAttention, layer_norm, linear, numbered_scales, small_normal

NUM_BLOCKS = (2, 2, 6, 2)
WINDOW = 7
"""Side of the square windows that attention looks into, in places of the map."""
EPSILON = 1e-5
"""Of layer norm: PyTorch's own default here, and not the 1e-6 of torchvision's other transformers."""
STOCHASTIC_DEPTH_RATE = 0.2
"""Of the last block; from 0 at the first one it grows with the depth."""
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""What a PyTorch convolution begins with; torchvision leaves it in this network alone."""


class Stem(nn.Module):
    """4x4 convolution with stride 4, layer norm; a rest of the image at its bottom and right is not seen."""

    features: int

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        conv = Conv(self.features, (4, 4), 4, use_bias=True, kernel_init=torch_default, name="conv")
        return layer_norm(conv(x), "norm", EPSILON)


class PatchMerging(nn.Module):
    """Four neighbours become one place: their channels side by side, layer norm, dense layer to twice the channels.

    Behind a last odd row or column comes one of zeros.
    """

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        height, width, channels = x.shape[1:]
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        # The reference's order of neighbours goes down first: top left, bottom left, top right, bottom right.
        neighbours = [x[:, i::2, j::2] for j in range(2) for i in range(2)]
        x = layer_norm(jnp.concatenate(neighbours, axis=-1), "norm", EPSILON)
        return linear(x, 2 * channels, "reduction", use_bias=False)


class Block(nn.Module):
    """Attention inside windows, then an MLP, both behind a layer norm and added to what came in.

    Attributes:
      is_shifted: windows lie half a window further down and right than those of the block before.
    """

    num_heads: int
    is_shifted: bool = False
    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Maps, mode: Mode) -> Maps:
        height, width = x.shape[1:3]
        grid = (-(-height // WINDOW), -(-width // WINDOW))
        # A window that covers the map along an axis has nowhere to go along it.
        shift = tuple(WINDOW // 2 if self.is_shifted and number > 1 else 0 for number in grid)
        table = self.param("position_bias", small_normal, ((2 * WINDOW - 1) ** 2, self.num_heads))
        bias = jnp.moveaxis(table[relative_positions(WINDOW)], -1, 0)
        if any(shift):
            bias = bias + seam_mask(grid, shift)[:, None]
        y = to_windows(layer_norm(x, "norm1", EPSILON), grid, shift)
        y = SelfAttention(self.num_heads, name="attention")(y, bias)
        y = from_windows(y, grid, shift)[:, :height, :width]
        x = x + StochasticDepth(self.stochastic_depth_rate)(y, train=mode.train)
        y = MLP(name="mlp")(layer_norm(x, "norm2", EPSILON))
        return x + StochasticDepth(self.stochastic_depth_rate)(y, train=mode.train)


def to_windows(x: Maps, grid: tuple[int, ...], shift: tuple[int, ...]) -> Float[Array, "n windows t c"]:
    """Cuts maps into windows, row by row.

    Args:
      x: maps, at most as large as the windows together: what lacks is filled with zeros, which take part in the
        attention as they do in the reference.
      grid: windows per (column, row) of the map.
      shift: the map is rolled up and left by so many places before.
    """
    n, height, width, channels = x.shape
    rows, columns = grid
    x = jnp.pad(x, ((0, 0), (0, rows * WINDOW - height), (0, columns * WINDOW - width), (0, 0)))
    x = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
    x = x.reshape(n, rows, WINDOW, columns, WINDOW, channels).swapaxes(2, 3)
    return x.reshape(n, rows * columns, WINDOW * WINDOW, channels)


def from_windows(x: Float[Array, "n windows t c"], grid: tuple[int, ...], shift: tuple[int, ...]) -> Maps:
    """Undoes `to_windows`, but for the zeros that it added."""
    rows, columns = grid
    x = x.reshape(x.shape[0], rows, columns, WINDOW, WINDOW, x.shape[-1]).swapaxes(2, 3)
    x = x.reshape(x.shape[0], rows * WINDOW, columns * WINDOW, x.shape[-1])
    return jnp.roll(x, shift, axis=(1, 2))


def relative_positions(window: int) -> Int[np.ndarray, "t t"]:
    """Which row of the table of position biases holds for a pair [query, key] of places in a window."""
    places = np.stack(np.divmod(np.arange(window**2), window), axis=-1)
    down, right = np.moveaxis(places[:, None] - places[None, :] + window - 1, -1, 0)
    return down * (2 * window - 1) + right


def seam_mask(grid: tuple[int, ...], shift: tuple[int, ...]) -> Float[np.ndarray, "windows t t"]:
    """What keeps places apart that only rolling the map has made neighbours: -100 between them, 0 elsewhere.

    Args:
      grid: windows per (column, row) of the map.
      shift: how far the map was rolled, in places; not 0 along both axes.
    """
    # Rolled to the end of its axis, what was at the beginning has side 1, all before it 0.
    sides = [np.arange(number * WINDOW) >= number * WINDOW - by for number, by in zip(grid, shift, strict=True)]
    regions = 2 * sides[0][:, None] + sides[1][None, :]
    regions = regions.reshape(grid[0], WINDOW, grid[1], WINDOW).swapaxes(1, 2).reshape(-1, WINDOW * WINDOW)
    return np.where(regions[:, :, None] == regions[:, None, :], 0, -100).astype(np.float32)


def swin(num_blocks: tuple[int, ...], num_heads: tuple[int, ...], features: int) -> Backbone:
    """A Swin transformer: so many blocks with so many heads, at each of the scales 1/4, 1/8 …."""
    stages: list[nn.Module] = [Stem(features, name="stem")]
    depth, last = 0, sum(num_blocks) - 1
    for scale, (number, heads) in enumerate(zip(num_blocks, num_heads, strict=True), start=1):
        if scale > 1:
            stages.append(PatchMerging(name=f"merge{scale}"))
        for block in range(number):
            rate = STOCHASTIC_DEPTH_RATE * depth / last
            stages.append(Block(heads, block % 2 == 1, rate, name=f"stage{scale}_{block}"))
            depth += 1
    return Backbone(
        features=(*stages, Norm(EPSILON, name="norm")),
        classifier=(GlobalPool(name="pool"),),
        stem_kernel=("stem", "conv", "kernel"),
        min_size=(4, 4),  # one patch: all that follows fills up with zeros
    )


def _scale(scale: int) -> tuple[Rule, ...]:
    """The rules of the blocks at one of the four scales."""
    blocks, target = rf"features\.{2 * scale - 1}\.(\d+)", rf"stage{scale}_\1"
    return (
        *torch_layer_norm(rf"{blocks}\.norm(\d)", rf"{target}/norm\2"),
        Rule(rf"{blocks}\.attn\.relative_position_bias_table", f"params/{target}/position_bias"),
        # Follows from the window's size alone, which the shape of the table above proves.
        Rule(rf"{blocks}\.attn\.relative_position_index", ""),
        *torch_layer(rf"{blocks}\.attn\.qkv", f"{target}/attention/qkv", torch_dense),
        *torch_layer(rf"{blocks}\.attn\.proj", f"{target}/attention/project", torch_dense),
        *torch_layer(rf"{blocks}\.mlp\.0", f"{target}/mlp/expand", torch_dense),
        *torch_layer(rf"{blocks}\.mlp\.3", f"{target}/mlp/project", torch_dense),
    )


def _merge(scale: int) -> tuple[Rule, ...]:
    """The rules of the patch merging before a scale."""
    return (
        *torch_layer_norm(rf"features\.{2 * scale - 2}\.norm", f"merge{scale}/norm"),
        Rule(rf"features\.{2 * scale - 2}\.reduction\.weight", f"params/merge{scale}/reduction/kernel", torch_dense),
    )


TORCHVISION = (
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_layer_norm(r"features\.0\.2", "stem/norm"),
    *(rule for scale in (1, 2, 3, 4) for rule in (*(_merge(scale) if scale > 1 else ()), *_scale(scale))),
    *torch_layer_norm("norm", "norm/norm"),
    *torch_layer("head", "head/logits", torch_dense),
)
STAGES = numbered_scales(NUM_BLOCKS, "merge") | {"norm": "norm", "pool": "flatten"}
# 6 x 17 places are less than a window high: it is shifted along one axis only.
PARITY = Parity("torchvision:swin_t", 28_288_354, ((24, 68), (67, 45)), STAGES, 4e-6)

ARCHITECTURES = (
    Published(
        "swin_t",
        lambda variant: swin(NUM_BLOCKS, (3, 6, 12, 24), 96),
        (Variant("torchvision", TORCHVISION, PARITY),),
    ),
)
