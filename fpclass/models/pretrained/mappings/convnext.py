"""ConvNeXt-Tiny."""

from __future__ import annotations

import numpy as np

from fpclass.models.pretrained.rules import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm


def _flat(array: np.ndarray) -> np.ndarray:
    """One number per channel [c, 1, 1] -> [c]."""
    return array.reshape(-1)


def _scale(scale: int) -> tuple[Rule, ...]:
    """The rules of the blocks at one of the four scales, and of the downsampling before it."""
    before, blocks, target = rf"features\.{2 * scale - 2}", rf"features\.{2 * scale - 1}\.(\d+)", rf"stage{scale}_\1"
    return (
        *torch_layer_norm(rf"{before}\.0", f"downsample{scale}/norm"),
        *torch_layer(rf"{before}\.1", f"downsample{scale}/conv", torch_conv),
        Rule(rf"{blocks}\.layer_scale", f"params/{target}/layer_scale", _flat),
        *torch_layer(rf"{blocks}\.block\.0", f"{target}/conv", torch_conv),
        *torch_layer_norm(rf"{blocks}\.block\.2", f"{target}/norm"),
        *torch_layer(rf"{blocks}\.block\.3", f"{target}/mlp/expand", torch_dense),
        *torch_layer(rf"{blocks}\.block\.5", f"{target}/mlp/project", torch_dense),
    )


TORCHVISION = (
    # Before the first scale comes the stem, with convolution and norm the other way round.
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_layer_norm(r"features\.0\.1", "stem/norm"),
    *_scale(1),
    *_scale(2),
    *_scale(3),
    *_scale(4),
    *torch_layer_norm(r"classifier\.0", "norm/norm"),
    *torch_layer(r"classifier\.2", "head/logits", torch_dense),
)
