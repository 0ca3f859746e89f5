"""Swin-T."""

from __future__ import annotations

from fpclass.models.pretrained.rules import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm


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
    *_scale(1),
    *_merge(2),
    *_scale(2),
    *_merge(3),
    *_scale(3),
    *_merge(4),
    *_scale(4),
    *torch_layer_norm("norm", "norm/norm"),
    *torch_layer("head", "head/logits", torch_dense),
)
