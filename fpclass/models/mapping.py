"""Mapping tables: rules from the names of published arrays to places in a network."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

Transform = Callable[[np.ndarray], np.ndarray]


def same(array: np.ndarray) -> np.ndarray:
    """As it is."""
    return array


def torch_conv(array: np.ndarray) -> np.ndarray:
    """PyTorch's kernel [out, in, height, width] -> [height, width, in, out]."""
    return array.transpose(2, 3, 1, 0)


def torch_dense(array: np.ndarray) -> np.ndarray:
    """PyTorch's weight [out, in] -> [in, out]."""
    return array.T


def torch_dense_after_flatten(channels: int, height: int, width: int) -> Transform:
    """A dense layer behind flattened maps: PyTorch's rows run over (channel, y, x), ours over (y, x, channel)."""

    def transform(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(array))

    return transform


def keras_depthwise(array: np.ndarray) -> np.ndarray:
    """Keras' depthwise kernel [height, width, channels, 1] -> [height, width, 1, channels]."""
    return array.transpose(0, 1, 3, 2)


@dataclasses.dataclass(frozen=True)
class Rule:
    r"""Where arrays with names of one form go.

    Attributes:
      source: regular expression that matches the whole published name.
      target: "params/stage/layer/kernel" or "batch_stats/…", with \1, \2 for the groups of `source`; "" for an array
        that this network has no use for (a counter, an auxiliary classifier): it is named here, and not used.
      transform: from the published layout to ours.
    """

    source: str
    target: str
    transform: Transform = same


def matching(tables: Sequence[tuple[Rule, ...]], names: Collection[str]) -> tuple[Rule, ...]:
    """The first table that has a place for each of these names; the first of all where none has."""
    for rules in tables:
        patterns = [re.compile(rule.source) for rule in rules]
        if all(any(pattern.fullmatch(name) for pattern in patterns) for name in names):
            return rules
    return tables[0]


# The rules of layers: `source` matches the name of the module or layer, `target` is its place below `params`.


def torch_layer(source: str, target: str, transform: Transform) -> tuple[Rule, ...]:
    """A PyTorch convolution or dense layer: its weight through `transform`, its bias where it has one."""
    return (
        Rule(rf"{source}\.weight", f"params/{target}/kernel", transform),
        Rule(rf"{source}\.bias", f"params/{target}/bias"),
    )


def torch_layer_norm(source: str, target: str) -> tuple[Rule, ...]:
    """PyTorch's layer norm."""
    return (Rule(rf"{source}\.weight", f"params/{target}/scale"), Rule(rf"{source}\.bias", f"params/{target}/bias"))


def torch_batch_norm(source: str, target: str) -> tuple[Rule, ...]:
    """PyTorch's batch norm."""
    return (
        *torch_layer_norm(source, target),
        Rule(rf"{source}\.running_mean", f"batch_stats/{target}/mean"),
        Rule(rf"{source}\.running_var", f"batch_stats/{target}/var"),
        Rule(rf"{source}\.num_batches_tracked", ""),
    )


def keras_layer(source: str, target: str, transform: Transform = same) -> tuple[Rule, ...]:
    """A Keras convolution or dense layer: kernel through `transform`, bias where it has one."""
    return (
        Rule(f"{source}/(?:depthwise_)?kernel", f"params/{target}/kernel", transform),
        Rule(f"{source}/bias", f"params/{target}/bias"),
    )


def keras_batch_norm(source: str, target: str) -> tuple[Rule, ...]:
    """Keras' batch norm."""
    return (
        Rule(f"{source}/gamma", f"params/{target}/scale"),
        Rule(f"{source}/beta", f"params/{target}/bias"),
        Rule(f"{source}/moving_mean", f"batch_stats/{target}/mean"),
        Rule(f"{source}/moving_variance", f"batch_stats/{target}/var"),
    )
