"""ResNet-50 V2 of Keras."""

from __future__ import annotations

from fpclass.models.pretrained.rules import keras_batch_norm, keras_layer

KERAS = (
    *keras_layer("conv1_conv", "stem/conv"),
    *keras_batch_norm(r"(conv\d_block\d)_preact_bn", r"\1/preact_bn"),
    *keras_layer(r"(conv\d_block\d)_0_conv", r"\1/shortcut_conv"),
    *keras_layer(r"(conv\d_block\d)_([123])_conv", r"\1/conv\2"),
    *keras_batch_norm(r"(conv\d_block\d)_([12])_bn", r"\1/bn\2"),
    *keras_batch_norm("post_bn", "post/bn"),
    *keras_layer("predictions", "head/logits"),
)
