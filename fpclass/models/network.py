"""Networks of named stages: what can be frozen, cut off, tapped and split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.layers import BatchNorm, Logits, stage
from fpclass.models.products import dense_product

HEAD = "head"
"""Name of the head beside the stages; as `finetune.freeze_before` it means that all of these are frozen."""
Path = tuple[str, ...]
"""Where a parameter lies, below `params`."""
OUTPUT = ":out"
"""Ends the name under which the output of a stage is recorded: Linen wants it to differ from the stage's own."""


@flax.struct.dataclass
class Mode:
    """How a stage is applied.

    Attributes:
      train: drop out, and let batch norm do what `batch_norm` says; otherwise evaluate.
      batch_norm: "train", "frozen_stats" or "frozen", see `layers.BatchNorm`.
      mask: rows that count in the batch statistics, bool [n]; None: all of them.
    """

    train: bool = flax.struct.field(pytree_node=False, default=False)
    batch_norm: str = flax.struct.field(pytree_node=False, default="train")
    mask: Bool[Array, " n"] | None = None


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Stages of a published network. A stage is a named module `(x, mode) -> x`.

    Attributes:
      features: from images [n, h, w, c] to the last maps [n, h2, w2, f] (transformers: tokens [n, t, f]).
      classifier: what the original puts between those and its last dense layer: pooling, dropout, hidden layers; from
        maps to vectors [n, f]. A head of our own takes its place.
      stem_kernel: path of the kernel that sees the image; grey images need a sum of it.
      min_size: (height, width) in pixels of the smallest image that it takes.
      patch_size: pixels of a token's side, where stages hold tokens; 0 where they hold maps.
      prefix_tokens: so many of them come before those of the patches: a class token, then registers.
      cam_stage: the stage that Grad-CAM looks at with the original's classifier; empty: the last of the features.
      resize: parameters whose shape follows from the image's, by their path below `params` joined by "/": what makes
        the published array fit images of (height, width) pixels.
    """

    features: tuple[nn.Module, ...]
    classifier: tuple[nn.Module, ...]
    stem_kernel: Path
    min_size: tuple[int, int] = (1, 1)
    patch_size: int = 0
    prefix_tokens: int = 0
    cam_stage: str = ""
    resize: Mapping[str, Callable[[np.ndarray, tuple[int, int]], np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """All stages in the order of the data flow."""
        return tuple(str(module.name) for module in (*self.features, *self.classifier))


class Network(nn.Module):
    """Stages one after the other, then the head.

    Parameters and statistics of a stage lie under its name, so that a part of the stages is a network of its own with
    a part of the variables: that is how prefixes are frozen and their features cached.

    Attributes:
      stages: named modules `(x, mode) -> x`.
      head: named module `(x, mode) -> logits`, where x is the output of the last stage, or of each of those that it
        names as its `stages`; None: the output of the last stage is the result.
      batch_norm: mode of every batch norm in training, see `layers.BatchNorm`; or "train_all": "train", in frozen
        stages too.
      num_frozen: so many leading stages run in evaluation mode also in training; but with "train_all" in training
        mode: that is how frozen backbones go wrong elsewhere, and has to be reproducible.
      remat: keep only the outputs of stages for the backward pass, and compute what is between them again.
      min_size, patch_size, prefix_tokens, stem_kernel: as in `Backbone`.
      cam_stage: the stage that Grad-CAM looks at unless told otherwise; "" where there is none.
      stem_of_images: makes this kernel of normalised training images, so that it is not drawn; None: it is drawn.
      input_stage: of a part of a network, the stage whose output it takes, which its head may read too.

    Stages: the names of `stages`.
    """

    preserve_adopted_names: ClassVar[bool] = True  # of Linen: modules handed in keep their names

    stages: tuple[nn.Module, ...]
    head: nn.Module | None = None
    batch_norm: str = "train"
    num_frozen: int = 0
    remat: bool = False
    min_size: tuple[int, int] = (1, 1)
    patch_size: int = 0
    prefix_tokens: int = 0
    cam_stage: str = ""
    stem_kernel: Path = ()
    stem_of_images: Callable[[Array], Array] | None = None
    input_stage: str = ""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages in order, without the head."""
        return tuple(str(module.name) for module in self.stages)

    @property
    def hidden_dense(self) -> tuple[Path, ...]:
        """Paths, below `params`, of the kernels of the head's hidden dense layers."""
        return tuple((HEAD, *path) for path in self.head.hidden_dense) if isinstance(self.head, DenseHead) else ()

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool, mask: Bool[Array, " n"] | None = None) -> Array:
        """Computes logits [n, k], or the output of the last stage where there is no head.

        Args:
          x: normalised images, or what the stage before the first one of this network gives.
          train: whether to drop out (needs the rng `dropout`) and to let batch norm do what its mode says.
        """
        is_everywhere = self.batch_norm == "train_all"
        mode = Mode(train, "train" if is_everywhere else self.batch_norm, mask)
        frozen_mode = mode if is_everywhere else dataclasses.replace(mode, train=False)
        apply = nn.remat(_apply) if self.remat else _apply
        read: dict[str, Any] = dict.fromkeys(getattr(self.head, "stages", ()))
        if self.input_stage in read:
            read[self.input_stage] = x
        for i, module in enumerate(self.stages):
            x = apply(module, x, frozen_mode if i < self.num_frozen else mode)
            x = stage(self, f"{module.name}{OUTPUT}", x)
            if module.name in read:
                read[module.name] = x
        if self.head is None:
            return x
        return self.head(list(read.values()) or x, mode)

    def prefix(self, num_stages: int) -> Network:
        """The first stages as a network of their own, without a head."""
        return self.clone(stages=self.stages[:num_stages], head=None, num_frozen=min(self.num_frozen, num_stages))

    def suffix(self, num_stages: int) -> Network:
        """What comes after the first stages, as a network that takes their output."""
        input_stage = self.stage_names[num_stages - 1] if num_stages else self.input_stage
        num_frozen = max(0, self.num_frozen - num_stages)
        return self.clone(stages=self.stages[num_stages:], num_frozen=num_frozen, input_stage=input_stage)


def _apply(module: nn.Module, x: Array, mode: Mode) -> Array:
    return module(x, mode)  # pyright: ignore[reportCallIssue]


def stages_before(names: Sequence[str], until: str, key: str) -> int:
    """How many stages come before `until`, which is named in full or by its beginning ("layer3" is "layer3_0", …).

    Raises:
      ConfigError: no such stage; lists those that exist.
    """
    for i, name in enumerate(names):
        if name == until or name.startswith(f"{until}_"):
            return i
    raise ConfigError(f"{key} is {until!r}: the network's stages are {', '.join(names)}")


def stages_through(names: Sequence[str], last: str, key: str) -> int:
    """How many stages there are up to and with one, which is named as for `stages_before`.

    Raises:
      ConfigError: no such stage; lists those that exist.
    """
    first = stages_before(names, last, key)
    matching = [name == last or name.startswith(f"{last}_") for name in names[first:]]
    return first + (matching.index(False) if False in matching else len(matching))


def split_variables(variables: dict[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divides params and batch_stats into those of the named stages, and the rest."""
    chosen = {kind: {k: v for k, v in tree.items() if k in names} for kind, tree in variables.items()}
    rest = {kind: {k: v for k, v in tree.items() if k not in names} for kind, tree in variables.items()}
    return chosen, rest


def batch_norm(x: Array, mode: Mode, name: str, **options: Any) -> Array:
    """Batch norm inside a stage, applied as the stage is; options are those of `layers.BatchNorm`."""
    return BatchNorm(mode.batch_norm, name=name, **options)(x, train=mode.train, mask=mode.mask)


class GlobalPool(nn.Module):
    """Average over the places of maps (or over tokens): [n, h, w, f] -> [n, f]."""

    @nn.compact
    def __call__(self, x: Float[Array, "n *places f"], mode: Mode) -> Float[Array, "n f"]:
        return x.mean(axis=tuple(range(1, x.ndim - 1)))


class Dropout(nn.Module):
    """Dropout as a stage."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, mode: Mode) -> Array:
        return nn.Dropout(self.rate, deterministic=not mode.train)(x)


class DenseHead(nn.Module):
    """A classifier of our own on the last features.

    Attributes:
      pool: "gap" (average over places), "moments" (average and standard deviation: also how much a feature varies over
        the image, as of a texture), "flatten", or "none" (the input is a vector already).
      dense_features: width of each hidden layer, with ReLU.
      dropout_rate: after every hidden layer; where there is none, before the one dense layer.
      output, subclasses: see `layers.Logits`.
      num_registers: tokens behind the first one that stand for nothing in the image, and are left out.
    """

    num_classes: int
    pool: str = "gap"
    dense_features: tuple[int, ...] = ()
    dropout_rate: float = 0.0
    output: str = "softmax"
    subclasses: tuple[int, ...] = ()
    num_registers: int = 0

    @property
    def hidden_dense(self) -> tuple[Path, ...]:
        """Paths, below the head, of the kernels of the hidden layers."""
        return hidden_dense(self.dense_features)

    @nn.compact
    def __call__(self, x: Float[Array, "n *places f"], mode: Mode) -> Float[Array, "n k"]:
        places = tuple(range(1, x.ndim - 1))
        if self.num_registers and x.ndim == 3:
            x = jnp.concatenate([x[:, :1], x[:, 1 + self.num_registers :]], axis=1)
        if self.pool == "gap":
            x = x.mean(axis=places)
        elif self.pool == "moments":
            x = moments(x)
        elif self.pool == "flatten":
            x = x.reshape(x.shape[0], -1)
        drop = nn.Dropout(self.dropout_rate, deterministic=not mode.train)
        for i, features in enumerate(self.dense_features, start=1):
            init = nn.initializers.he_normal()
            x = drop(nn.relu(nn.Dense(features, kernel_init=init, dot_general=dense_product, name=f"dense{i}")(x)))
        if not self.dense_features:
            x = drop(x)
        init = nn.initializers.lecun_normal()
        return Logits(self.num_classes, self.output, self.subclasses, init, name="logits")(x, train=mode.train)


def moments(x: Float[Array, "n *places f"]) -> Float[Array, "n f2"]:
    """Averages over the places of maps (or over tokens), then standard deviations: [n, 2 f]."""
    places = tuple(range(1, x.ndim - 1))
    # Not of nothing: the root has no derivative at 0.
    return jnp.concatenate([x.mean(axis=places), jnp.sqrt(x.var(axis=places) + 1e-6)], axis=-1)


def hidden_dense(dense_features: Sequence[int]) -> tuple[Path, ...]:
    """Paths of the kernels of hidden dense layers of these widths."""
    return tuple((f"dense{i}", "kernel") for i in range(1, len(dense_features) + 1))


def dense_head(model_config: Config, num_classes: int, pool: str, num_registers: int = 0) -> DenseHead:
    """The head that the section `model` of a config describes; `pool` and `num_registers` as in `DenseHead`."""
    return DenseHead(
        num_classes,
        pool,
        tuple(model_config.dense_features),
        model_config.dropout_rate,
        model_config.output,
        num_registers=num_registers,
        name=HEAD,
    )


def variable_shapes(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shapes of everything that a network has, for images of (height, width, channels), without computing any of it."""
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
