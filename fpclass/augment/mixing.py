"""Mixing of training images with each other: mixup and CutMix.

Unlike the operations of `fpclass.augment`, these see a batch. Its last rows may be padding, which no real row is mixed
with, and how many there are changes nothing: a batch gives the same images among larger ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from fpclass.config import Config

Mixing: TypeAlias = Callable[
    [Key[Array, ""], Float[Array, "b h w c"], Float[Array, "b k"], Float[Array, " b"]],
    tuple[Float[Array, "b h w c"], Float[Array, "b k"]],
]

# Address of each random choice below the key of a step. Never renumber.
_PARTNERS, _WHICH, _MIXUP, _CUTMIX = range(4)


def make_mixing(augment_config: Config) -> Mixing | None:
    """Makes `(key, images [B, H, W, C], targets [B, K], weights [B]) -> (images, targets)`; None where both are off.

    Every row is mixed with one other, in a proportion that is drawn once for the batch, as the authors of both do;
    where both are on, a batch gets either, with equal probability. The key is one per step; images are normalised;
    targets are the distributions that the loss compares with; a row of weight 0 is padding and comes back as it was.
    The weight of a row in the loss stays its own.
    """
    mixup_alpha, cutmix_alpha = augment_config.mixup_alpha, augment_config.cutmix_alpha
    if not mixup_alpha and not cutmix_alpha:
        return None

    def mix(key: Key[Array, ""], images: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        height, width = images.shape[1:3]
        mixup_key, cutmix_key = jax.random.fold_in(key, _MIXUP), jax.random.fold_in(key, _CUTMIX)
        if not cutmix_alpha:
            kept, share = draw_mixup(mixup_key, (height, width), mixup_alpha)
        elif not mixup_alpha:
            kept, share = draw_cutmix(cutmix_key, (height, width), cutmix_alpha)
        else:
            is_mixup = jax.random.bernoulli(jax.random.fold_in(key, _WHICH))
            one, other = (
                draw_mixup(mixup_key, (height, width), mixup_alpha),
                draw_cutmix(cutmix_key, (height, width), cutmix_alpha),
            )
            kept, share = jax.tree.map(lambda a, b: jnp.where(is_mixup, a, b), one, other)
        partners = draw_partners(jax.random.fold_in(key, _PARTNERS), weights > 0)
        kept = kept[:, :, None]
        return (
            kept * images + (1 - kept) * images[partners],
            share * targets + (1 - share) * targets[partners],
        )

    return mix


def draw_partners(key: Key[Array, ""], is_real: Bool[Array, " b"]) -> Int[Array, " b"]:
    """Draws the row that each row is mixed with: the next one in a random cyclic order of the real rows.

    A real row's partner is another real row (itself where there is only one), and is independent of the padding behind
    it; padding is its own partner.
    """
    rows = jnp.arange(len(is_real))
    # Every row draws its own number, so that the order of the real ones does not depend on how many rows there are.
    numbers = jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row)))(rows)
    _, _, order = lax.sort((~is_real, numbers, rows), num_keys=2)
    following = jnp.roll(order, -1).at[jnp.sum(is_real) - 1].set(order[0])
    return jnp.where(is_real, jnp.zeros_like(rows).at[order].set(following), rows)


def draw_mixup(
    key: Key[Array, ""], image_size: tuple[int, int], alpha: float
) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
    """Draws the share in [0, 1] that every pixel keeps, of Beta(alpha, alpha), alpha > 0; and the target's, the same.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    share = jax.random.beta(key, alpha, alpha)
    return jnp.full(image_size, share), share


def draw_cutmix(
    key: Key[Array, ""], image_size: tuple[int, int], alpha: float
) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
    """Draws the box that an image takes from its partner: of the image's shape, centred anywhere, cut at the border.

    Before it is cut, the share outside of it is of Beta(alpha, alpha), alpha > 0. Returned are the share that each
    pixel keeps, 0 or 1, and that of the target: the share of the pixels that are kept.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV
      2019.
    """
    share_key, place_key = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
    centres = jax.random.uniform(place_key, (2,))
    is_outside = jnp.zeros(image_size, bool)
    for axis, size in enumerate(image_size):
        length = jnp.floor(size * side)
        start = jnp.floor(size * centres[axis]) - jnp.floor(length / 2)
        pixels = jnp.expand_dims(jnp.arange(size), 1 - axis)
        is_outside |= (pixels < start) | (pixels >= start + length)
    kept = is_outside.astype(jnp.float32)
    return kept, kept.mean()
