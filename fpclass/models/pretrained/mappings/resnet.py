"""ResNet 18, 34 and 50."""

from __future__ import annotations

from fpclass.models.pretrained.rules import torch_batch_norm, torch_conv, torch_dense, torch_layer

TORCHVISION = (
    *torch_layer("conv1", "stem/conv1", torch_conv),
    *torch_batch_norm("bn1", "stem/bn1"),
    *torch_layer(r"layer(\d)\.(\d+)\.conv(\d)", r"layer\1_\2/conv\3", torch_conv),
    *torch_batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1_\2/bn\3"),
    *torch_layer(r"layer(\d)\.(\d+)\.downsample\.0", r"layer\1_\2/downsample_conv", torch_conv),
    *torch_batch_norm(r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_\2/downsample_bn"),
    *torch_layer("fc", "head/logits", torch_dense),
)
