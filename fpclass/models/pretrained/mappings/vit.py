"""ViT-B/16, and the rules that transformers share."""

from __future__ import annotations

from fpclass.models.pretrained.rules import Rule, torch_conv, torch_dense, torch_layer, torch_layer_norm

_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)"

TORCHVISION = (
    Rule("class_token", "params/stem/class_token"),
    Rule(r"encoder\.pos_embedding", "params/stem/position_embedding"),
    *torch_layer("conv_proj", "stem/patches", torch_conv),
    *torch_layer_norm(rf"{_BLOCK}\.ln_(\d)", r"block_\1/norm\2"),
    Rule(rf"{_BLOCK}\.self_attention\.in_proj_weight", r"params/block_\1/attention/qkv/kernel", torch_dense),
    Rule(rf"{_BLOCK}\.self_attention\.in_proj_bias", r"params/block_\1/attention/qkv/bias"),
    *torch_layer(rf"{_BLOCK}\.self_attention\.out_proj", r"block_\1/attention/project", torch_dense),
    # The published files have the names of an older torchvision, linear_1 and linear_2; networks saved today have 0, 3.
    *torch_layer(rf"{_BLOCK}\.mlp\.(?:0|linear_1)", r"block_\1/mlp/expand", torch_dense),
    *torch_layer(rf"{_BLOCK}\.mlp\.(?:3|linear_2)", r"block_\1/mlp/project", torch_dense),
    *torch_layer_norm(r"encoder\.ln", "norm/norm"),
    *torch_layer(r"heads\.head", "head/logits", torch_dense),
)
