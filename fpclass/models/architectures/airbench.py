"""A network for 32 x 32 photographs that learns in a few epochs, behind a first layer that whitens patches.

Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498 (the network and what each part of it
is worth); Page, How to Train Your ResNet, 2018 (the whitening layer).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.architecture import Architecture
from fpclass.models.layers import Conv, stage
from fpclass.models.network import Mode, Network, batch_norm, dense_head
from fpclass.models.pooling import max_pool

PATCH = 2
"""Side of the patches that are whitened, pixels."""


class Whiten(nn.Module):
    """Convolution with the kernels of `whitening_kernel`, which are made of images and not drawn; then GELU."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Float[Array, "n h2 w2 f"]:
        features = 2 * PATCH**2 * x.shape[-1]
        return nn.gelu(Conv(features, (PATCH, PATCH), use_bias=True, name="conv")(x))


class Group(nn.Module):
    """Convolution, 2x2 max-pool (drops a last odd row or column), batch norm, GELU; convolution, batch norm, GELU.

    Stages: gelu1, gelu2.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], mode: Mode) -> Float[Array, "n h2 w2 f"]:
        # Without scale: the next convolution has one. Statistics that move fast suit a training of few epochs.
        options = {"use_scale": False, "momentum": 0.6}
        x = max_pool(Conv(self.features, padding=1, kernel_init=identity_first, name="conv1")(x), 2, 2)
        x = stage(self, "gelu1", nn.gelu(batch_norm(x, mode, "batch_norm1", **options)))
        x = Conv(self.features, padding=1, kernel_init=identity_first, name="conv2")(x)
        return stage(self, "gelu2", nn.gelu(batch_norm(x, mode, "batch_norm2", **options)))


class MaxPlaces(nn.Module):
    """Maximum over the places of maps, scaled so that logits begin small: [n, h, w, f] -> [n, f]."""

    scale: float = 1 / 9

    @nn.compact
    def __call__(self, x: Float[Array, "n h w f"], mode: Mode) -> Float[Array, "n f"]:
        return x.max(axis=(1, 2)) * self.scale


def identity_first(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Kernels whose first ones pass an input channel through, each; the others are drawn.

    Source: torch.nn.init.dirac_ on the first input-channels filters, as airbench has it; the others uniform in
    ± 1 / sqrt(fan-in), PyTorch's default of convolutions.
    """
    height, width, inputs, outputs = shape
    bound = 1 / np.sqrt(height * width * inputs)
    kernel = jax.random.uniform(key, shape, dtype, -bound, bound)
    passed = min(inputs, outputs)
    dirac = jnp.zeros((height, width, inputs, passed), dtype).at[height // 2, width // 2].set(jnp.eye(inputs, passed))
    return kernel.at[..., :passed].set(dirac)


def whitening_kernel(images: Float[Array, "n h w c"], epsilon: float = 5e-4) -> Float[Array, "p p c f"]:
    """Kernels [2, 2, C, 8 C] that make the patches of these normalised images white, and their negatives.

    They are the eigenvectors of the covariance of all patches, each divided by the square root of its variance, to
    which `epsilon` is added so that directions of next to no variance are not blown up; then the same negated.
    """
    channels = images.shape[-1]
    patches = jnp.stack(
        [
            images[:, i : images.shape[1] - PATCH + 1 + i, j : images.shape[2] - PATCH + 1 + j]
            for i in range(PATCH)
            for j in range(PATCH)
        ],
        axis=3,
    ).reshape(-1, PATCH**2 * channels)
    covariance = jnp.matmul(patches.T, patches, precision=lax.Precision.HIGHEST) / len(patches)
    variances, directions = jnp.linalg.eigh(covariance)
    white = directions / jnp.sqrt(variances + epsilon)
    return jnp.concatenate([white, -white], axis=1).reshape(PATCH, PATCH, channels, -1)


def build(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> Network:
    """The network of airbench: whitened patches, groups of two convolutions, the maximum over places.

    Raises:
      ConfigError: images too small for the groups.
    """
    features = tuple(model_config.conv_features)
    smallest = 2 ** len(features) + 1
    if min(image_size) < smallest:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(features)} groups of "
            f"model.conv_features, each of which halves it; at least {smallest} pixels"
        )
    groups = (Group(width, name=f"group{i}") for i, width in enumerate(features, start=1))
    return Network(
        stages=(Whiten(name="whiten"), *groups, MaxPlaces(name="max")),
        head=dense_head(model_config, num_classes, pool="none"),
        min_size=(smallest, smallest),
        cam_stage=f"group{len(features)}/gelu2",
        stem_kernel=("whiten", "conv", "kernel"),
        stem_of_images=whitening_kernel,
    )


UNREAD = (
    *("variant", "weights", "last_stage", "head", "dense_features", "dropout_rate", "dense_l2"),
    *("kernel_size", "convs_per_block", "block_dropout_rate", "batch_norm", "squeeze_excitation", "conv_form"),
)

ARCHITECTURES = (Architecture("airbench", build, UNREAD),)
