"""Networks of the user's own: any Linen module that takes images and `train`, called as the others are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from fpclass.common.extension import bare, call, load
from fpclass.config import Config, base_config
from fpclass.errors import ConfigError
from fpclass.models.architecture import Architecture
from fpclass.models.convolution import convolution
from fpclass.models.depthwise import depthwise
from fpclass.models.network import Network

KEY = "model.name"
READ = ("name", "compute_dtype")
"""Keys of `model` that say something of any network; what the user's own is made of, its function says."""
KINDS = {"params", "batch_stats", "stages", "perturbations"}
"""Collections of variables that training keeps, and those that explaining asks for."""


class OwnNetwork(nn.Module):
    """A module `(x, train) -> logits [n, k]` as training calls networks; its parameters stay where they are.

    Attributes:
      module: takes images, normalised, [n, h, w, c], and `train`; perhaps `mask`, bool [n], the rows that count.
    """

    module: nn.Module

    def setup(self) -> None:
        """The module's variables are those of this one."""
        nn.share_scope(self, self.module)

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, mask: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n k"]:
        """Computes logits; rows where `mask` is False do not count in the statistics of `nn.BatchNorm`.

        On a CPU an `nn.Conv` has the gradients of `models.convolution`.
        """
        options = {"mask": mask} if "mask" in inspect.signature(type(self.module).__call__).parameters else {}

        def ours(function: Any, args: Any, kwargs: dict[str, Any], context: Any) -> Any:
            is_norm = isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__"
            if type(context.module) is nn.Conv and context.module.conv_general_dilated is None:
                object.__setattr__(context.module, "conv_general_dilated", convolve)
            if is_norm and mask is not None and args and len(args[0]) == len(mask):
                # Of a part that is nothing but padding nothing is kept; all of it, so that nothing is divided by 0.
                rows = jnp.reshape(mask | ~jnp.any(mask), (-1, *[1] * (args[0].ndim - 1)))
                kwargs = {"mask": rows} | kwargs
            return function(*args, **kwargs)

        with nn.intercept_methods(ours):
            return self.module(x, train=train, **options)  # pyright: ignore[reportCallIssue]


def convolve(
    x: Array, kernel: Array, strides: Sequence[int], padding: Any, *, precision: Any = None, **options: Any
) -> Array:
    """`lax.conv_general_dilated` as `nn.Conv` calls it; on a CPU, where it can be had, at a thirtieth of the time.

    The gradients of XLA's own are that slow there within a compiled loop: see `models.convolution`.
    """
    groups = options.get("feature_group_count", 1)
    dilations = [*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())]
    is_plain = jax.default_backend() == "cpu" and x.ndim == 4 and len(set(strides)) == 1 and set(dilations) <= {1}
    if not is_plain or precision is not None or groups not in (1, x.shape[-1]) or 1 < groups != kernel.shape[-1]:
        return lax.conv_general_dilated(x, kernel, strides, padding, precision=precision, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    function = convolution if groups == 1 else depthwise
    return function(x, kernel, strides[0], ((top, bottom), (left, right)))


def declaration(name: str) -> Architecture:
    """What is declared of a network that a function of the user's builds; of `model` it reads no more than `READ`."""
    unread = tuple(key for key in base_config().model if key not in READ)
    return Architecture(bare(name), lambda config, classes, size: build(name, config, classes, size), unread)


def build(name: str, _: Config, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """The network that `function(num_classes=K)` gives: a `Network` of stages as it is, any other Linen module wrapped.

    Raises:
      ConfigError: no such function, one that raises something, or that gives no Linen module.
    """
    module = call(load(name, KEY), name, KEY, num_classes=num_classes)
    if isinstance(module, Network):
        return module
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{KEY}={bare(name)}: gave a {type(module).__name__}; return a flax.linen.Module")
    return OwnNetwork(module.clone(parent=None))


def check(model: nn.Module, name: str, num_classes: int, image_shape: tuple[int, int, int]) -> None:
    """Traces a network of the user's as training and prediction call it, for images (height, width, channels).

    Raises:
      ConfigError: it raises something, gives other than logits [n, K], or has variables that training does not keep.
    """
    images, where = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32), f"{KEY}={bare(name)}"

    def start(images: Array) -> dict[str, Any]:
        return dict(model.init(jax.random.key(0), images, train=False))

    variables = call(jax.eval_shape, name, KEY, start, images)
    if more := variables.keys() - KINDS:
        found = ", ".join(sorted(more))
        raise ConfigError(f"{where}: keeps variables in {found}; training keeps params and batch_stats")

    def both_ways(kept: Any, images: Array) -> Any:
        options: Any = {"rngs": {"dropout": jax.random.key(1)}, "mutable": ["batch_stats"]}
        in_training, _ = model.apply(kept, images, train=True, mask=jnp.ones(len(images), bool), **options)
        return in_training, model.apply(kept, images, train=False)

    kept = {kind: variables.get(kind, {}) for kind in ("params", "batch_stats")}
    for output in call(jax.eval_shape, name, KEY, both_ways, kept, images):
        met = getattr(output, "shape", None)
        if met != (2, num_classes) or not jnp.issubdtype(output.dtype, jnp.floating):
            raise ConfigError(
                f"{where}: gives {met} of 2 images and {num_classes} classes; return logits, one per class"
            )
