"""Inputs of a network from rows of a data set: normalised and augmented images, or cached features.

`feature_cache` computes the features of frozen stages once; `streaming` has images on disk, a window at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from fpclass.augment.compose import make_augment_batch
from fpclass.augment.intensity import normalise
from fpclass.common.parallel import BATCH
from fpclass.config import Config
from fpclass.train.keys import augmentation_keys, mirrored_in, view_in, view_keys
from fpclass.train.state import Dataset, Inputs, Member


def image_inputs(config: Config) -> Inputs:
    """Images, augmented in training as the config says."""
    mean, std = config.data.mean, config.data.std
    augment = make_augment_epoch(config)

    def draw(member: Member, epoch: Int[Array, ""], dataset: Dataset, rows: Int[Array, " B"]) -> Array:
        return augment(member.seed, epoch, rows, dataset.images[rows], dataset.labels[rows])

    return Inputs(
        draw=draw,
        plain=lambda images, rows: normalise(images[rows], mean, std),
        shape=lambda dataset: dataset.images.shape[1:],
    )


def spread(inputs: Inputs, mesh: Mesh | None) -> Inputs:
    """The same inputs, of which each device of a mesh with the axis "batch" makes its own share; None: one device."""
    if mesh is None:
        return inputs
    sharding = NamedSharding(mesh, PartitionSpec(BATCH))

    def shard(batch: Array) -> Array:
        return lax.with_sharding_constraint(batch, sharding)

    return dataclasses.replace(
        inputs,
        draw=lambda member, epoch, dataset, rows: shard(inputs.draw(member, epoch, dataset, shard(rows))),
        plain=lambda images, rows: shard(inputs.plain(images, shard(rows))),
        shard=shard,
        num_devices=mesh.size,
    )


def make_augment_epoch(config: Config) -> Callable[..., Array]:
    """Makes `(seed, epoch, rows [B], images [B, H, W, C], labels [B]) -> images`, as training takes them then."""
    augment = make_augment_batch(config.augment, mean=config.data.mean, std=config.data.std)
    num_views = config.augment.fixed_views

    def augment_epoch(
        seed: Int[Array, ""] | int, epoch: Int[Array, ""], rows: Int[Array, " B"], images: Array, labels: Array
    ) -> Array:
        if config.augment.flip_alternates:
            is_mirrored = mirrored_in(seed, epoch, rows)
            images = jnp.where(is_mirrored[:, None, None, None], images[:, :, ::-1], images)
        if num_views:  # those that cached features are of
            return augment(view_keys(view_in(epoch, rows, num_views), rows), images, labels)
        return augment(augmentation_keys(seed, epoch, rows), images, labels)

    return augment_epoch


def feature_inputs() -> Inputs:
    """Cached features [N, views, …]: in training the augmented views in turn, in evaluation the plain one."""

    def draw(member: Member, epoch: Int[Array, ""], dataset: Dataset, rows: Int[Array, " B"]) -> Array:
        num_views = dataset.images.shape[1] - 1
        return dataset.images[rows, view_in(epoch, rows, num_views) if num_views else 0]

    return Inputs(
        draw=draw,
        plain=lambda features, rows: features[rows, 0],
        shape=lambda dataset: dataset.images.shape[2:],
        are_images=False,
    )
