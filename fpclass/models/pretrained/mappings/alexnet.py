"""AlexNet."""

from __future__ import annotations

from fpclass.models.pretrained.rules import torch_conv, torch_dense, torch_dense_after_flatten, torch_layer

TORCHVISION = (
    *torch_layer(r"features\.0", "conv1/conv", torch_conv),
    *torch_layer(r"features\.3", "conv2/conv", torch_conv),
    *torch_layer(r"features\.6", "conv3/conv", torch_conv),
    *torch_layer(r"features\.8", "conv4/conv", torch_conv),
    *torch_layer(r"features\.10", "conv5/conv", torch_conv),
    *torch_layer(r"classifier\.1", "fc6/dense", torch_dense_after_flatten(256, 6, 6)),
    *torch_layer(r"classifier\.4", "fc7/dense", torch_dense),
    *torch_layer(r"classifier\.6", "head/logits", torch_dense),
)
