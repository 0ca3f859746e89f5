"""EfficientNet B0 and B2 (torchvision, Keras), and Lite0."""

from __future__ import annotations

from fpclass.models.efficientnet import block_counts
from fpclass.models.pretrained.rules import (
    Rule,
    keras_batch_norm,
    keras_depthwise,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_layer,
)


def _torchvision_block(group: str, first: int) -> tuple[Rule, ...]:
    """Rules of the blocks of a group: their layers are numbered, depthwise convolution at `first`."""
    source, target = rf"features\.({group})\.(\d+)\.block", r"block\1_\2"
    return (
        *torch_layer(rf"{source}\.{first}\.0", f"{target}/depthwise_conv", torch_conv),
        *torch_batch_norm(rf"{source}\.{first}\.1", f"{target}/depthwise_bn"),
        *torch_layer(rf"{source}\.{first + 1}\.fc1", f"{target}/squeeze_excitation/reduce", torch_conv),
        *torch_layer(rf"{source}\.{first + 1}\.fc2", f"{target}/squeeze_excitation/expand", torch_conv),
        *torch_layer(rf"{source}\.{first + 2}\.0", f"{target}/project_conv", torch_conv),
        *torch_batch_norm(rf"{source}\.{first + 2}\.1", f"{target}/project_bn"),
    )


TORCHVISION = (
    *torch_layer(r"features\.0\.0", "stem/conv", torch_conv),
    *torch_batch_norm(r"features\.0\.1", "stem/bn"),
    *_torchvision_block("1", 0),  # the one block that is not widened has a layer less
    *torch_layer(r"features\.([2-7])\.(\d+)\.block\.0\.0", r"block\1_\2/expand_conv", torch_conv),
    *torch_batch_norm(r"features\.([2-7])\.(\d+)\.block\.0\.1", r"block\1_\2/expand_bn"),
    *_torchvision_block("[2-7]", 1),
    *torch_layer(r"features\.8\.0", "top/conv", torch_conv),
    *torch_batch_norm(r"features\.8\.1", "top/bn"),
    *torch_layer(r"classifier\.1", "head/logits", torch_dense),
)


def _keras_block(letter: str, number: int) -> tuple[Rule, ...]:
    """Rules of the block with this letter in every group, which is our block of this number."""
    source, target = f"block([1-7]){letter}_", rf"block\1_{number}"
    return (
        *keras_layer(f"{source}expand_conv", f"{target}/expand_conv"),
        *keras_batch_norm(f"{source}expand_bn", f"{target}/expand_bn"),
        *keras_layer(f"{source}dwconv", f"{target}/depthwise_conv", keras_depthwise),
        *keras_batch_norm(f"{source}bn", f"{target}/depthwise_bn"),
        *keras_layer(f"{source}se_reduce", f"{target}/squeeze_excitation/reduce"),
        *keras_layer(f"{source}se_expand", f"{target}/squeeze_excitation/expand"),
        *keras_layer(f"{source}project_conv", f"{target}/project_conv"),
        *keras_batch_norm(f"{source}project_bn", f"{target}/project_bn"),
    )


KERAS = (
    # Mean and deviation of the images lie inside the network there; here the manifest has them.
    Rule(r"normalization(?:_\d+)?/(?:mean|variance|count)", ""),
    *keras_layer("stem_conv", "stem/conv"),
    *keras_batch_norm("stem_bn", "stem/bn"),
    *(rule for number, letter in enumerate("abcde") for rule in _keras_block(letter, number)),
    *keras_layer("top_conv", "top/conv"),
    *keras_batch_norm("top_bn", "top/bn"),
    *keras_layer("predictions", "head/logits"),
)


def _lite_block(source: str, target: str) -> tuple[Rule, ...]:
    return (
        *torch_layer(rf"{source}\._expand_conv", f"{target}/expand_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn0", f"{target}/expand_bn"),
        *torch_layer(rf"{source}\._depthwise_conv", f"{target}/depthwise_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn1", f"{target}/depthwise_bn"),
        *torch_layer(rf"{source}\._project_conv", f"{target}/project_conv", torch_conv),
        *torch_batch_norm(rf"{source}\._bn2", f"{target}/project_bn"),
    )


BLOCKS = tuple(f"block{group}_{i}" for group, number in enumerate(block_counts(1.0), 1) for i in range(number))
"""Our names of the blocks, which the package numbers through from 0."""

LITE = (
    *torch_layer("_conv_stem", "stem/conv", torch_conv),
    *torch_batch_norm("_bn0", "stem/bn"),
    *(rule for i, target in enumerate(BLOCKS) for rule in _lite_block(rf"_blocks\.{i}", target)),
    *torch_layer("_conv_head", "top/conv", torch_conv),
    *torch_batch_norm("_bn1", "top/bn"),
    *torch_layer("_fc", "head/logits", torch_dense),
)
